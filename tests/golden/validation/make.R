# A model of the lesion on another cohort, and the corrected P of a cut-off that was chosen. Run from this folder: Rscript make.R
source("../common.R"); suppressMessages({library(survival); library(riskRegression); library(prodlim)})
ctl <- coxph.control(eps = 1e-12, toler.chol = 1e-13)
d <- input("registry"); d$event <- as.integer(d$cause > 0); n <- nrow(d)
# The model that comes from elsewhere: log hazard 0.03 a point about 30, cumulative hazards of a patient there.
d$lp <- .03 * (d$lesion - 30); hazard <- c("12" = .25, "24" = .6)
m <- coxph(Surv(time, event) ~ lp, d, control = ctl); k <- concordance(Surv(time, event) ~ lp, d, reverse = TRUE)
fit <- survfit(Surv(time, event) ~ 1, d, conf.type = "log-log", influence = TRUE)
one <- function(at) { h <- as.numeric(at); d$risk <- 1 - exp(-hazard[at] * exp(d$lp)); s <- summary(fit, times = h); row <- max(which(fit$time <= h))
  # Each patient's pull on log(observed / expected), from survfit's own derivatives by the patients' weights.
  pull <- -n * fit$influence.surv[, row] / (1 - s$surv) - (d$risk - mean(d$risk)) / mean(d$risk)
  r <- Score(list(model = d$risk), formula = Hist(time, event) ~ 1, data = d, times = h, se.fit = TRUE, conf.int = TRUE, metrics = c("auc", "brier"), cens.model = "km", null.model = FALSE)
  again <- summary(survfit(m, newdata = data.frame(lp = 0)), times = h)
  list(months = h, cumulative_hazard = unname(hazard[at]), observed = list(risk = 1 - s$surv, se = s$std.err, low = 1 - s$upper, high = 1 - s$lower), expected = mean(d$risk),
       log_ratio = log((1 - s$surv) / mean(d$risk)), log_ratio_se = sd(pull) / sqrt(n), auc = as.data.frame(r$AUC$score)[, c("AUC", "se", "lower", "upper")], brier = as.data.frame(r$Brier$score)[, c("Brier", "se", "lower", "upper")],
       recalibrated = list(hazard = again$cumhaz, se = again$std.chaz)) }
# Every order of eight patients: how often the best cut-off reaches the log-rank statistic of the one that is used.
t <- c(2, 3, 5, 7, 8, 11, 13, 14); e <- c(1, 1, 0, 1, 1, 1, 0, 1); x <- c(6, 8, 5, 3, 7, 1, 4, 2); used <- 4.5
a <- e - cumsum(e / rev(seq_along(t))); below <- 2:6   # at least two patients on either side
deviation <- sqrt(var(a) * below * (8 - below) / 8); statistic <- function(v) abs(cumsum(v - mean(v))[below]) / deviation
orders <- function(v) if (length(v) == 1) list(v) else do.call(c, lapply(seq_along(v), function(i) lapply(orders(v[-i]), function(r) c(v[i], r))))
seen <- statistic(a[order(x)]); best <- sapply(orders(a), function(v) max(statistic(v)))
share <- function(level) mean(best >= level * (1 - 1e-12))
save_golden(list(
  slope = list(beta = unname(coef(m)), se = sqrt(vcov(m)[1, 1]), p_against_1 = 2 * pnorm(-abs(coef(m)[[1]] - 1) / sqrt(vcov(m)[1, 1]))), concordance = list(c = unname(k$concordance), se = sqrt(k$var)),
  horizons = lapply(names(hazard), one),
  cutoff = list(time = t, event = e, score = x, used = used, smallest_group = .2, statistic = seen, best_p = share(max(seen)), used_p = share(seen[below == sum(x < used)]))
), c("survival", "riskRegression", "prodlim"))
