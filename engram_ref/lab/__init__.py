"""Experiments: what the paper claims about training, tested with models that train on two cores in minutes.

An experiment is a file with an EXPERIMENT: its runs, what is measured in each, and the criteria by which the results
are judged. The criteria are committed before the first run that counts, and every result states that commit. Run one
with `python scripts/lab.py NAME`.
"""

EXPERIMENTS = ("memory",)
"""Names of the experiments; each is a module of this package."""
