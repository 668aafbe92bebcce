"""The benchmark: every row of the performance table, beside frozen rivals and the machine's own limits.

In reading order: `measure` (clocks, peaks, processes), `case` (sides, comparisons, verdicts), `setting` (sizes,
rivals, threads, the machine), `limits` (what the machine allows), `lookup` and `model` (the rows), `run`, `report`
(text and chart). Rivals come from scripts/baselines.py and never use this package.
"""
