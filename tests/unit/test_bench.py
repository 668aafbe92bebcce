"""The benchmark: its arithmetic, its errors, and a run of every row. No test asserts a speed."""

import ast
import json
import os
import statistics
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

pytest.importorskip("numba", reason="numba is not installed")
import numba

from engram_ref.bench import run as benchmark
from engram_ref.bench import timing
from engram_ref.bench.case import OURS, Case, Comparison, compare, spread
from engram_ref.bench.report import alt_text, cells, chart_svg, finding, notes, status_counts
from engram_ref.bench.run import Progress, chosen_rows, measure, not_judged
from engram_ref.bench.setting import BASELINES, Setting, cores, load_baselines
from engram_ref.bench.timing import can_reset, extra, interleaved
from engram_ref.cli import terminal
from engram_ref.cli.bench import lines
from engram_ref.errors import InputError
from tests.bench_results import made_up
from tests.unit.test_cli import run

SVG = "{http://www.w3.org/2000/svg}"
CPU_ROWS = [name for name in benchmark.ROWS if not name.startswith("cuda-")]
CUDA_ROWS = [name for name in benchmark.ROWS if name.startswith("cuda-")]
needs_jit = pytest.mark.skipif(numba.config.DISABLE_JIT, reason="the benchmark needs the JIT")


# Arithmetic --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("values, expected", [([3.0], (3, 3, 3)), ([2.0, 1.0], (1.5, 1.25, 1.75)),
                                              ([5.0, 1.0, 9.0, 3.0, 7.0], (5, 3, 7))],
                         ids=["one", "two", "five"])
def test_quartiles_are_interpolated_linearly(values, expected):
    found = tuple(spread(values).values())
    assert found == expected
    if len(values) > 1:
        q1, median, q3 = statistics.quantiles(values, n=4, method="inclusive")
        assert found == (median, q1, q3)


def judged(metric, ours, other, goal, variants=(), failure="", reason=""):
    comparison = Comparison(metric, "another", goal)
    case = Case("work", {}, 1, dict(variants), [comparison], failure=failure)
    return compare(comparison, {OURS: ours, "another": other}, case, reason)


@pytest.mark.parametrize("metric, goal, value, status", [
    ("speedup", 2.0, 2.0, "met"), ("speedup", 2.1, 2.0, "missed"), ("limit", 2.0, 2.0, "met"),
    ("limit", 2.1, 2.0, "missed"), ("memory", 0.5, 0.5, "met"), ("memory", 0.4, 0.5, "missed"),
    ("delay", -4000.0, -4000.0, "met"), ("delay", -4001.0, -4000.0, "missed"), ("speedup", None, 2.0, "not judged"),
])
def test_medians_are_compared_with_the_goals(metric, goal, value, status):
    found = judged(metric, [4.0, 1.0, 4.0], [8.0, 100.0, 8.0], goal)       # the second round was disturbed
    assert (found["median"], found["status"]) == (value, status)


def test_ratios_are_computed_per_round():
    """The baseline was disturbed in the second round; the ratio of the medians would be 6."""
    found = judged("speedup", [1.0, 2.0, 4.0], [3.0, 20.0, 12.0], 3.0)
    assert [found[name] for name in ("median", "q1", "q3")] == [3.0, 3.0, 6.5]


def test_missing_failed_or_unjudged_goals_are_not_met():
    absent = judged("speedup", [1.0], [9.0], 2.0, {"another": "needs torch"})
    assert (absent["median"], absent["status"], absent["reason"]) == (None, "not judged", "needs torch")
    failed = judged("delay", [1.0], [9.0], 15.0, failure="it also loads torch")
    assert (failed["status"], failed["reason"]) == ("missed", "it also loads torch")
    unjudged = judged("speedup", [1.0], [9.0], 2.0, reason="too small")
    assert (unjudged["median"], unjudged["status"], unjudged["reason"]) == (9.0, "not judged", "too small")


@pytest.mark.parametrize("change, expected", [
    ({"quick": True}, "small sizes"), ({"avx512": False}, "AVX-512"), ({"threads": 3}, "at most 2 threads"),
    ({"blas": 5}, "BLAS uses 5 threads"), ({}, "")], ids=["quick", "no AVX-512", "threads", "BLAS", "none"])
