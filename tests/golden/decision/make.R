# Net benefit at a given prevalence, and by Kaplan-Meier under censoring. Run from this folder: Rscript make.R
source("../common.R"); suppressMessages(library(survival))
d <- input("registry"); d$event <- as.integer(d$cause > 0); at <- c(.1, .2, .3, .4); odds <- at / (1 - at)
given <- sapply(seq_along(at), function(k) { pos <- d$risk >= at[k]; sens <- mean(pos[d$outcome == 1]); spec <- mean(!pos[d$outcome == 0]); sens * .15 - (1 - spec) * .85 * odds[k] })
# Vickers et al. 2008: share positive times Kaplan-Meier risk of the positive by 24 months.
km <- function(f) 1 - summary(survfit(f, d), times = 24, extend = TRUE)$surv
surv <- sapply(seq_along(at), function(k) { pos <- d$risk >= at[k]; p <- mean(pos); f <- 1 - summary(survfit(Surv(time, event) ~ 1, d[pos, ]), times = 24)$surv; p * f - p * (1 - f) * odds[k] })
all <- km(Surv(time, event) ~ 1); save_golden(list(thresholds = at, prevalence = .15, given = given, given_all = .15 - .85 * odds, survival = surv, survival_all = all - (1 - all) * odds), "survival")
