# Interval-censored Weibull regression and time-varying Cox regression. Run from this folder: Rscript make.R
source("../common.R"); suppressMessages(library(survival))
d <- input("registry"); d$event <- as.integer(d$cause > 0)
# Seen every six months: progression (cause 1) lies between two visits, death (cause 2) is exact.
d$upper <- ifelse(d$cause == 1, 6 * ceiling(d$time / 6), ifelse(d$cause == 2, d$time, Inf)); d$lower <- ifelse(d$cause == 1, 6 * (ceiling(d$time / 6) - 1), d$time)
iv <- function(f) { environment(f) <- environment(); m <- survreg(f, d, dist = "weibull", control = survreg.control(rel.tolerance = 1e-13, maxiter = 200)); k <- length(coef(m)); v <- vcov(m); s <- m$scale
  list(log_hr = unname(-coef(m)[-1] / s), se = sapply(2:k, function(i) { g <- c(-1 / s, coef(m)[i] / s); sqrt(drop(g %*% v[c(i, k + 1), c(i, k + 1)] %*% g)) }), shape = 1 / s, loglik = m$loglik[2]) }
d$lower[d$lower == 0] <- NA  # survreg writes an interval from 0 so
# The score is taken again at 12 and 24 months (a made-up rise), carried forward in between.
r <- do.call(rbind, lapply(seq_len(nrow(d)), function(i) { cut <- c(0, 12, 24, Inf); k <- cut[cut < d$time[i]]; n <- length(k)
  data.frame(patient = i, start = k, stop = c(k[-1], d$time[i]), event = c(rep(0, n - 1), d$event[i]), age = d$age[i], score = d$lesion[i] + c(0, 2, 3)[1:n] * ((i %% 4)[1])) }))
m <- coxph(Surv(start, stop, event) ~ score + age, r, control = coxph.control(eps = 1e-12, toler.chol = 1e-13)); m2 <- coxph(Surv(start, ceiling(stop), event) ~ score, r, control = coxph.control(eps = 1e-12, toler.chol = 1e-13))
tv <- function(m) list(beta = unname(coef(m)), se = unname(sqrt(diag(vcov(m)))), loglik = m$loglik[2])
save_golden(list(interval = list(one = iv(Surv(lower, upper, type = "interval2") ~ lesion), two = iv(Surv(lower, upper, type = "interval2") ~ lesion + age)), varying = tv(m), varying_ties = tv(m2)), "survival")
