# Kaplan-Meier, log-rank, Cox, proportional hazards, restricted means. Run from this folder: Rscript make.R
source("../common.R"); suppressMessages(library(survival))
lung <- input("lung"); ovarian <- input("ovarian"); veteran <- input("veteran"); pbc <- input("pbc"); d <- input("registry")
km <- function(t, e, at, type) { s <- summary(survfit(Surv(t, e) ~ 1, conf.type = type), times = at)
  list(surv = s$surv, se = s$std.err, low = s$lower, high = s$upper, risk = s$n.risk) }
med <- function(t, e, type) unname(summary(survfit(Surv(t, e) ~ 1, conf.type = type))$table[c("median", "0.95LCL", "0.95UCL")])
lr <- function(f, data) { s <- survdiff(f, data); list(chisq = s$chisq, obs = s$obs, exp = s$exp, p = pchisq(s$chisq, length(s$obs) - 1, lower.tail = FALSE)) }
cox <- function(f, data) { environment(f) <- environment(); m <- coxph(f, data, control = coxph.control(eps = 1e-12, toler.chol = 1e-13, iter.max = 50)); s <- summary(m); ci <- confint(m)
  z <- lapply(c("km", "identity", "rank"), function(k) unname(cox.zph(m, k)$table)); z <- c(z, list(unname(cox.zph(m, log)$table)))
  names(z) <- c("km", "identity", "rank", "log")
  list(beta = unname(coef(m)), se = unname(s$coefficients[, "se(coef)"]), hr = unname(exp(coef(m))), ci = unname(exp(ci)), p = unname(s$coefficients[, "Pr(>|z|)"]),
       loglik = m$loglik, lr = unname(s$logtest["test"]), wald = unname(m$wald.test), score = unname(s$sctest["test"]),
       concordance = unname(s$concordance), zph = z) }
pred <- function(f, data, rows, at) { environment(f) <- environment(); m <- coxph(f, data, control = coxph.control(eps = 1e-12, toler.chol = 1e-13), x = TRUE, model = TRUE); s <- summary(survfit(m, newdata = data[rows, ], conf.type = "log-log"), times = at)
  list(risk = 1 - as.numeric(s$surv), low = 1 - as.numeric(s$upper), high = 1 - as.numeric(s$lower)) }
mean_to <- function(t, e, tau) { q <- summary(survfit(Surv(t, e) ~ 1), rmean = tau)$table; unname(q[c("rmean", "se(rmean)")]) }
lung$event <- lung$status - 1; d$event <- as.integer(d$cause > 0)
save_golden(list(
  km_lung_loglog = km(lung$time, lung$event, c(100, 365, 730), "log-log"), km_lung_log = km(lung$time, lung$event, c(100, 365, 730), "log"),
  km_lung_plain = km(lung$time, lung$event, c(100, 365, 730), "plain"), km_registry = km(d$month, d$event, c(6, 12, 24), "log-log"),
  km_veteran = km(veteran$time, veteran$status, c(30, 90, 180), "log-log"),
  median_lung = med(lung$time, lung$event, "log-log"), median_veteran = med(veteran$time, veteran$status, "log-log"),
  logrank_lung = lr(Surv(time, event) ~ sex, lung), logrank_ovarian = lr(Surv(futime, fustat) ~ rx, ovarian),
  logrank_veteran = lr(Surv(time, status) ~ cell, transform(veteran, cell = squamous + 2 * smallcell + 3 * adeno)), logrank_pbc = lr(Surv(time, status == 2) ~ edema, pbc),
  cox_lung = cox(Surv(time, event) ~ age + sex + ph.ecog, lung), cox_ovarian = cox(Surv(futime, fustat) ~ age + rx, ovarian),
  cox_veteran = cox(Surv(time, status) ~ trt + karno + squamous + smallcell + adeno, veteran),
  cox_pbc = cox(Surv(time, status == 2) ~ age + edema + log(bili) + log(albumin) + log(protime), pbc),
  cox_registry = cox(Surv(month, event) ~ lesion + age, d),
  predict_lung = pred(Surv(time, event) ~ age + sex + ph.ecog, lung, 1:4, 365), predict_registry = pred(Surv(month, event) ~ lesion + age, d, 1:4, 24),
  rmst = list(lung = mean_to(lung$time, lung$event, 365), rx1 = mean_to(ovarian$futime[ovarian$rx == 1], ovarian$fustat[ovarian$rx == 1], 600),
              rx2 = mean_to(ovarian$futime[ovarian$rx == 2], ovarian$fustat[ovarian$rx == 2], 600))
), "survival")
