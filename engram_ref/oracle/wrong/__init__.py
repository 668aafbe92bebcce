"""Wrong variants of the package's functions, one mistake each: what the tests and the golden vectors must notice."""
