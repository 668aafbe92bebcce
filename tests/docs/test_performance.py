"""The performance page shows the numbers of its result file."""

import json
import re

import performance
import pytest

from engram_ref.bench.case import METRICS
from engram_ref.bench.report import RESULTS as RESULTS_FOLDER
from engram_ref.bench.report import amount, heading, newest
from engram_ref.bench.run import ROWS
from tests.bench_results import made_up

NEWEST = newest()
committed = pytest.mark.skipif(NEWEST is None, reason="no result is committed")


RESULTS = {"made up": made_up()}
if NEWEST is not None:
    RESULTS["committed"] = json.loads(NEWEST.read_text(encoding="utf-8"))
each_result = pytest.mark.parametrize("result", RESULTS.values(), ids=list(RESULTS))


def lines_of_table(page):
    """The displayed cells of the page's first table, without its header."""
    first = re.search(r"(?:^\|.*\n)+", page, re.M)[0].splitlines()[2:]
    return [[re.sub(r"\\(.)", r"\1", cell.strip()) for cell in line[2:-1].split(" | ")] for line in first]


@each_result
def test_the_table_matches_the_result_file(result):
    compared = [(row, asked) for row in result["rows"] for asked in row["comparisons"]]
    lines = lines_of_table(performance.page(result, "file.json"))
    assert len(lines) == len(compared) > 0
    for (row, asked), (work, found, quartiles, goal, status) in zip(compared, lines, strict=True):
        assert work == heading(row) and asked["against"] in found
        if asked["median"] is None:
            assert asked["reason"] in found and quartiles == ""
        else:
            shown = {amount(asked["metric"], asked[q]) for q in ("q1", "q3")}
            assert found.startswith(amount(asked["metric"], asked["median"])) and set(quartiles.split(" to ")) == shown
        if asked["goal"] is None:
            assert (goal, status) == ("", "")
        else:
            side = "least" if METRICS[asked["metric"]].more_is_better else "most"
            assert (goal, status) == (f"at {side} {amount(asked['metric'], asked['goal'])}", asked["status"])


@each_result
def test_page_shows_date_machine_notes_and_variants(result):
    page = re.sub(r"\\(.)", r"\1", performance.page(result, "file.json"))
    expected = [result["date"], result["machine"]["cpu"], *result["versions"].values(), *result["notes"],
            *(row["note"] for row in result["rows"]), *(name for row in result["rows"] for name in row["variants"]),
            "{{ figure: performance }}", "performance/results/file.json"]
    assert [text for text in expected if text not in page] == []


def test_newest_result_has_the_latest_date(tmp_path):
    assert newest(tmp_path) is None
    for name in ("2026-01-31-b.json", "2026-02-01-a.json", "2026-01-02-c.json"):
        (tmp_path / name).touch()
    assert newest(tmp_path).name == "2026-02-01-a.json"


@committed
def test_committed_result_is_a_full_run():
    result = json.loads(NEWEST.read_text(encoding="utf-8"))
    assert NEWEST.name.startswith(result["date"]) and not result["quick"] and result["rounds"] >= 7
    assert {name for name in ROWS if not name.startswith("cuda-")} <= {row["row"] for row in result["rows"]}


def test_committed_result_of_a_cuda_device_is_a_full_run_and_is_on_the_page():
    path = newest(RESULTS_FOLDER / "cuda")
    result = json.loads(path.read_text(encoding="utf-8"))
    assert path.name.startswith(result["date"]) and not result["quick"] and result["rounds"] >= 7
    assert {row["row"] for row in result["rows"]} == {name for name in ROWS if name.startswith("cuda-")}
    section = performance.cuda_section(result, path.name)
    page = re.sub(r"\\(.)", r"\1", performance.page(made_up(), "file.json", section))
    shown = [path.name, *(row["sizes"]["device"] for row in result["rows"]),
             *(amount(asked["metric"], asked["median"]) for row in result["rows"] for asked in row["comparisons"])]
    assert [text for text in shown if text not in page] == []
