"""Tests of the oracle: the kit, its verdicts, and its diagnosis."""
