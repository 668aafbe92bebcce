"""A second, slow implementation: one position at a time, in plain Python on integers, fractions and exact sums.

It imports nothing else of the package, so that the two cannot share a mistake. Integers are exact, rounded numbers
are exact fractions, and float sums are rounded once. Parameters and hidden states are nested lists; `addressing`
takes an EngramConfig and reads its fields. Tests compare the package with it, and golden answers come from it.
"""
