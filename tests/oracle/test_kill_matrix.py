"""The committed kill matrix: complete, without survivors, and equal to a new computation of some of its rows.

`scripts/kill_matrix.py --check`, which .ci/run calls, compares the whole file.
"""

import json
from dataclasses import replace

import pytest

from engram_ref.oracle.bugs import BUGS
from engram_ref.oracle.cases import topic_of
from engram_ref.oracle.check.judge import judge
from engram_ref.oracle.kit.write import with_noise
from engram_ref.oracle.vectors import read
from scripts import kill_matrix
from scripts.gate_test import gate_test
from scripts.kill_matrix import FILE, FORMS, KILLED, NOT_APPLICABLE, Port

SAMPLED = ("window-late", "dead-no-latch", "trunc-mod", "e8m0-shift", "eps-1e-6", "lt-for-copysign", "bf16-gate",
           "taps-reversed", "kv-swap")
SMALL = ("hashing", "codecs", "norm", "gate", "conv", "tables")


@pytest.fixture(scope="module")
def matrix():
    return json.loads(FILE.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def small():
    """The golden cases of some topics, with their noise."""
    vectors = read()
    return replace(vectors, cases=tuple(with_noise(case, vectors) for case in vectors.cases
                                        if topic_of(case.op) in SMALL and case.result != "invalid"))


def test_the_file_has_every_bug_and_form(matrix):
    assert list(matrix["cells"]) == list(BUGS) and matrix["forms"] == list(FORMS)
    for rows in matrix["cells"].values():
        assert {len(row) for row in rows.values()} == {len(matrix["groups"])}
        assert set("".join(rows.values())) <= set("Ks=.")


@pytest.mark.parametrize("form", FORMS[:2])
def test_no_bug_survives_in_float64_and_float32(matrix, form):
    assert matrix["survivors"][form] == {}
    assert [name for name, rows in matrix["cells"].items() if KILLED not in rows[form]] == []


@pytest.mark.parametrize("form", FORMS[2:])
def test_a_bug_without_a_kill_has_a_reason(matrix, form):
    hidden = {name for name, rows in matrix["cells"].items() if KILLED not in rows[form] and set(rows[form]) != {"."}}
    assert set(matrix["survivors"][form]) == hidden and all(matrix["survivors"][form].values())


def test_the_public_gate_test_passes_bugs_that_the_kit_kills(matrix):
    assert matrix["gate test"] == gate_test()
    passed = matrix["gate test"]["passed"]
    assert len(passed) >= 6 and all(KILLED in matrix["cells"][name]["float32"] for name in passed)


@pytest.mark.parametrize("name", SAMPLED)
def test_rows_of_small_ops_equal_a_new_computation(matrix, small, name, monkeypatch):
    monkeypatch.setattr(kill_matrix, "kit", lambda: small)
    for cached in (kill_matrix.called, kill_matrix.ports):
        cached.cache_clear()
    groups = {case.group for case in small.cases if case.kind == "plain"}
    found = kill_matrix.row(name)
    for form in FORMS:
        row = dict(zip(matrix["groups"], matrix["cells"][name][form], strict=True))
        assert {group: found[form].get(group, NOT_APPLICABLE) for group in groups} == {g: row[g] for g in groups}
    kill_matrix.called.cache_clear()
    kill_matrix.ports.cache_clear()


@pytest.mark.parametrize("form", FORMS)
def test_correct_ports_pass(small, form):
    """Also of a module: a port in 16 bits rounds where it stores, which is exactly what V4.1 prescribes."""
    vectors = read()
    module = [with_noise(case, vectors) for case in vectors.cases if case.op == "engram" and case.result != "invalid"]
    port = Port(form, small)
    failed = [case.name for case in (*small.cases, *module[::3]) if port.accepts(case)
              for result in judge(case, small, port.right(case)) if not result.ok]
    assert failed == []


