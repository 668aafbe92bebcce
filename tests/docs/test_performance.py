"""The page of performance shows what its result file says, number by number."""

import json
import re

import performance
import pytest

from engram_ref.bench.case import KINDS
from engram_ref.bench.report import amount, newest
from tests.bench_results import made_up

NEWEST = newest()
committed = pytest.mark.skipif(NEWEST is None, reason="no result is committed")


RESULTS = {"made up": made_up()}
if NEWEST is not None:
    RESULTS["committed"] = json.loads(NEWEST.read_text(encoding="utf-8"))
each_result = pytest.mark.parametrize("result", RESULTS.values(), ids=list(RESULTS))


def lines_of_table(page):
    """The cells of every line of the page's first table, head left out, as a reader sees them."""
    first = re.search(r"(?:^\|.*\n)+", page, re.M)[0].splitlines()[2:]
    return [[re.sub(r"\\(.)", r"\1", cell.strip()) for cell in line[2:-1].split(" | ")] for line in first]


@each_result
def test_the_table_equals_the_file(result):
    compared = [(row, asked) for row in result["rows"] for asked in row["comparisons"]]
    lines = lines_of_table(performance.page(result, "file.json"))
    assert len(lines) == len(compared) > 0
    for (row, asked), (name, what, threads, found, quartiles, goal, verdict) in zip(compared, lines, strict=True):
        assert (name, what, threads) == (row["id"], row["what"], str(row["threads"])) and asked["against"] in found
        if asked["median"] is None:
            assert asked["why"] in found and quartiles == ""
        else:
            shown = {amount(asked["kind"], asked[q]) for q in ("q1", "q3")}
            assert found.startswith(amount(asked["kind"], asked["median"])) and set(quartiles.split(" to ")) == shown
        if asked["goal"] is None:
            assert (goal, verdict) == ("", "")
        else:
            side = "least" if KINDS[asked["kind"]].at_least else "most"
            assert (goal, verdict) == (f"at {side} {amount(asked['kind'], asked['goal'])}", asked["verdict"])


@each_result
def test_the_page_names_day_machine_notes_and_every_side(result):
    page = re.sub(r"\\(.)", r"\1", performance.page(result, "file.json"))
    told = [result["date"], result["machine"]["cpu"], *result["versions"].values(), *result["notes"],
            *(row["note"] for row in result["rows"]), *(side for row in result["rows"] for side in row["sides"]),
            "{{ figure: performance }}", "performance/results/file.json"]
    assert [text for text in told if text not in page] == []


def test_the_newest_result_is_the_last_day_s(tmp_path):
    assert newest(tmp_path) is None
    for name in ("2026-01-31-b.json", "2026-02-01-a.json", "2026-01-02-c.json"):
        (tmp_path / name).touch()
    assert newest(tmp_path).name == "2026-02-01-a.json"


@committed
def test_the_committed_result_is_a_whole_run():
    result = json.loads(NEWEST.read_text(encoding="utf-8"))
    assert NEWEST.name.startswith(result["date"]) and not result["quick"] and result["rounds"] >= 7
    assert {f"P{i}" for i in range(1, 13)} <= {row["id"] for row in result["rows"]}
