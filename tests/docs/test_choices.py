"""The page of choices and deviations lists exactly the marks in the source."""

import re
from pathlib import Path

import choices

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "engram_ref"

SOURCE = '''
"""Values. A "choice" has a comment."""
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
_PART = Part(
    rank=None,                   # choice: 1536 does not fit
                                 # the printed count
    eps=1e-6,

    # about the next line
    scale=2.5,                   # choice: V3's
)

# about what follows
'''


def test_choices_are_found_with_owner_and_reason():
    assert set(choices.choices(SOURCE)) == {
        ("EPS['first']", "eps", "1e-06", "usual"), ("one", "width", "8", ""),
        ("_PART", "rank", "None", "1536 does not fit the printed count"), ("_PART", "scale", "2.5", "V3's")}


def test_a_deviation_extends_to_the_end_of_its_paragraph():
    source = '"""Idea.\n\nDeviation: the demo counts\nfrom one.\n\nMore."""\n\n# Deviation: two\n# lines\nx = 1\n'
    assert choices.deviations(source) == ["the demo counts from one.", "two lines"]
    assert choices.deviations('"""Idea.\n\nDeviation: to the end."""\nx = 1\n') == ["to the end."]


def test_every_mark_in_the_source_is_on_the_page():
    page = choices.page(ROOT)["reference/choices.md"]
    sections = page.split("\n## ")
    for name, title in (("presets.py", "Values that no source publishes: Engram"),
                        ("model_presets.py", "Values that no source publishes: the backbone")):
        marked = re.findall(r"#\s*choice\b", (PACKAGE / name).read_text(encoding="utf-8"))
        [section] = [text for text in sections if text.startswith(title)]
        assert marked and len(re.findall(r"^\| `", section, re.M)) == len(marked), name
    departed = [line for file in PACKAGE.rglob("*.py") for line in file.read_text(encoding="utf-8").splitlines()
                if "Deviation:" in line]
    places = page.split("## Where the code departs")[1]
    assert departed and places.count("\n- [`") == len(departed)
