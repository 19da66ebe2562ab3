# Comparisons of correlations by R's cocor 1.1 (CRAN; github.com/cran/cocor), which is no Debian package.
# Run from this folder: Rscript make.R /path/to/library/with/cocor
source("../common.R"); .libPaths(c(commandArgs(TRUE)[1], .libPaths())); library(cocor)
take <- function(x, names) { o <- lapply(names, function(n) { r <- slot(x, n); r[intersect(names(r), c("statistic", "p.value", "conf.int"))] }); names(o) <- names; o }
over <- function(a, b, ab, n) take(cocor.dep.groups.overlap(a, b, ab, n), c("pearson1898", "hotelling1940", "williams1959", "olkin1967", "dunn1969", "hendrickson1970", "steiger1980", "meng1992", "hittner2003", "zou2007"))
apart <- function(r, n) take(cocor.dep.groups.nonoverlap(r[1, 2], r[3, 4], r[1, 3], r[1, 4], r[2, 3], r[2, 4], n), c("pearson1898", "dunn1969", "steiger1980", "raghunathan1996", "silver2004", "zou2007"))
m <- matrix(c(1, -.762, .7, -.6, -.762, 1, -.58, .8, .7, -.58, 1, -.571, -.6, .8, -.571, 1), 4)
save_golden(list(overlap = over(-.762, -.571, .7, 112), overlap_positive = over(.5, .3, .4, 103), apart = list(correlations = m, result = apart(m, 112)),
                 independent = take(cocor.indep.groups(-.762, -.571, 112, 90), c("fisher1925", "zou2007"))), "cocor")
