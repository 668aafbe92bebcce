"""Make the site's scripts importable; they are in scripts/, outside the package."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "scripts" / "site"), str(ROOT / "scripts")]
collect_ignore = ["sample"]                        # scripts to be rendered, not tests
