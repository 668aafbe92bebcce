"""The page about kits contains the format from the README of a kit."""

import json
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_page_contains_the_format():
    page = (ROOT / "docs" / "oracle" / "kit.md").read_text(encoding="utf-8")
    done = subprocess.run([sys.executable, ROOT / "scripts" / "site" / "kit.py"], capture_output=True, text=True)
    text = json.loads(done.stdout)["kit"]
    assert "{{ kit }}" in page and "{{" not in text and text.startswith("## The files")
    headings = {heading.lower().replace(" ", "-") for heading in re.findall(r"^## (.*)$", text, re.M)}
    assert set(re.findall(r"\]\(#([\w-]+)\)", text)) <= headings, "a link to a section that the page lacks"
    assert {"case.txt", "answers", "tolerances", "flags"} <= headings
