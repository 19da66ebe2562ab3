# Logistic regression, splines, Firth. Run from this folder: Rscript make.R
source("../common.R"); suppressMessages({library(MASS); library(rms)})
a <- input("asah"); d <- input("registry")
fit <- glm(outcome ~ age + lesion + fvc, binomial, d, epsilon = 1e-14, maxit = 50)
s <- summary(fit)$coefficients
# Limits at which the deviance has risen by the chi-squared quantile (MASS interpolates instead).
X <- cbind(1, as.matrix(d[, c("age", "lesion", "fvc")]))
edge <- function(k, side) { f <- function(v) glm.fit(X[, -k], d$outcome, offset = X[, k] * v, family = binomial(), control = list(epsilon = 1e-14))$deviance - fit$deviance - qchisq(.95, 1)
  b <- coef(fit)[k]; e <- s[k, 2]; uniroot(f, sort(b + side * c(.1, 5) * e), tol = 1e-12)$root }
prof <- t(sapply(2:4, function(k) c(edge(k, -1), edge(k, 1))))
new <- predict(fit, d[1:3, ], type = "link", se.fit = TRUE)
vif <- sapply(c("age", "lesion", "fvc"), function(v)
  1 / (1 - summary(lm(reformulate(setdiff(c("age", "lesion", "fvc"), v), v), d))$r.squared))
uni <- summary(glm(outcome ~ s100b, binomial, a, epsilon = 1e-14))$coefficients

basis <- function(x, k) { q <- rcspline.eval(x, nk = k, knots.only = TRUE); list(knots = q, head = unname(unclass(rcspline.eval(x, knots = q, inclx = TRUE))[1:5, , drop = FALSE])) }
k4 <- rcspline.eval(d$lesion, nk = 4, knots.only = TRUE)
line <- glm(outcome ~ lesion + age, binomial, d, epsilon = 1e-14)
curve <- glm(outcome ~ rcspline.eval(lesion, knots = k4, inclx = TRUE) + age, binomial, d, epsilon = 1e-14)

# Firth's penalised likelihood by a general optimiser, from its definition (Firth 1993).
firth <- function(y, X) {
  pl <- function(b) { p <- plogis(drop(X %*% b)); v <- suppressWarnings(-(sum(dbinom(y, 1, p, log = TRUE)) + .5 * as.numeric(determinant(crossprod(X * sqrt(p * (1 - p))))$modulus))); if (is.finite(v)) v else 1e9 }
  best <- function(fix = NULL, at = 0, start = rep(0, ncol(X))) {
    free <- setdiff(seq_len(ncol(X)), fix); g <- function(b) { z <- start * 0; z[fix] <- at; z[free] <- b; pl(z) }
    starts <- list(start[free]); if (length(fix)) starts <- c(starts, list(start[free] * at / start[fix]), lapply(c(-.3, .3), function(z) rep(z * at, length(free))))
    polish <- function(b) { for (i in 1:3) { b <- optim(b, g, method = "Nelder-Mead", control = list(reltol = 1e-15, maxit = 20000))$par; o <- optim(b, g, method = "BFGS", control = list(reltol = 1e-16, maxit = 5000)); b <- o$par }; o }
    all <- lapply(starts, polish); all[[which.min(sapply(all, `[[`, "value"))]] }
  full <- best(); half <- qchisq(.95, 1) / 2
  limit <- function(k, side) { f <- function(v) best(k, v, full$par)$value - full$value - half
    far <- full$par[k]; repeat { far <- far + side * .5; if (f(far) > 0) break }; uniroot(f, sort(c(full$par[k], far)), tol = 1e-10)$root }
  ks <- 2:ncol(X)
  list(beta = full$par, loglik = -full$value, low = sapply(ks, limit, -1), high = sapply(ks, limit, 1),
       p = sapply(ks, function(k) pchisq(2 * (best(k, 0, full$par)$value - full$value), 1, lower.tail = FALSE)))
}
# A separated table: x alone parts the classes.
y <- rep(0:1, each = 8); x <- c(-2.1, -1.7, -1.4, -1.2, -.9, -.5, -.4, -.1, .2, .3, .6, 1.1, 1.2, 1.5, 1.9, 2.4); w <- c(.3, -.2, 1.1, -.7, .4, .9, -1.3, .1, .5, -.4, 1.0, -.6, .2, -1.1, .8, -.3)
save_golden(list(
  multi = list(beta = unname(s[, 1]), se = unname(s[, 2]), p = unname(s[, 4]), profile = unname(prof), loglik = as.numeric(logLik(fit)), null = -fit$null.deviance / 2, vif = as.list(vif)),
  prediction = list(link = unname(new$fit), se = unname(new$se.fit)),
  s100b = list(beta = unname(uni[, 1]), se = unname(uni[, 2]), p = unname(uni[, 4])),
  rcs = list(lesion4 = basis(d$lesion, 4), lesion3 = basis(d$lesion, 3), lesion5 = basis(d$lesion, 5), lesion6 = basis(d$lesion, 6), lesion7 = basis(d$lesion, 7), small4 = basis(d$lesion[1:60], 4)),
  linearity = list(chi2 = line$deviance - curve$deviance, p = pchisq(line$deviance - curve$deviance, 2, lower.tail = FALSE)),
  firth_s100b = firth(a$outcome, cbind(1, a$s100b, a$wfns)),
  separated = c(list(y = y, x = x, w = w), firth(y, cbind(1, x, w)))
), c("MASS", "rms"))
