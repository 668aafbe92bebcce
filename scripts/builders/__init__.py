"""The definitions of the golden cases: calls, arguments, and the functions that compute the answers.

Each file except `planned.py` and `streams.py` covers one area. Its AREA lists functions that yield cases created by
`planned.case`; `planned.freeze` computes answers, tolerance classes and scales, and checks them against the NumPy
definition. `scripts/freeze_golden.py` freezes all areas and writes the files that ship.
"""
