# Maximally selected rank statistics. Run from this folder: Rscript make.R
source("../common.R"); suppressMessages({library(survival); library(maxstat)})
d <- input("registry"); d$event <- as.integer(d$cause > 0)
one <- function(f) { m <- maxstat.test(f, d, smethod = "LogRank", pmethod = "Lau94", minprop = .1, maxprop = .9); list(statistic = unname(m$statistic), cutpoint = unname(m$estimate), p = m$p.value) }
bin <- function(f) { m <- maxstat.test(f, d, smethod = "Data", pmethod = "Lau94", minprop = .1, maxprop = .9); list(statistic = unname(m$statistic), cutpoint = unname(m$estimate), p = m$p.value) }
save_golden(list(lesion = one(Surv(time, event) ~ lesion), binary = bin(outcome ~ lesion), stats = list()), c("survival", "maxstat"))
