# Time-dependent AUC and Brier score by IPCW. Run from this folder: Rscript make.R
source("../common.R"); suppressMessages({library(survival); library(riskRegression); library(prodlim)})
d <- input("registry"); d$event <- as.integer(d$cause > 0)
score <- function(time) { d$when <- d[[time]]
  s <- Score(list(lesion = d$lesion / 101, visual = (d$visual + 0.5) / 102, risk = d$risk), formula = Hist(when, event) ~ 1, data = d, times = c(12, 24), se.fit = TRUE, conf.int = TRUE, metrics = c("auc", "brier"), contrasts = list(c(1, 2)), cens.model = "km", null.model = FALSE)
  list(auc = as.data.frame(s$AUC$score), contrast = as.data.frame(s$AUC$contrasts), brier = as.data.frame(s$Brier$score)) }
save_golden(list(exact = score("time"), tied = score("month")), c("riskRegression", "prodlim", "survival"))
