"""Diagnosis: emulated ports with known bugs, pairs of bugs, unknown mistakes and correct ports."""

from dataclasses import replace

import numpy as np
import pytest

from engram_ref.oracle.bugs import BUGS
from engram_ref.oracle.check.diagnose import diagnose
from engram_ref.oracle.check.judge import judge
from engram_ref.oracle.check.report import order_of
from engram_ref.oracle.kit.write import with_noise
from engram_ref.oracle.vectors import read
from scripts.kill_matrix import Port

OPS = ("windows", "mix", "table_rows", "dequantise", "inverse_rms", "gate", "copysign_sqrt", "addressing_stream",
       "engram", "canonicalise", "pcg64_multipliers")


@pytest.fixture(scope="module")
def kit():
    """The golden cases of some ops, with their noise."""
    vectors = read()
    return replace(vectors, cases=tuple(with_noise(case, vectors) for case in vectors.cases
                                        if case.op in OPS and case.result == "valid"))


def diagnosis(kit, form, *names, only=OPS, change=lambda name, stages: stages):
    """Return the diagnosis of a port with some bugs, whose answers are changed at last."""
    port, answers, failures = Port(form, kit), {}, {}
    for case in kit.cases:
        if port.accepts(case) and case.op in only:
            answers[case.name] = change(case.name, port.answers(case, *(BUGS[name] for name in names)))
            results = judge(case, kit, answers[case.name])
            if not all(result.ok for result in results):
                failures[case.name] = results
    first = lambda case: order_of(case, next(r.stage for r in failures[case.name] if not r.ok))
    failed = sorted((case for case in kit.cases if case.name in failures), key=first)
    others = [case for case in kit.cases if case.name not in failures]
    return diagnose(replace(kit, cases=(*failed, *others)), answers, failures)


ALONE = ("window-late", "dead-no-latch", "trunc-mod", "e8m0-shift", "eps-1e-5", "clamp-missing", "sign-for-copysign",
         "history-lost-T1", "multipliers-for-raw-size")
MODULE = ("taps-reversed", "eps-outside", "gains-of-branch-0", "returns-residual")


@pytest.mark.parametrize("name", ALONE)
def test_a_known_bug_is_named(kit, name):
    found = diagnosis(kit, "float32", name)
    assert found.names == (name,) and f"equal to bug `{name}` in " in found.lines[0]


@pytest.mark.parametrize("form", ["float32", "bf16 outputs"])
@pytest.mark.parametrize("name", MODULE)
def test_a_bug_of_the_module_is_named_from_the_module_alone(kit, form, name):
    assert diagnosis(kit, form, name, only=("engram",)).names == (name,)


@pytest.mark.parametrize("name", ["kv-swap", "scale-missing"])
def test_a_bug_is_named_from_stages_stored_in_16_bits(kit, name):
    assert diagnosis(kit, "bf16 stages", name, only=("engram",)).names == (name,)


def test_of_two_bugs_the_earlier_is_named_at_its_stage(kit):
    assert diagnosis(kit, "float32", "kv-swap", "taps-reversed", only=("engram",)).names == ("kv-swap",)


def test_two_bugs_of_a_fused_port_are_named_together(kit):
    found = diagnosis(kit, "bf16 outputs", "scale-missing", "taps-reversed", only=("engram",))
    assert [set(name.split(" + ")) for name in found.names] == [{"scale-missing", "taps-reversed"}]


def test_one_different_element_prevents_a_name(kit):
    def change(name, stages):
        rows = stages["output"]
        return stages | {"output": np.where(np.arange(rows.size).reshape(rows.shape) == rows.size - 1, rows ^ 1, rows)}

    found = diagnosis(kit, "float64", "window-late", only=("mix",), change=change)
    assert found.names == () and "no known bug; nearest: window-late (" in found.lines[0]


@pytest.mark.parametrize("change", [lambda a: a * 1.01, lambda a: a[..., ::-1].copy(), np.zeros_like],
                         ids=["scaled", "reversed", "zeros"])
def test_unknown_mistakes_are_not_named(kit, change):
    found = diagnosis(kit, "float32", only=("engram",), change=lambda name, stages: {
        stage: change(array) if stage == "key" else array for stage, array in stages.items()})
    assert found.names == () and found.lines[0].startswith("engram, stage key: no known bug")


@pytest.mark.parametrize("form", ["float32", "bf16 outputs"])
def test_a_correct_port_has_no_diagnosis(kit, form):
    assert diagnosis(kit, form) == diagnosis(kit, form, only=()) and diagnosis(kit, form).lines == ()
