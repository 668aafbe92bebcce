"""The oracle: frozen answers, one comparator, and a runner that reports where a port first differs.

Checking a port: `vectors` reads the golden vectors, `run` evaluates a case with a namespace of ops, and `verify`
compares the results. For ports in other languages, `kit` writes the cases as files, and `check` compares the answers.
Computing the answers: `slow` is a second implementation, which `specification` explains step by step, `small_modules`
and `small_models` define configurations of odd sizes, `emulated_rounding` emulates the roundings of the released model,
and `noise` measures how far rounding moves an answer; `scripts/builders` defines the golden cases. Testing the checks:
`bugs` contains implementations with one mistake each.
"""
