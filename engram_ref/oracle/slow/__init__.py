"""A second, slow implementation: one position at a time, in plain Python with integers, fractions and exact sums.

It imports nothing else from the package, so the two cannot share a mistake. Integers are exact, narrow floats are exact
fractions, and float sums are rounded once. Parameters and hidden states are nested lists; `addressing` reads the fields
of an EngramConfig. Tests compare the package with it, and it computes the golden answers.
The documents of oracle/specification show this code.
"""