def test_reasons_for_not_judging(monkeypatch, change, expected):
    monkeypatch.setattr(benchmark, "has_avx512", lambda: change.get("avx512", True))
    monkeypatch.setattr(benchmark, "blas_threads", lambda wanted: change.get("blas", wanted))
    case = Case("work", {}, change.get("threads", 2), {}, [], uses_blas=True)
    reason = not_judged(case, Setting(quick=change.get("quick", False)))
    assert expected in reason and bool(expected) == bool(reason)


# Timing ------------------------------------------------------------------------------------------------


def test_variants_alternate_and_short_calls_are_repeated(monkeypatch):
    now, called = [0.0], []

    def variant(name, seconds):
        def call():
            called.append(name)
            now[0] += seconds
        return call

    monkeypatch.setattr(timing.time, "perf_counter", lambda: now[0])
    messages = []
    found = interleaved({"a": variant("a", 1.0), "b": variant("b", 0.25)}, 3, 0.4, messages.append)
    assert found == {"a": [1.0] * 3, "b": [0.25] * 3}
    assert "".join(called) == "aabb" + "abb" + "bba" + "abb"              # two calls to warm up, then the rounds
    assert messages == ["round 1 of 3", "round 2 of 3", "round 3 of 3"]


def test_progress_is_written_every_two_seconds():
    now, written = [0.0], []
    progress = Progress(written.append, lambda: now[0])
    for second in range(6):
        now[0] = float(second)
        progress(f"at {second}")
    assert written == ["at 2", "at 4"]


@pytest.mark.skipif(not can_reset(), reason="this system does not report peak memory")
def test_extra_memory_includes_freed_temporaries():
    size = 2**26

    def temporary():
        np.ones(size, dtype=np.uint8)

    kept = extra(lambda: np.ones(size, dtype=np.uint8))
    assert extra(lambda: None) < size // 2 < min(kept, extra(temporary)) <= kept < 2 * size


# Errors ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("argv, expected", [
    (["--only", "gathr"], "did you mean gather?"), (["--only", ""], "one of rows-bulk"),
    (["--rounds", "6"], "at least 7"),
    (["--threads", "0"], "1 to "), (["--threads", "9999"], "1 to "), (["--out", "result.txt"], ".json"),
    (["--plot", "no/such/folder.svg"], "folder")],
    ids=["unknown row", "no row", "rounds", "no threads", "too many threads", "ending", "folder"])
@needs_jit
def test_bad_options_print_one_line_and_exit_2(capsys, argv, expected):
    code, out, err = run(capsys, "bench", *argv)
    assert (code, out) == (2, "") and expected in err and err.count("\n") == 1


def test_bench_without_the_jit_exits_2(capsys, monkeypatch):
    monkeypatch.setenv("NUMBA_DISABLE_JIT", "1")
    code, _, err = run(capsys, "bench", "--quick")
    assert code == 2 and "NUMBA_DISABLE_JIT" in err and err.count("\n") == 1


def test_rows_are_chosen_in_table_order():
    assert chosen_rows("experts, Rows-Batch") == ["rows-batch", "experts"] and chosen_rows(None) == list(benchmark.ROWS)
    with pytest.raises(InputError, match="one of rows-bulk"):
        chosen_rows("gather,")


# A full run --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def quick():
    """A result of every row at small sizes, after a JSON round trip."""
    if numba.config.DISABLE_JIT:
        pytest.skip("the benchmark needs the JIT")
    setting = Setting(rounds=2, quick=True, threads=min(2, cores()), baselines=load_baselines())
    return json.loads(json.dumps(measure(benchmark.ROWS, setting, lambda text: None), allow_nan=False))


def test_a_quick_run_measures_every_row_without_judging(quick):
    names = list(dict.fromkeys(row["row"] for row in quick["rows"]))
    assert [name for name in names if name not in CUDA_ROWS] == CPU_ROWS
    assert status_counts(quick)["met"] == status_counts(quick)["missed"] == 0 < status_counts(quick)["not judged"]
    goals = [asked["goal"] for row in quick["rows"] for asked in row["comparisons"] if asked["goal"] is not None]
    assert len(goals) == (22 if quick["threading"]["threads"] == 2 else 20)


