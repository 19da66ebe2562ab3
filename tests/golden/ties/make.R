# Times that differ by rounding, and patients censored exactly at the horizon. Run from this folder: Rscript make.R
source("../common.R"); suppressMessages(library(survival))
month <- function(week) week * 7 / (365.25 / 12)
set.seed(15); n <- 80; first <- sample(-5:30, n, TRUE); length <- sample(2:30, n, TRUE)
time <- month(first + length) - month(first)   # equal lengths in weeks differ in the last digits
event <- rbinom(n, 1, 0.6); x <- round(rnorm(n), 2); group <- as.integer(x > 0); status <- ifelse(event == 1, sample(1:2, n, TRUE, c(3, 1)), 0)
m <- coxph(Surv(time, event) ~ x + group, control = coxph.control(eps = 1e-12, toler.chol = 1e-13)); s <- survdiff(Surv(time, event) ~ group)
aj <- survfit(Surv(time, factor(status)) ~ 1); km <- survfit(Surv(time, event) ~ 1)
# Censorings moved by half of the smallest step: events come first, and who was censored at the horizon was free of the event there.
d <- input("registry"); e <- as.integer(d$cause > 0); moved <- d$month + 0.5 * (e == 0)
at <- function(horizon) {
  g <- survfit(Surv(moved, 1 - e) ~ 1); G <- stepfun(g$time, c(1, g$surv))
  case <- e == 1 & moved <= horizon; free <- moved > horizon; w <- ifelse(case, 1 / G(moved - 0.25), 0)
  pair <- function(v) outer(v[case], v[free], function(a, b) (a > b) + 0.5 * (a == b))
  list(censored_there = sum(e == 0 & d$month == horizon), brier = mean(w * (1 - d$risk)^2 + free * d$risk^2 / G(horizon)),
       auc = sum(w[case] * pair(d$lesion)) / (sum(w[case]) * sum(free)))
}
save_golden(list(
  data = data.frame(first, length, event, status, x, group), distinct = c(raw = length(unique(time)), fixed = length(unique(aeqSurv(Surv(time, event))[, 1]))),
  km = list(median = unname(summary(km)$table["median"]), steps = length(km$time)), logrank = s$chisq,
  cox = list(beta = unname(coef(m)), se = unname(sqrt(diag(vcov(m)))), loglik = m$loglik[2]),
  concordance = concordance(Surv(time, event) ~ x, reverse = TRUE)$concordance,
  incidence = list(time = 4.5, progression = summary(aj, times = 4.5)$pstate[2], death = summary(aj, times = 4.5)$pstate[3]),
  horizon = list(h11 = at(11), h12 = at(12), h13 = at(13), h36 = at(36))
), "survival")
