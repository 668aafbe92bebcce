"""Flags: what a case contains, and the bugs that its failure suggests, as in the Wycheproof vectors."""

import json
from pathlib import Path

FLAGS: dict[str, str] = json.loads(Path(__file__).with_suffix(".json").read_text(encoding="utf-8"))
"""Flag -> content of the case: bugs that it detects."""
