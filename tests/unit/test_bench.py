"""The benchmark: its arithmetic, what it refuses, that everything runs; never how fast anything is."""

import ast
import json
import os
import statistics
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("numba", reason="numba is not installed")
import numba

from engram_ref.bench import measure as clock
from engram_ref.bench import run as benchmark
from engram_ref.bench.case import OURS, Case, Comparison, compared, spread
from engram_ref.bench.measure import can_reset, extra, interleaved
from engram_ref.bench.report import alt_text, cells, chart_svg, finding, notes, verdicts
from engram_ref.bench.run import Progress, chosen_rows, excuse, measure
from engram_ref.bench.setting import Setting, cores, load_rivals
from engram_ref.cli import terminal
from engram_ref.cli.bench import lines
from engram_ref.errors import InputError
from tests.bench_results import made_up
from tests.unit.test_cli import run

SVG = "{http://www.w3.org/2000/svg}"
needs_jit = pytest.mark.skipif(numba.config.DISABLE_JIT, reason="nothing to measure without the JIT")


# Arithmetic --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("values, expected", [([3.0], (3, 3, 3)), ([2.0, 1.0], (1.5, 1.25, 1.75)),
                                              ([5.0, 1.0, 9.0, 3.0, 7.0], (5, 3, 7))],
                         ids=["one", "two", "five"])
def test_spread_is_linear_between_neighbours(values, expected):
    found = tuple(spread(values).values())
    assert found == expected
    if len(values) > 1:
        q1, median, q3 = statistics.quantiles(values, n=4, method="inclusive")
        assert found == (median, q1, q3)


def judged(kind, ours, other, goal, sides=(), failed="", excuse=""):
    asked = Comparison(kind, "another", goal)
    case = Case("work", {}, 1, dict(sides), [asked], failed=failed)
    return compared(asked, {OURS: ours, "another": other}, case, excuse)


@pytest.mark.parametrize("kind, goal, value, verdict", [
    ("faster", 2.0, 2.0, "met"), ("faster", 2.1, 2.0, "missed"), ("limit", 2.0, 2.0, "met"),
    ("limit", 2.1, 2.0, "missed"), ("memory", 0.5, 0.5, "met"), ("memory", 0.4, 0.5, "missed"),
    ("later", -4000.0, -4000.0, "met"), ("later", -4001.0, -4000.0, "missed"), ("faster", None, 2.0, "not judged"),
])
def test_a_verdict_is_of_the_median_of_the_rounds(kind, goal, value, verdict):
    found = judged(kind, [4.0, 1.0, 4.0], [8.0, 100.0, 8.0], goal)       # the middle round was disturbed
    assert (found["median"], found["verdict"]) == (value, verdict)


def test_a_ratio_is_taken_within_each_round():
    """The second round's rival was disturbed; the ratio of both medians would be 6."""
    found = judged("faster", [1.0, 2.0, 4.0], [3.0, 20.0, 12.0], 3.0)
    assert [found[name] for name in ("median", "q1", "q3")] == [3.0, 3.0, 6.5]


def test_what_is_missing_failed_or_excused_is_not_met():
    absent = judged("faster", [1.0], [9.0], 2.0, {"another": "needs torch"})
    assert (absent["median"], absent["verdict"], absent["why"]) == (None, "not judged", "needs torch")
    failed = judged("later", [1.0], [9.0], 15.0, failed="loads torch as well")
    assert (failed["verdict"], failed["why"]) == ("missed", "loads torch as well")
    excused = judged("faster", [1.0], [9.0], 2.0, excuse="too small")
    assert (excused["median"], excused["verdict"], excused["why"]) == (9.0, "not judged", "too small")


@pytest.mark.parametrize("change, said", [
    ({"quick": True}, "small sizes"), ({"avx512": False}, "AVX-512"), ({"threads": 3}, "at most 2 threads"),
    ({"blas": 5}, "threadpoolctl"), ({}, "")], ids=["quick", "no AVX-512", "threads", "BLAS", "none"])
def test_why_goals_are_not_judged(monkeypatch, change, said):
    monkeypatch.setattr(benchmark, "has_avx512", lambda: change.get("avx512", True))
    monkeypatch.setattr(benchmark, "blas_threads", lambda wanted: change.get("blas", wanted))
    case = Case("work", {}, change.get("threads", 2), {}, [], uses_blas=True)
    found = excuse(case, Setting(quick=change.get("quick", False)))
    assert said in found and bool(said) == bool(found)


