# Aalen-Johansen, cause-specific Cox and Fine-Gray. Run from this folder: Rscript make.R
source("../common.R"); suppressMessages({library(survival); library(cmprsk)})
d <- input("registry")
aj <- function(t, at, k) { s <- summary(survfit(Surv(t, factor(d$cause, 0:2, c("c", "a", "b"))) ~ 1, conf.type = "log-log"), times = at)
  j <- which(s$states == k); list(p = s$pstate[, j], se = s$std.err[, j], low = s$lower[, j], high = s$upper[, j]) }
fg <- function(t, c, f = 1) { m <- crr(t, d$cause, as.matrix(d[, c]), failcode = f, gtol = 1e-12, maxiter = 50); list(beta = unname(m$coef), se = sqrt(diag(m$var)), loglik = m$loglik, null = m$loglik.null) }
cs <- coxph(Surv(month, cause == 1) ~ lesion + age, d, control = coxph.control(eps = 1e-12, toler.chol = 1e-13))
p <- input("pbc"); pf <- crr(p$time, p$status, as.matrix(cbind(p$age, log(p$bili))), failcode = 2, cencode = 0, gtol = 1e-12, maxiter = 50)
save_golden(list(
  aj_exact = aj(d$time, c(6, 12, 24), "a"), aj_tied = aj(d$month, c(6, 12, 24), "a"), aj_other = aj(d$month, c(6, 12, 24), "b"),
  cause_specific = list(beta = unname(coef(cs)), se = sqrt(diag(unname(vcov(cs))))),
  fg_exact = fg(d$time, c("lesion", "age")), fg_tied = fg(d$month, c("lesion", "age")), fg_other = fg(d$time, c("age"), 2),
  fg_pbc = list(beta = unname(pf$coef), se = sqrt(diag(pf$var)))
), c("survival", "cmprsk"))
