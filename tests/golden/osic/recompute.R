# The main numbers of the report on the public OSIC table, recomputed. Called by tests/analysis/test_public_registry.py:
# Rscript recompute.R FOLDER, with patients.csv and visits.csv there; writes recomputed.json. No data and no result of it is stored.
folder <- commandArgs(TRUE)[1]; suppressMessages({library(jsonlite); library(survival); library(pROC); library(lme4)})
d <- read.csv(file.path(folder, "patients.csv")); v <- read.csv(file.path(folder, "visits.csv")); k <- d[!is.na(d$fib), ]
y <- d[!is.na(d$y), ]; yk <- y[!is.na(y$fib), ]; z <- qnorm(.975); all <- ~ fib + Age + male + now + ex
ratios <- function(m, n) { a <- summary(m)$coefficients; b <- coef(m)[n]; se <- sqrt(diag(vcov(m)))[n]; unname(c(exp(b), exp(b - z * se), exp(b + z * se), 2 * pnorm(-abs(b / se)))) }
logit <- function(f, data, n) ratios(glm(f, binomial, data, epsilon = 1e-12), n); cox <- function(f, data, n) ratios(coxph(f, data), n)
t <- cor.test(k$fib, k$Percent); a <- roc(yk$y, yk$fib, quiet = TRUE, direction = "<"); b <- roc(y$y, y$Percent, quiet = TRUE, direction = ">"); b2 <- roc(yk$y, -yk$Percent, quiet = TRUE, direction = "<")
pair <- roc.test(a, b2, method = "delong"); curve <- function(data) { s <- summary(survfit(Surv(time, event) ~ 1, data, conf.type = "log-log"), times = c(6, 12)); c(rbind(100 * s$surv, 100 * s$lower, 100 * s$upper)) }
median <- function(data) unname(summary(survfit(Surv(time, event) ~ 1, data))$table["median"]); test <- survdiff(Surv(time, event) ~ high, k)
slope <- function(m, w, n) { e <- sum(w * fixef(m)); se <- sqrt(drop(w %*% as.matrix(vcov(m)) %*% w)); df <- n - length(w); c(e, e + c(-1, 1) * qt(.975, df) * se, 2 * pt(-abs(e / se), df)) }
fit <- function(f, data) lmer(update(f, ~ . + (1 + years | Patient)), data, control = lmerControl(optimizer = "bobyqa", optCtrl = list(maxfun = 1e5, rhoend = 1e-9)))
fits <- function(value) { v$value <- v[[value]]; w <- v[!is.na(v$fib), ]; w$tens <- w$fib / 10
  one <- fit(value ~ years, v); two <- fit(value ~ high * years, w)
  ten <- fit(value ~ tens * years, w); more <- fit(value ~ (tens + Age + male + now + ex) * years, w)
  n <- length(unique(v$Patient)); m <- length(unique(w$Patient)); last <- function(f, name) as.numeric(names(fixef(f)) == name)
  list(all = slope(one, c(0, 1), n), low = slope(two, c(0, 0, 1, 0), m), high = slope(two, c(0, 0, 1, 1), m), difference = slope(two, c(0, 0, 0, 1), m), tens = slope(ten, last(ten, "tens:years"), m), adjusted = slope(more, last(more, "tens:years"), m)) }
write(toJSON(list(
  pearson = c(t$estimate, t$conf.int), spearman = cor(k$fib, k$Percent, method = "spearman"),
  auc = list(score = as.numeric(ci.auc(a))[c(2, 1, 3)], fvc = as.numeric(ci.auc(b))[c(2, 1, 3)], difference = c(a$auc - b2$auc, pair$conf.int, pair$p.value)),
  logistic = list(score = logit(y ~ fib, yk, "fib"), fvc = logit(y ~ Percent, y, "Percent"), age = logit(y ~ Age, y, "Age"), sex = logit(y ~ male, y, "male"), joint = logit(update(all, y ~ .), yk, "fib")),
  cox = list(score = cox(Surv(time, event) ~ fib, k, "fib"), fvc = cox(Surv(time, event) ~ Percent, d, "Percent"), age = cox(Surv(time, event) ~ Age, d, "Age"), sex = cox(Surv(time, event) ~ male, d, "male"), joint = cox(update(all, Surv(time, event) ~ .), k, "fib"), high = cox(Surv(time, event) ~ high, k, "high")),
  survival = list(all = c(curve(d), median(d)), low = c(curve(k[k$high == 0, ]), median(k[k$high == 0, ])), high = c(curve(k[k$high == 1, ]), median(k[k$high == 1, ]))),
  log_rank = c(test$chisq, pchisq(test$chisq, 1, lower.tail = FALSE)), FVC = fits("FVC"), Percent = fits("Percent")), digits = NA, auto_unbox = TRUE), file.path(folder, "recomputed.json"))
