"""The page of choices and deviations holds every mark of the source, and nothing else."""

import re
from pathlib import Path

import choices

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "engram_ref"

SOURCE = '''
"""Values. A "choice" is explained beside it."""
EPS: dict = {
    "first": {"form": "a",
              "eps": 1e-6},      # choice: usual
    "second": {"eps": None},     # from the demo
}
ONE = Config(
    name="one",
    width=8,                     # choice
    depth=2,                     # published
)
TWO = replace(ONE, name="two", width=16)    # a choice of ours would say so first
'''


def test_values_are_found_with_owner_and_reason():
    assert choices.choices(SOURCE) == [("EPS['first']", "eps", "1e-06", "usual"), ("one", "width", "8", "")]


def test_a_deviation_ends_with_its_paragraph():
    source = '"""Idea.\n\nDeviation: the demo counts\nfrom one.\n\nMore."""\n\n# Deviation: two\n# lines\nx = 1\n'
    assert choices.deviations(source) == ["the demo counts from one.", "two lines"]
    assert choices.deviations('"""Idea.\n\nDeviation: to the end."""\nx = 1\n') == ["to the end."]


def test_every_mark_of_the_package_is_on_the_page():
    page = choices.page(ROOT)["reference/choices.md"]
    presets = (PACKAGE / "presets.py").read_text(encoding="utf-8")
    marked = re.findall(r"#\s*choice\b", presets)
    departed = [line for file in PACKAGE.rglob("*.py") for line in file.read_text(encoding="utf-8").splitlines()
                if "Deviation:" in line]
    values, places = page.split("## Where the code departs")
    assert marked and len(re.findall(r"^\| `", values, re.M)) == len(marked)
    assert departed and places.count("\n- [`") == len(departed)
