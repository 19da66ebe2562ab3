# Intraclass correlation and Bland-Altman. Run from this folder: Rscript make.R [folder of the registry volumes]
source("../common.R"); suppressMessages(library(psych))
icc <- function(x) { r <- ICC(x, lmer = FALSE)$results; k <- c("icc_1_1", "icc_2_1", "icc_3_1", "icc_1_k", "icc_2_k", "icc_3_k")
  setNames(lapply(1:6, function(i) list(estimate = r$ICC[i], low = r$`lower bound`[i], high = r$`upper bound`[i], F = r$F[i], p = r$p[i])), k) }
ba <- function(a, b) { x <- a - b; n <- length(x); z <- qnorm(.975); m <- mean(x); s <- sd(x); e <- s * sqrt(1 / n + z^2 / (2 * (n - 1))); t <- qt(.975, n - 1)
  q <- suppressWarnings(qt(c(.025, .975), n - 1, ncp = z * sqrt(n))) / sqrt(n); g <- summary(lm(x ~ I((a + b) / 2)))$coefficients[2, ]
  list(bias = m, bias_ci = m + c(-1, 1) * t * s / sqrt(n), sd = s, upper = m + z * s, upper_ci = m + z * s + c(-1, 1) * t * e, lower = m - z * s, exact_upper = m + q * s, slope_t = unname(g["t value"]), slope_p = unname(g["Pr(>|t|)"])) }
sf <- input("shrout_fleiss"); d <- input("registry")
long <- data.frame(s = factor(rep(seq_len(nrow(sf)), 4)), v = unlist(sf)); ms <- anova(lm(v ~ s, long))["Residuals", ]
numbers <- list(shrout_fleiss = icc(sf), pair = icc(d[, c("lesion", "visual")]), bland_altman = ba(d$lesion, d$visual),
  within = list(sd = sqrt(ms[["Mean Sq"]]), df = ms[["Df"]], ci = sqrt(ms[["Mean Sq"]] * ms[["Df"]] / qchisq(c(.975, .025), ms[["Df"]]))))
folder <- commandArgs(TRUE)
if (length(folder)) {
  share <- sapply(c("full_supervised_unet", "wsss_coin", "wsss_unet"), function(f) { t <- read.csv(file.path(folder[1], paste0(f, ".csv"))); t <- t[order(t$case), ]; 100 * t$volume_fibrosis / t$volume_lung })
  numbers$fibrosis <- list(n = nrow(share), icc = icc(share), icc_pair = icc(share[, c(1, 3)]), bland_altman = ba(share[, 1], share[, 3]), bland_altman_coin = ba(share[, 1], share[, 2]))
}
save_golden(numbers, "psych")
