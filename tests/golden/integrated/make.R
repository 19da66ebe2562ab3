# Time-dependent AUC with a training set by R's survAUC 1.3 (CRAN; github.com/cran/survAUC), which is no Debian package, and its mean.
# Run from this folder: Rscript make.R /path/to/library/with/survAUC
source("../common.R"); .libPaths(c(commandArgs(TRUE)[1], .libPaths())); suppressMessages({library(survival); library(survAUC)})
d <- input("registry"); d$event <- as.integer(d$cause > 0); odd <- seq_len(nrow(d)) %% 2 == 1; train <- d[odd, ]; test <- d[!odd, ]
at <- c(6, 12, 18, 24, 30); u <- AUC.uno(Surv(train$time, train$event), Surv(test$time, test$event), test$lesion, at)
# The mean, weighted by the fall of the training set's Kaplan-Meier curve between the horizons.
s <- summary(survfit(Surv(time, event) ~ 1, train), times = at)$surv; w <- -diff(c(1, s)) / (1 - s[length(s)])
save_golden(list(horizons = at, auc = as.numeric(u$auc), weights = w, mean = sum(w * u$auc), survauc_iauc = u$iauc), c("survAUC", "survival"))