def test_result_has_every_field(quick):
    assert set(quick) == {"schema", "date", "quick", "rounds", "machine", "versions", "threading", "rows", "notes"}
    assert set(quick["machine"]) == {"cpu", "cores", "avx512", "caches", "memory_gib", "system"}
    assert len(quick["date"]) == len("2000-01-02") and os.uname().nodename not in json.dumps(quick)
    for row in quick["rows"]:
        assert set(row) == {"row", "title", "sizes", "threads", "unit", "variants", "comparisons", "note"}
        for values in row["variants"].values():
            assert 0 < values["q1"] <= values["median"] <= values["q3"]
        for asked in row["comparisons"]:
            assert set(asked) == {"metric", "of", "against", "goal", "median", "q1", "q3", "status", "reason"}
            assert (asked["median"] is None) == (asked["against"] not in row["variants"] or
                                                 asked["of"] not in row["variants"])
            assert asked["median"] is not None or asked["reason"]


def test_every_row_but_import_and_training_has_a_limit(quick):
    limits = {row["row"]: asked["against"] for row in quick["rows"] for asked in row["comparisons"]
              if asked["metric"] == "limit"}
    assert set(CPU_ROWS) - {"import", "train"} <= set(limits) and len(set(limits.values())) >= 8


@pytest.mark.parametrize("columns", [80, 120])
def test_text_fits_the_terminal(monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", str(columns))
    shown = lines(made_up())
    assert max(map(terminal.columns, shown)) <= columns
    assert "  4.00x as fast as a baseline, quartiles 4.00x to 4.22x" in shown and "a note of the run" in shown


def test_cells_show_value_quartiles_goal_and_status():
    first, second, absent, _ = cells(made_up())
    assert first == ["some work, 2 threads", "4.00x as fast as a baseline", "4.00x to 4.22x", "at least 3.00x", "met"]
    assert second[1:] == ["56% of the limit: a wall", "53% to 58%", "at least 80%", "missed"]
    assert absent[1:] == ["as fast as an absent baseline: needs patience", "", "at least 2.00x", "not judged"]
    assert notes(made_up()) == ["some work: a fact", "not judged, needs patience: some work", "a note of the run"]


@needs_jit
def test_command_writes_its_result(capsys, tmp_path):
    out, plot = tmp_path / "result.json", tmp_path / "chart.svg"
    files = ["--out", str(out), "--plot", str(plot)]
    code, printed, _ = run(capsys, "bench", "--quick", "--only", "rows-step", "--json", *files)
    result = json.loads(printed)
    assert code == 0 and result == json.loads(out.read_bytes()) and plot.read_bytes() == chart_svg(result)
    assert [row["row"] for row in result["rows"]] == ["rows-step"] and result["rounds"] == 7 and result["quick"]


@pytest.mark.parametrize("ours, code", [((1.0, 1.1, 0.9), 1), ((0.5, 0.5, 0.5), 0)], ids=["missed", "met"])
@needs_jit
def test_exit_code_is_1_if_a_goal_was_missed(capsys, monkeypatch, ours, code):
    monkeypatch.setattr(benchmark, "measure", lambda *_: made_up(ours))
    assert run(capsys, "bench")[0] == code


def test_missing_baselines_are_reported():
    case = next(benchmark.ROWS["dequantise"](Setting(quick=True)))
    assert set(case.missing()) == {"NumPy", "torch, eager"}
    assert set(case.missing().values()) == {"needs scripts/baselines.py"}


def test_torch_threads_are_set_and_restored():
    torch = pytest.importorskip("torch")
    before = torch.get_num_threads()
    with Setting().using(1):
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == before


@pytest.mark.parametrize("name, others", [
    ("baselines", {"ctypes", "subprocess", "tempfile", "pathlib", "numpy"}), ("train_baseline", set())])
def test_baselines_do_not_import_this_package(name, others):
    (path,) = (folder / f"{name}.py" for folder in BASELINES if (folder / f"{name}.py").is_file())
    tree = ast.parse(path.read_text(encoding="utf-8"))
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {name.split(".")[0] for name in imported} == {"torch"} | others


# The chart ---------------------------------------------------------------------------------------------


def test_chart_has_a_title_and_alt_text():
    result = made_up()
    root = ElementTree.fromstring(chart_svg(result))
    assert root.get("role") == "img"
    assert [root.find(f"{SVG}{tag}").text for tag in ("title", "desc")] == [finding(result), alt_text(result)]
    assert finding(result).startswith("2 of 2 measurements reach 50% or more")
    assert "the lowest is 50%" in finding(result)
    assert "some work, 2 threads: 56% of the limit, a wall" in alt_text(result)
    assert chart_svg(result) == chart_svg(result)


def test_chart_without_comparisons():
    assert "Nothing was compared with a limit" in chart_svg(made_up() | {"rows": []}).decode()
