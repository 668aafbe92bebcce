"""The page of the bug catalogue: every bug has one row with an anchor, and the example runs."""

import re
from pathlib import Path

import bugs

from engram_ref.oracle.bugs import BUGS, LEFT_OUT

PAGE = (Path(__file__).parents[2] / "docs" / "oracle" / "bugs.md").read_text(encoding="utf-8")


def test_every_bug_has_one_row_in_the_table_of_its_stage():
    sections = re.split(r"^### First wrong stage: `(\w+)`$", bugs.catalogue(), flags=re.M)[1:]
    found = [(name, stage) for stage, text in zip(sections[::2], sections[1::2], strict=True)
             for name in re.findall(r'^\| <a id="(.*?)"></a>`\1`', text, re.M)]
    assert sorted(found) == sorted((bug.name, bug.stage) for bug in BUGS.values())
    assert all(line.count(" | ") == 4 for line in bugs.catalogue().splitlines() if line.startswith("| <a"))


def test_every_defect_without_an_entry_is_listed():
    assert re.findall(r"^\| `(.*?)` \| ", bugs.left_out(), re.M) == list(LEFT_OUT)
    assert "{{ bugs }}" in PAGE and "{{ bugs left out }}" in PAGE


def test_the_example_runs(capsys):
    [block] = re.findall(r"```python\n(.*?)```", PAGE, re.S)
    exec(compile(block, "page", "exec"), {})
    assert capsys.readouterr().out == "[[[ 49 653]]]\n[[[ 67 653]]]\n"


def test_every_bug_that_the_page_names_exists():
    assert set(re.findall(r"--explain ([\w-]+)|namespace_with\(\"([\w-]+)\"\)", PAGE)) == {
        ("window-late", ""), ("", "window-late")}
