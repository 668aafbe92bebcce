"""What the golden cases are made of: calls, their arguments, and who computes the answers.

Each file but `planned.py` and `streams.py` is an area. Its AREA lists functions that yield cases made with
`planned.case`; `planned.freeze` computes answers, tolerance classes and scales, and checks them against the NumPy
definition. `scripts/freeze_golden.py` freezes all areas and writes the files that ship.
"""
