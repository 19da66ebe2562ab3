# Correlations and their comparison. Run from this folder: Rscript make.R
source("../common.R"); suppressMessages(library(psych))
d <- input("registry")
p <- cor.test(d$lesion, d$fvc); s <- suppressWarnings(cor.test(d$lesion, d$fvc, method = "spearman", exact = FALSE))
# Bonett and Wright 2000 by hand.
rs <- unname(s$estimate); bw <- tanh(atanh(rs) + c(-1, 1) * qnorm(.975) * sqrt((1 + rs^2 / 2) / (nrow(d) - 3)))
ts <- rs * sqrt((nrow(d) - 2) / (1 - rs^2))

# The published formulas, written down afresh: Steiger 1980 eq. 14, Meng et al. 1992 eq. 1-3,
# Hotelling 1940, Zou 2007 eq. 15.
overlap <- function(a, b, ab, n) {
  det <- det(matrix(c(1, a, b, a, 1, ab, b, ab, 1), 3))
  m <- (a + b) / 2
  s <- (ab * (1 - 2 * m^2) - .5 * m^2 * (1 - 2 * m^2 - ab^2)) / (1 - m^2)^2
  steiger <- (atanh(a) - atanh(b)) * sqrt(n - 3) / sqrt(2 - 2 * s)
  r2 <- (a^2 + b^2) / 2; f <- min(1, (1 - ab) / (2 * (1 - r2))); h <- (1 - f * r2) / (1 - r2)
  meng <- (atanh(a) - atanh(b)) * sqrt((n - 3) / (2 * (1 - ab) * h))
  hotelling <- (a - b) * sqrt((n - 3) * (1 + ab) / (2 * det))
  la <- tanh(atanh(a) + c(-1, 1) * qnorm(.975) / sqrt(n - 3))
  lb <- tanh(atanh(b) + c(-1, 1) * qnorm(.975) / sqrt(n - 3))
  cc <- ((ab - .5 * a * b) * (1 - a^2 - b^2 - ab^2) + ab^3) / ((1 - a^2) * (1 - b^2))
  zou <- c(a - b - sqrt((a - la[1])^2 + (lb[2] - b)^2 - 2 * cc * (a - la[1]) * (lb[2] - b)),
           a - b + sqrt((la[2] - a)^2 + (b - lb[1])^2 - 2 * cc * (la[2] - a) * (b - lb[1])))
  w <- r.test(n = n, r12 = a, r13 = b, r23 = ab)  # psych: Williams' t
  list(williams = w$t, williams_p = w$p, steiger = steiger, steiger_p = 2 * pnorm(-abs(steiger)),
       meng = meng, hotelling = hotelling, hotelling_p = 2 * pt(-abs(hotelling), n - 3), zou = zou)
}
i <- r.test(n = 112, r12 = -.762, r34 = -.571, n2 = 90)
save_golden(list(
  pearson = list(estimate = unname(p$estimate), ci = p$conf.int, p = p$p.value),
  spearman = list(estimate = rs, ci = bw, p = 2 * pt(-abs(ts), nrow(d) - 2)),
  overlap = overlap(-.762, -.571, .7, 112), overlap_positive = overlap(.5, .3, .4, 103),
  independent = list(z = i$z, p = i$p),
  scores = list(a = cor(d$lesion, d$fvc), b = cor(d$visual, d$fvc), ab = cor(d$lesion, d$visual),
                result = overlap(cor(d$lesion, d$fvc), cor(d$visual, d$fvc), cor(d$lesion, d$visual), nrow(d)))
), "psych")
