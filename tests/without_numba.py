"""A plugin that blocks the import of Numba: pytest -p tests.without_numba. Its tests must skip, and all others pass."""

import sys

sys.modules["numba"] = None
