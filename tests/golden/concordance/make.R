# Harrell's and Uno's C with their variances. Run from this folder: Rscript make.R
source("../common.R"); suppressMessages(library(survival))
d <- input("registry"); d$event <- as.integer(d$cause > 0); lung <- input("lung"); lung$event <- lung$status - 1; veteran <- input("veteran")
one <- function(t, e, x, ...) { k <- concordance(Surv(t, e) ~ x, reverse = TRUE, ...); list(c = unname(k$concordance), se = sqrt(k$var)) }
two <- function(t, e, a, b, ...) { ka <- concordance(Surv(t, e) ~ a, reverse = TRUE, influence = 1, ...); kb <- concordance(Surv(t, e) ~ b, reverse = TRUE, influence = 1, ...)
  list(difference = unname(ka$concordance - kb$concordance), se = sqrt(sum((ka$dfbeta - kb$dfbeta)^2))) }
save_golden(list(
  harrell_lung = one(lung$time, lung$event, lung$age), harrell_veteran = one(veteran$time, veteran$status, -veteran$karno),
  harrell_registry = one(d$month, d$event, d$lesion), harrell_registry_visual = one(d$month, d$event, d$visual),
  uno_lung = one(lung$time, lung$event, lung$age, timewt = "n/G2"), uno_registry = one(d$time, d$event, d$lesion, timewt = "n/G2"),
  uno_registry_tied = one(d$month, d$event, d$visual, timewt = "n/G2"), uno_registry_24 = one(d$time, d$event, d$lesion, timewt = "n/G2", ymax = 24),
  compare_harrell = two(d$month, d$event, d$lesion, d$visual), compare_uno = two(d$time, d$event, d$lesion, d$visual, timewt = "n/G2")
), "survival")
