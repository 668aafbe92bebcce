"""The benchmark: each operation is compared with frozen baselines and with the limits of the machine.

Reading order: `timing` (clocks, peak memory, fresh processes), `case` (variants and comparisons), `setting` (sizes,
baselines, threads, the machine), `limits` (of the machine), `lookup`, `model` and `cuda` (the rows), `run`,
and `report` (text and chart). The baselines are in scripts/baselines.py and never use this package.
"""