# The clock ---------------------------------------------------------------------------------------------


def test_sides_take_turns_and_short_calls_are_repeated(monkeypatch):
    now, called = [0.0], []

    def side(name, seconds):
        def call():
            called.append(name)
            now[0] += seconds
        return call

    monkeypatch.setattr(clock.time, "perf_counter", lambda: now[0])
    said = []
    found = interleaved({"a": side("a", 1.0), "b": side("b", 0.25)}, 3, 0.4, said.append)
    assert found == {"a": [1.0] * 3, "b": [0.25] * 3}
    assert "".join(called) == "aabb" + "abb" + "bba" + "abb"              # two to warm up, then round by round
    assert said == ["round 1 of 3", "round 2 of 3", "round 3 of 3"]


def test_progress_speaks_every_two_seconds():
    now, written = [0.0], []
    said = Progress(written.append, lambda: now[0])
    for second in range(6):
        now[0] = float(second)
        said(f"at {second}")
    assert written == ["at 2", "at 4"]


@pytest.mark.skipif(not can_reset(), reason="this system does not tell a process its peak of memory")
def test_extra_memory_counts_what_was_freed_again():
    size = 2**26

    def passing():
        np.ones(size, dtype=np.uint8)

    kept = extra(lambda: np.ones(size, dtype=np.uint8))
    assert extra(lambda: None) < size // 2 < min(kept, extra(passing)) <= kept < 2 * size


# What it refuses ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("argv, said", [
    (["--only", "P13"], "did you mean P3?"), (["--only", ""], "one of P1"), (["--rounds", "6"], "at least 7"),
    (["--threads", "0"], "from 1 to"), (["--threads", "9999"], "from 1 to"), (["--out", "result.txt"], ".json"),
    (["--plot", "no/such/folder.svg"], "folder")],
    ids=["unknown row", "no row", "rounds", "no threads", "too many threads", "ending", "folder"])
@needs_jit
def test_bad_options_are_one_line_and_exit_2(capsys, argv, said):
    code, out, err = run(capsys, "bench", *argv)
    assert (code, out) == (2, "") and said in err and err.count("\n") == 1


def test_without_the_compiler_there_is_nothing_to_measure(capsys, monkeypatch):
    monkeypatch.setenv("NUMBA_DISABLE_JIT", "1")
    code, _, err = run(capsys, "bench", "--quick")
    assert code == 2 and "NUMBA_DISABLE_JIT" in err and err.count("\n") == 1


def test_rows_are_chosen_by_name_in_the_table_s_order():
    assert chosen_rows("p10, P2") == ["P2", "P10"] and chosen_rows(None) == list(benchmark.ROWS)
    with pytest.raises(InputError, match="one of P1"):
        chosen_rows("P1,")


# A whole run -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def quick():
    """Every row at small sizes, as JSON would hold it."""
    if numba.config.DISABLE_JIT:
        pytest.skip("nothing to measure without the JIT")
    setting = Setting(rounds=2, quick=True, threads=min(2, cores()), rivals=load_rivals())
    return json.loads(json.dumps(measure(benchmark.ROWS, setting, lambda text: None), allow_nan=False))


def test_every_row_is_measured_and_nothing_is_judged(quick):
    ids = [row["id"] for row in quick["rows"]]
    assert list(dict.fromkeys(ids))[:12] == [f"P{i}" for i in range(1, 13)]
    assert verdicts(quick)["met"] == verdicts(quick)["missed"] == 0 < verdicts(quick)["not judged"]
    goals = [asked["goal"] for row in quick["rows"] for asked in row["comparisons"] if asked["goal"] is not None]
    assert len(goals) == (19 if quick["threading"]["threads"] == 2 else 17)


