"""Diagnosis: emulated ports with known bugs, pairs of bugs, unknown mistakes and correct ports."""


