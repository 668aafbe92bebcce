"""The generator of the golden vectors lies in scripts/, outside the package; tests of it start here."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))
