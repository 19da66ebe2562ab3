# Weighted kappa and an anchor-based difference. Run from this folder: Rscript make.R
# Standard errors are vcd's: those of weighted kappa in psych 2.2.9 take the rows' mean weights otherwise than Fleiss, Cohen and Everitt.
source("../common.R"); suppressMessages({library(psych); library(vcd)})
d <- input("registry"); cut4 <- function(x) as.integer(cut(x, quantile(x, 0:4 / 4), include.lowest = TRUE))
one <- function(a, b, k) { t <- table(factor(a, 1:k), factor(b, 1:k)); steps <- abs(outer(1:k, 1:k, "-")) / (k - 1); r <- list(quadratic = 1 - steps^2, linear = 1 - steps)
  ase <- function(w) unname(Kappa(t, weights = w)$Weighted["ASE"]); value <- function(w) cohen.kappa(t, w = w)$weighted.kappa; e <- t / sum(t); p <- outer(rowSums(e), colSums(e))
  null <- function(w, kappa) { pe <- sum(w * p); m <- outer(w %*% colSums(e), t(w) %*% rowSums(e), "+")[, 1, , 1]; v <- (sum(p * (w - m)^2) - pe^2) / (sum(t) * (1 - pe)^2); 2 * pnorm(-abs(kappa / sqrt(v))) }
  item <- function(kappa, se, w) list(kappa = kappa, low = kappa - qnorm(.975) * se, high = kappa + qnorm(.975) * se, se = se, p = null(w, kappa))
  c(lapply(r, function(w) item(value(w), ase(w), w)), list(none = item(cohen.kappa(t)$kappa, unname(Kappa(t)$Unweighted["ASE"]), diag(k)))) }
a <- cut4(d$lesion); b <- cut4(d$visual)
fvc <- -0.35 * (d$lesion - mean(d$lesion)) + 2 * sin(seq_len(nrow(d))); change <- (d$visual - mean(d$visual)) / 2 + cos(seq_len(nrow(d)))
little <- change[fvc > -10 & fvc <= -5]; stable <- change[abs(fvc) < 5]; w <- t.test(little, stable); m <- lm(change ~ fvc); pr <- predict(m, data.frame(fvc = -10), interval = "confidence")
save_golden(list(quartiles = one(a, b, 4), halves = one((a > 2) + 1, (b > 2) + 1, 2), four = a - 1, other = b - 1,
  anchor = list(fvc = fvc, change = change, rho = unname(cor(fvc, change, method = "spearman")), difference = unname(w$estimate[1] - w$estimate[2]), difference_ci = as.numeric(w$conf.int), at_threshold = as.numeric(pr))), c("psych", "vcd"))
