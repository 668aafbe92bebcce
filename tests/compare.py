"""The comparator of the tests is the one that ships: its tolerance classes are derived in engram_ref/oracle/compare.py.

Where a function amplifies, the scale says by how much: see tests/bounds.py.
"""

from engram_ref.oracle.compare import assert_close

__all__ = ["assert_close"]
