# DeLong on aSAH. Run from this folder: Rscript make.R
source("../common.R"); suppressMessages(library(pROC))
d <- input("asah")
r <- function(x, k = rep(TRUE, nrow(d))) roc(d$outcome[k], x[k], levels = c(0, 1), direction = "<", quiet = TRUE)
one <- function(x) { q <- r(x); list(auc = as.numeric(auc(q)), ci = as.numeric(ci.auc(q))[c(1, 3)], var = var(q)) }
pair <- function(a, b) { t <- roc.test(r(a), r(b), method = "delong", paired = TRUE)
  list(z = unname(t$statistic), p = t$p.value, cov = cov(r(a), r(b)), ci = as.numeric(t$conf.int)) }
side <- function(a, b, alternative, ...) roc.test(a, b, method = "delong", alternative = alternative, ...)$p.value
odd <- seq_len(nrow(d)) %% 2 == 1
u <- roc.test(r(d$s100b, odd), r(d$ndka, !odd), method = "delong", paired = FALSE)
best <- coords(r(d$s100b), "best", best.method = "youden", ret = c("threshold", "sensitivity", "specificity"), transpose = FALSE)
bestw <- coords(r(d$wfns), "best", best.method = "youden", ret = c("threshold", "sensitivity", "specificity"), transpose = FALSE)
wilson <- function(x, n) as.numeric(prop.test(x, n, correct = FALSE)$conf.int)
save_golden(list(
  s100b = one(d$s100b), ndka = one(d$ndka), wfns = one(d$wfns),
  s100b_wfns = pair(d$s100b, d$wfns), s100b_ndka = pair(d$s100b, d$ndka), ndka_wfns = pair(d$ndka, d$wfns),
  one_sided = list(greater = side(r(d$s100b), r(d$wfns), "greater", paired = TRUE), less = side(r(d$s100b), r(d$wfns), "less", paired = TRUE),
    unpaired_greater = side(r(d$s100b, odd), r(d$ndka, !odd), "greater", paired = FALSE), unpaired_less = side(r(d$s100b, odd), r(d$ndka, !odd), "less", paired = FALSE)),
  unpaired = list(t = unname(u$statistic), df = unname(u$parameter), p = u$p.value),
  youden_s100b = as.list(best), youden_wfns = as.list(bestw),
  wilson = list(a = wilson(26, 41), b = wilson(0, 12), c = wilson(12, 12))
), "pROC")
