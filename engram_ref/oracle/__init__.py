"""The oracle: frozen answers, one comparator, and a runner that reports where a port first differs.

To check a port: `vectors` reads the golden vectors, `run` calls a namespace of ops on them, `verify` compares what it
returns. To make the answers: `slow` is a second implementation, `builders` has the golden cases, `small_modules` and
`small_models` have configurations of odd sizes, `emulated_rounding` the released roundings, `hf_models` the models of
HF transformers. To test the checks: `wrong` has functions with one mistake each.
"""
