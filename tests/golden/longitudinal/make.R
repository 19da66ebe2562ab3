# Linear mixed models with random intercept and slope. Run from this folder: Rscript make.R
source("../common.R"); suppressMessages({library(nlme); library(lme4)})
d <- input("fvc"); d$years <- d$months / 12; d$tens <- d$score / 10; d$high <- as.integer(d$score >= 25)
pack <- function(m, l) { v <- VarCorr(l)[[1]]
  list(beta = unname(fixef(m)), se = unname(sqrt(diag(vcov(m)))), loglik = as.numeric(logLik(m)),
       sd = unname(attr(v, "stddev")), correlation = unname(attr(v, "correlation")[1, 2]), sigma = sigma(m),
       lme4_beta = unname(fixef(l)), lme4_se = unname(sqrt(diag(as.matrix(vcov(l))))), lme4_loglik = as.numeric(logLik(l))) }
both <- function(fixed) { environment(fixed) <- environment()
  m <- do.call(lme, list(fixed, random = ~ years | patient, data = d, method = "REML", control = lmeControl(opt = "optim", msMaxIter = 500, reltol = 1e-14)))
  l <- lmer(update(fixed, ~ . + (1 + years | patient)), d, control = lmerControl(optimizer = "bobyqa", optCtrl = list(maxfun = 1e5, rhoend = 1e-9)))
  pack(m, l) }
# Pattern mixture: slopes of each pattern, weighted by the patterns' shares (Hedeker and Gibbons 1997).
m <- lme(fvc_ml ~ pattern + pattern:years, random = ~ years | patient, data = d, method = "REML", control = lmeControl(opt = "optim", msMaxIter = 500, reltol = 1e-14))
at <- grep(":years", names(fixef(m))); s <- fixef(m)[at]; v <- vcov(m)[at, at]
first <- d[!duplicated(d$patient), ]; p <- as.numeric(table(first$pattern)) / nrow(first)
mixture <- list(slopes = unname(s), se = unname(sqrt(diag(v))), mean = sum(p * s),
                mean_se = sqrt(drop(p %*% v %*% p + s %*% ((diag(p) - p %o% p) / nrow(first)) %*% s)))
save_golden(list(slope = both(fvc_ml ~ years), group = both(fvc_ml ~ high * years), score = both(fvc_ml ~ tens * years), mixture = mixture), c("nlme", "lme4"))
