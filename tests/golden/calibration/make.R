# Calibration by rms::val.prob and by offsets. Run from this folder: Rscript make.R
source("../common.R"); suppressMessages({library(rms); library(survival)})
d <- input("registry"); d$event <- as.integer(d$cause > 0)
v <- val.prob(d$risk, d$outcome, pl = FALSE)
l <- qlogis(d$risk); big <- glm(outcome ~ offset(l), binomial, d, epsilon = 1e-14); sl <- glm(outcome ~ l, binomial, d, epsilon = 1e-14)
smooth <- lowess(d$risk, d$outcome, f = 2/3, iter = 0, delta = 0); o <- order(d$risk)
gap <- abs(pmin(1, pmax(0, approx(smooth, xout = d$risk, ties = mean)$y)) - d$risk)
w <- log(-log(1 - d$risk)); m <- coxph(Surv(month, event) ~ w, d, control = coxph.control(eps = 1e-12, toler.chol = 1e-13))
k <- rcspline.eval(w, nk = 4, knots.only = TRUE)
B <- rcspline.eval(w, knots = k, inclx = TRUE); mm <- coxph(Surv(month, event) ~ B, d, ties = "efron", control = coxph.control(eps = 1e-12, toler.chol = 1e-13))
# Breslow's baseline with Efron's coefficients, read at 24 months.
lp <- drop(B %*% coef(mm)); h <- sum(sapply(which(d$event == 1 & d$month <= 24), function(i) 1 / sum(exp(lp[d$month >= d$month[i]])))); s <- 1 - exp(-h * exp(lp))
save_golden(list(
  val_prob = as.list(v), slope = list(beta = unname(coef(sl)[2]), se = sqrt(vcov(sl)[2, 2])), large = list(beta = unname(coef(big)), se = sqrt(vcov(big)[1, 1])),
  lowess = list(ici = mean(gap), e50 = unname(quantile(gap, .5)), e90 = unname(quantile(gap, .9)), emax = max(gap)),
  cox = list(slope = unname(coef(m)), se = sqrt(vcov(m)[1, 1]), ici = mean(abs(s - d$risk)), emax = max(abs(s - d$risk)), observed = 1 - summary(survfit(Surv(month, event) ~ 1, d), times = 24)$surv)
), c("rms", "survival"))
