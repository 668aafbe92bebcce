"""The benchmark: every row of the performance table, beside frozen rivals and the machine's own limits.

A row prepares its inputs and names its sides: ours, a rival's, a limit's. `clock` runs the sides in turn,
`judge` turns what was measured into ratios and verdicts, `report` and `chart` show them. Rivals come from
scripts/baselines.py and never use this package.
"""
