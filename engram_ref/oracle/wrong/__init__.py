"""Wrong variants of the package's functions, one mistake each, of the kind that ports make.

Every variant is called as wrong(original, *arguments of the original). `tests/mutants_*.py` lists for each one the
function that it replaces and the test that must then fail; the golden vectors must notice some of them too.
"""
