"""Makes Numba impossible to import: pytest -p tests.without_numba. Its tests must skip, and all others pass."""

import sys

sys.modules["numba"] = None
