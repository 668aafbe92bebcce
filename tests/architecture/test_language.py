"""Words that texts and names avoid, with the technical term to use instead."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
AVOIDED = {
    "twin": "version, as in torch version", "seam": "namespace or entry point", "side by side": "concatenated",
    "whole number": "integer", "so many": "the number itself", "whatever": "any, or the thing itself",
    "at hand": "available",
}
FILES = [*ROOT.glob("*.md"), *(path for folder in ("engram_ref", "scripts", "tests", "tutorials", "docs")
                               for pattern in ("*.py", "*.md") for path in (ROOT / folder).rglob(pattern)
                               if path != Path(__file__)), *(ROOT / "engram_ref" / "oracle").rglob("*.json")]


def uses_of(phrase, text):
    """Line numbers at which a text contains the phrase, also as part of a name, in singular or plural."""
    pattern = re.compile(rf"(?<![a-z]){'[ _]+'.join(phrase.split())}s?(?![a-z])", re.I)
    return [number for number, line in enumerate(text.splitlines(), 1) if pattern.search(line)]


@pytest.mark.parametrize("phrase", AVOIDED)
def test_avoided_phrases(phrase):
    found = [f"{path.relative_to(ROOT)}:{line}" for path in FILES
             for line in uses_of(phrase, path.read_text(encoding="utf-8"))]
    assert found == [], f"use {AVOIDED[phrase]}"


@pytest.mark.parametrize("line", ["the twin of it", "def test_twins_agree", "two whole numbers", "rows SIDE by side"])
def test_an_avoided_phrase_is_found(line):
    assert any(uses_of(phrase, line) for phrase in AVOIDED)
