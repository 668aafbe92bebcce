"""The oracle: frozen answers, one comparator, and a runner that reports where a port first differs.

Checking a port: `vectors` reads the golden vectors, `run` evaluates a case with a namespace of ops, and `verify`
compares the results. Computing the answers: `slow` is a second implementation, which `specification` explains
step by step, `small_modules` and `small_models` define configurations of odd sizes, and `emulated_rounding` emulates
the roundings of the released model; `scripts/builders` defines the golden cases. Testing the checks: `wrong` contains functions with one mistake each.
"""
