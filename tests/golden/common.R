# Shared by the scripts: where the inputs are, and how numbers are written.
library(jsonlite)
input <- function(name) read.csv(file.path("..", "data", paste0(name, ".csv")))
save_golden <- function(numbers, packages) {
  versions <- as.list(sapply(packages, function(p) as.character(packageVersion(p))))
  numbers$versions <- c(list(R = R.version.string), versions)
  write(toJSON(numbers, digits = NA, auto_unbox = TRUE, pretty = TRUE, na = "null"), "expected.json")
}
