# Weighted and stratified log-rank tests. Run from this folder: Rscript make.R
source("../common.R"); suppressMessages(library(survival))
lung <- input("lung"); lung$event <- lung$status - 1; lung$layer <- pmin(lung$ph.ecog, 2); vet <- input("veteran"); vet$cell <- with(vet, squamous + 2 * smallcell + 3 * adeno)
lr <- function(f, data, rho = 0) { s <- survdiff(f, data, rho = rho); k <- if (is.matrix(s$obs)) nrow(s$obs) else length(s$obs); list(chisq = s$chisq, p = pchisq(s$chisq, k - 1, lower.tail = FALSE)) }
# Any weight, by the definition: risk set by risk set, stratum by stratum (Fleming and Harrington 1991, chapter 7).
# Checked here against survdiff where that has the weight; survdiff has neither Gehan's nor Tarone and Ware's, nor gamma.
weighted <- function(t, e, g, weight, layer = rep(1, length(t))) { k <- sort(unique(g)); u <- numeric(length(k)); V <- matrix(0, length(k), length(k))
  for (s in unique(layer)) { here <- layer == s; S <- 1
    for (x in sort(unique(t[here & e == 1]))) { r <- here & t >= x; n <- sum(r); d <- sum(here & t == x & e == 1); ng <- sapply(k, function(i) sum(r & g == i)); dg <- sapply(k, function(i) sum(here & t == x & e == 1 & g == i))
      w <- weight(n, S); u <- u + w * (dg - d * ng / n); if (n > 1) V <- V + w^2 * d * (n - d) / (n - 1) * (diag(ng / n) - (ng / n) %o% (ng / n)); S <- S * (1 - d / n) } }
  i <- seq_len(length(k) - 1); q <- drop(u[i] %*% solve(V[i, i], u[i])); list(chisq = q, p = pchisq(q, length(i), lower.tail = FALSE)) }
fh <- function(rho, gamma) function(n, S) S^rho * (1 - S)^gamma
with(lung, stopifnot(all.equal(weighted(time, event, sex, fh(0, 0), layer)$chisq, lr(Surv(time, event) ~ sex + strata(layer), lung)$chisq),
  all.equal(weighted(time, event, sex, fh(1, 0))$chisq, lr(Surv(time, event) ~ sex, lung, 1)$chisq), all.equal(weighted(time, event, sex, fh(.5, 0), layer)$chisq, lr(Surv(time, event) ~ sex + strata(layer), lung, .5)$chisq)))
all <- function(t, e, g, layer) list(log_rank = weighted(t, e, g, fh(0, 0), layer), gehan = weighted(t, e, g, function(n, S) n, layer), tarone_ware = weighted(t, e, g, function(n, S) sqrt(n), layer),
  peto = weighted(t, e, g, fh(1, 0), layer), late = weighted(t, e, g, fh(0, 1), layer), middle = weighted(t, e, g, fh(.5, .5), layer))
s <- survdiff(Surv(time, event) ~ sex + strata(layer), lung)
save_golden(list(lung = with(lung, all(time, event, sex, rep(1, nrow(lung)))), lung_strata = with(lung, all(time, event, sex, layer)),
  survdiff_strata = c(lr(Surv(time, event) ~ sex + strata(layer), lung), list(obs = rowSums(s$obs), exp = rowSums(s$exp))), survdiff_peto = lr(Surv(time, event) ~ sex, lung, 1),
  veteran_strata = with(vet, all(time, status, cell, trt)), survdiff_veteran = lr(Surv(time, status) ~ cell + strata(trt), vet)), "survival")
