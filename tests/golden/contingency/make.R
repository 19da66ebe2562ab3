# Fisher's exact test of tables with two columns. Run from this folder: Rscript make.R
source("../common.R")
tables <- list(two = rbind(c(3, 9), c(8, 2)), three = rbind(c(1, 7), c(5, 4), c(6, 1)), sparse = rbind(c(0, 3), c(2, 11), c(4, 0), c(1, 1)), five = rbind(c(10, 31), c(4, 2), c(0, 5), c(7, 9), c(3, 0)))
save_golden(lapply(tables, function(t) list(counts = t, p = fisher.test(t, workspace = 2e7)$p.value)), "stats")