def test_a_result_has_its_whole_shape(quick):
    assert set(quick) == {"schema", "date", "quick", "rounds", "machine", "versions", "threading", "rows", "notes"}
    assert set(quick["machine"]) == {"cpu", "cores", "avx512", "caches", "memory_gib", "system"}
    assert len(quick["date"]) == len("2000-01-02") and os.uname().nodename not in json.dumps(quick)
    for row in quick["rows"]:
        assert set(row) == {"id", "what", "sizes", "threads", "unit", "sides", "comparisons", "note"}
        for side in row["sides"].values():
            assert 0 < side["q1"] <= side["median"] <= side["q3"]
        for asked in row["comparisons"]:
            assert set(asked) == {"kind", "of", "against", "goal", "median", "q1", "q3", "verdict", "why"}
            assert (asked["median"] is None) == (asked["against"] not in row["sides"] or
                                                 asked["of"] not in row["sides"])
            assert asked["median"] is not None or asked["why"]


def test_every_limit_of_the_table_is_there(quick):
    limits = {row["id"]: asked["against"] for row in quick["rows"] for asked in row["comparisons"]
              if asked["kind"] == "limit"}
    assert {f"P{i}" for i in range(1, 12)} <= set(limits) and len(set(limits.values())) >= 8


@pytest.mark.parametrize("columns", [80, 120])
def test_text_fits_the_terminal(monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", str(columns))
    shown = lines(made_up())
    assert max(map(terminal.columns, shown)) <= columns
    assert "  4.00x as fast as a rival, quartiles 4.00x to 4.22x" in shown and "a note of the run" in shown


def test_cells_say_what_was_found():
    first, second, absent, _ = cells(made_up())
    assert first == ["P1", "some work", "2", "4.00x as fast as a rival", "4.00x to 4.22x", "at least 3.00x", "met"]
    assert second[3:] == ["56% of the limit: a wall", "53% to 58%", "at least 80%", "missed"]
    assert absent[3:] == ["as fast as an absent rival: needs patience", "", "at least 2.00x", "not judged"]
    assert notes(made_up()) == ["P1: a fact", "P1 not judged: needs patience", "a note of the run"]


@needs_jit
def test_the_command_writes_what_it_measured(capsys, tmp_path):
    out, plot = tmp_path / "result.json", tmp_path / "chart.svg"
    code, printed, _ = run(capsys, "bench", "--quick", "--only", "P4", "--json", "--out", str(out), "--plot", str(plot))
    result = json.loads(printed)
    assert code == 0 and result == json.loads(out.read_bytes()) and plot.read_bytes() == chart_svg(result)
    assert [row["id"] for row in result["rows"]] == ["P4"] and result["rounds"] == 7 and result["quick"]


@pytest.mark.parametrize("ours, code", [((1.0, 1.1, 0.9), 1), ((0.5, 0.5, 0.5), 0)], ids=["missed", "met"])
@needs_jit
def test_the_exit_code_tells_whether_a_goal_was_missed(capsys, monkeypatch, ours, code):
    monkeypatch.setattr(benchmark, "measure", lambda *_: made_up(ours))
    assert run(capsys, "bench")[0] == code


def test_without_baselines_the_rows_say_so():
    case = next(benchmark.ROWS["P6"](Setting(quick=True)))
    assert set(case.missing()) == {"NumPy", "torch, eager"}
    assert set(case.missing().values()) == {"needs scripts/baselines.py"}


def test_threads_are_set_for_torch_and_set_back():
    torch = pytest.importorskip("torch")
    before = torch.get_num_threads()
    with Setting().using(1):
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == before


def test_rivals_use_nothing_of_ours():
    tree = ast.parse(Path(load_rivals().__file__).read_text(encoding="utf-8"))
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    allowed = {"ctypes", "subprocess", "tempfile", "pathlib", "numpy", "torch"}
    assert {name.split(".")[0] for name in imported} == allowed


# The chart ---------------------------------------------------------------------------------------------


def test_the_chart_states_its_finding_and_speaks():
    result = made_up()
    root = ElementTree.fromstring(chart_svg(result))
    assert root.get("role") == "img"
    assert [root.find(f"{SVG}{tag}").text for tag in ("title", "desc")] == [finding(result), alt_text(result)]
    assert finding(result).startswith("2 of 2 measurements reach 50% or more") and "the least is 50%" in finding(result)
    assert "P1  some work, 2 threads: 56% of a wall" in alt_text(result)
    assert chart_svg(result) == chart_svg(result)


def test_a_chart_of_nothing_says_so():
    assert "Nothing was held against a limit" in chart_svg(made_up() | {"rows": []}).decode()
