"""The oracle: frozen answers, one comparator, and a runner that reports where a port first differs.

Checking a port: `vectors` reads the golden vectors, `run` evaluates a case with a namespace of ops, and `verify`
compares the results; `kit` writes cases for any language, and `check` judges the answers. Computing the answers: `slow`
is a second implementation, which `specification` explains step by step; `scripts/builders` defines the golden cases.
Testing the checks: `bugs` contains functions with one mistake each.
"""
