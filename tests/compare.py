"""The comparator that ships with the package; engram_ref/oracle/compare.py derives its tolerance classes.

tests/bounds.py computes the scales of functions that amplify errors.
"""

from engram_ref.oracle.compare import assert_close

__all__ = ["assert_close"]
