"""The site's machinery lies in scripts/, outside the package; tests of it start here."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "scripts" / "site"), str(ROOT / "scripts")]
collect_ignore = ["sample"]                        # scripts to be rendered, not tests
