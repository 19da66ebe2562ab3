# Stratified and clustered Cox regression, and tests of interaction. Run from this folder: Rscript make.R
source("../common.R"); suppressMessages(library(survival))
d <- input("registry"); d$event <- as.integer(d$cause > 0); d$site <- (seq_len(nrow(d)) * 7) %% 12; d$old <- as.integer(d$age >= 66); d$tens <- d$lesion / 10
ctl <- coxph.control(eps = 1e-12, toler.chol = 1e-13); one <- function(m) { s <- summary(m)$coefficients; list(beta = unname(coef(m)), se = unname(sqrt(diag(vcov(m))))) }
a <- coxph(Surv(time, event) ~ tens * old, d, control = ctl); b <- coxph(Surv(time, event) ~ tens + old, d, control = ctl)
save_golden(list(stratified = one(coxph(Surv(time, event) ~ lesion + age + strata(site), d, control = ctl)), clustered = one(coxph(Surv(time, event) ~ lesion + age, d, cluster = site, control = ctl)),
  interaction_p = pchisq(2 * (a$loglik[2] - b$loglik[2]), 1, lower.tail = FALSE),
  subgroups = lapply(0:1, function(k) one(coxph(Surv(time, event) ~ tens, d[d$old == k, ], control = ctl)))), "survival")
