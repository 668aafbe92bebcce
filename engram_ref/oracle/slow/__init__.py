"""Slow, exact and independent answers that the tests hold the product against.

Everything here is plain Python on integers, fractions and exact sums.
Nothing here imports the product, and nothing here tries to be fast.
"""
