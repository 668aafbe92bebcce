"""Wrong variants of the package's functions, each with one mistake that is typical of ports.

Every variant is called as wrong(original, *arguments of the original). For each, `tests/mutants_*.py` lists the
function that it replaces and the test that must fail. Some must also fail golden cases.
"""
