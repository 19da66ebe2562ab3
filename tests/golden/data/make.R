# Inputs of the goldens: facts tabulated in publications, taken from the R packages that carry
# them, and one synthetic registry. Run from this folder: Rscript make.R
suppressMessages({library(survival); library(pROC)})
out <- function(x, name) write.csv(x, paste0(name, ".csv"), row.names = FALSE, quote = FALSE, na = "")

data(aSAH, package = "pROC")
out(data.frame(outcome = as.integer(aSAH$outcome == "Poor"), wfns = as.integer(aSAH$wfns),
               s100b = aSAH$s100b, ndka = aSAH$ndka), "asah")
out(na.omit(lung[, c("time", "status", "age", "sex", "ph.ecog")]), "lung")
out(ovarian[, c("futime", "fustat", "age", "resid.ds", "rx", "ecog.ps")], "ovarian")
out(data.frame(time = veteran$time, status = veteran$status, trt = veteran$trt,
               karno = veteran$karno, age = veteran$age,
               squamous = as.integer(veteran$celltype == "squamous"),
               smallcell = as.integer(veteran$celltype == "smallcell"),
               adeno = as.integer(veteran$celltype == "adeno")), "veteran")
p <- pbc[1:312, ]
out(data.frame(time = p$time, status = p$status, age = p$age, edema = p$edema, bili = p$bili,
               albumin = p$albumin, protime = p$protime)[!is.na(p$protime), ], "pbc")

# Six subjects, four judges: Shrout and Fleiss 1979, table 2.
out(data.frame(j1 = c(9, 6, 8, 7, 10, 6), j2 = c(2, 1, 4, 1, 5, 2),
               j3 = c(5, 3, 6, 2, 6, 4), j4 = c(8, 2, 8, 6, 9, 7)), "shrout_fleiss")

# A registry of 160 patients with ties in time and score, censoring and two causes.
set.seed(20260)
n <- 160
age <- round(rnorm(n, 66, 8)); lesion <- round(100 * rbeta(n, 2, 5), 1)
visual <- round(pmin(100, pmax(0, lesion + rnorm(n, 0, 14))) / 5) * 5
fvc <- round(95 - 0.55 * lesion + rnorm(n, 0, 11), 1)
lp <- 0.045 * (lesion - 28) + 0.02 * (age - 66)
t1 <- rexp(n, 0.022 * exp(lp)); t2 <- rexp(n, 0.010 * exp(0.03 * (age - 66)))
cens <- pmin(runif(n, 4, 48), 36)
exact <- pmax(pmin(t1, t2, cens), 0.01)
cause <- ifelse(exact == pmin(cens, exact), 0, 1); cause[t1 <= pmin(t2, cens)] <- 1
cause[t2 < pmin(t1, cens)] <- 2; cause[cens <= pmin(t1, t2)] <- 0
outcome <- rbinom(n, 1, plogis(-1.1 + 1.3 * lp))
out(data.frame(time = signif(exact, 10), month = ceiling(exact), cause = cause, outcome = outcome,
               age = age, lesion = lesion, visual = visual, fvc = fvc,
               risk = signif(plogis(-0.9 + 1.7 * lp), 10)), "registry")

# FVC (mL) of 60 invented patients at up to six visits; the score makes it fall faster, and some are
# lost or die early.
set.seed(20261)
m <- 60; score <- round(100 * rbeta(m, 2, 5), 1); a <- rnorm(m, 0, 450); b <- 0.3 * a / 450 * 160 + rnorm(m, 0, 150)
last <- sample(c(3, 5, 6), m, replace = TRUE, prob = c(.2, .2, .6)); pattern <- ifelse(last == 6, "complete", ifelse(runif(m) < .5, "dropout", "death"))
fvc <- do.call(rbind, lapply(1:m, function(i) { k <- last[i]; t <- round(4.2 * (0:(k - 1)) + c(0, runif(k - 1, -.7, .7)), 2)
  data.frame(patient = i, months = t, score = score[i], pattern = pattern[i],
             fvc_ml = round(2900 - 9 * score[i] + a[i] + (-40 - 4 * score[i] + b[i]) * t / 12 + rnorm(k, 0, 110))) }))
out(fvc, "fvc")
