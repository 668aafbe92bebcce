"""Verdicts: each can be reached, and every criterion reads the runs that its text names."""

import math

import numpy as np
import pytest

from engram_ref.lab import memory
from engram_ref.lab.memory import CRITERIA, EXPERIMENT, GRID, LONG, SHORT
from engram_ref.lab.verdicts import INCONCLUSIVE, NOT_REPLICATED, REPLICATED, STUDENT, interval, judge


@pytest.mark.parametrize("differences, margin, verdict", [
    ((0.20, 0.21, 0.22), 0.01, REPLICATED),
    ((0.20, 0.21, 0.22), 0.25, NOT_REPLICATED),         # certain, but smaller than what would matter
    ((-0.20, -0.21, -0.22), 0.01, NOT_REPLICATED),
    ((0.001, -0.001, 0.002), 0.01, NOT_REPLICATED),
    ((0.3, 0.1, -0.1), 0.01, INCONCLUSIVE),
    ((0.020, 0.021, 0.004), 0.01, INCONCLUSIVE),        # every seed is positive, but the interval contains 0
    ((0.20, 0.21), 0.01, INCONCLUSIVE),
    ((0.20, None, 0.21), 0.01, INCONCLUSIVE),
    ((0.2,), 0.01, INCONCLUSIVE), ((), 0.01, INCONCLUSIVE),
    ((0.5,) * 5 + (0.7, 0.6, -0.01), 0.01, INCONCLUSIVE),       # one seed has the other sign
])
def test_verdicts(differences, margin, verdict):
    found = judge(differences, margin)
    assert found.verdict == verdict
    assert found.values == tuple(x for x in differences if x is not None)


def test_the_interval_is_that_of_a_textbook():
    """Mean 5, standard deviation 2 and 4 values: 5 +- 3.182 * 2 / 2."""
    values = 5 + 2 * np.array([-1, -1, 1, 1]) * math.sqrt(3) / 2
    assert interval(values) == pytest.approx((5 - 3.182, 5 + 3.182))


@pytest.mark.parametrize("degrees", range(1, 10))
def test_quantiles_are_those_of_students_t(degrees):
    """The density is integrated from 0 to the quantile; the table has three decimals."""
    scale = math.gamma((degrees + 1) / 2) / math.gamma(degrees / 2) / math.sqrt(degrees * math.pi)
    density = lambda x: scale * (1 + x * x / degrees) ** (-(degrees + 1) / 2)
    x = np.linspace(0, STUDENT[degrees - 1], 100_001)
    area = np.trapezoid(density(x), x)
    assert abs(area - 0.475) <= 0.0005 * density(STUDENT[degrees - 1]) + 1e-9


def results(**changed):
    """Results of one seed in which nothing differs, except losses of some runs: world_moe=0.1 adds 0.1."""
    evaluation = lambda step, more: {
        "step": step, "loss": 3 - step / 1000 + more, "outside": 2.0 - step / 1000, "auc": {
            "settled": 0.5, "formula": 0.5, "ends": 0.5}, "answers": {"look-up": 0.5, "needle": 0.5, "fact": 0.5},
        "zero": {"answers": {"look-up": 0.25, "needle": 0.25, "fact": 0.25}},
        "mean": {"answers": {"look-up": 0.25, "needle": 0.25, "fact": 0.25}}}
    more = lambda run: changed.get(run.key.replace("-", "_"), 0)
    return {run.key: {"evaluations": [evaluation(step, more(run)) for step in run.evaluate]} for run in EXPERIMENT.runs}


def end(runs, key):
    return runs[key]["evaluations"][-1]


LOSS = {"world end": f"world_{LONG}_moe", "world early": f"world_{LONG}_moe", "world active": f"world_{LONG}_moe_wide",
        "kjv": f"kjv_{SHORT}_moe", "kjv active": f"kjv_{SHORT}_moe_wide", "one row": f"world_{SHORT}_one_row",
        "shuffled": f"world_{SHORT}_shuffled", "rate": f"world_{SHORT}_x1", "one branch": f"world_{SHORT}_moe",
        "four branches": f"world_{SHORT}_moe_4", "needs branches": f"world_{SHORT}_moe_4"}


@pytest.mark.parametrize("criterion", CRITERIA, ids=lambda c: c.name)
def test_a_criterion_is_zero_if_nothing_differs_and_undefined_without_results(criterion):
    assert criterion.difference(results()) == pytest.approx(0)
    assert criterion.difference({}) is None
    assert criterion.margin > 0 and criterion.reason


@pytest.mark.parametrize("name, run", LOSS.items())
def test_a_worse_control_is_a_positive_difference(name, run):
    difference = {c.name: c.difference for c in CRITERIA}[name]
    assert difference(results(**{run: 0.125})) == pytest.approx(0.125)
    others = {key.replace("-", "_"): 0.125 for key in results()} | {run: 0.0}
    others[run.replace("moe_wide", "engram").replace("moe", "engram")] = 0.0
    others |= {f"world_{SHORT}_engram": 0.0, f"kjv_{SHORT}_engram": 0.0, f"world_{LONG}_engram": 0.0}
    others |= {f"world_{SHORT}_moe": 0.0} if name == "needs branches" else {}
    assert difference(results(**others)) == pytest.approx(0), "another run matters"


def by_name(name):
    return {c.name: c.difference for c in CRITERIA}[name]


def test_look_ups_at_equal_tokens():
    runs = results()
    for e in runs[f"world-{LONG}-engram"]["evaluations"]:
        e["answers"]["look-up"] = 0.75 if e["step"] > LONG / 2 else 0.5
    assert by_name("equal tokens")(runs) == pytest.approx(0.125)


@pytest.mark.parametrize("name, loss", [("equal loss", "loss"), ("equal loss outside", "outside")])
def test_look_ups_at_equal_loss(name, loss):
    """Recall is a function of the loss: if it is the same one, a faster model has no advantage."""
    runs = results()
    for key, faster in ((f"world-{LONG}-engram", 0.25), (f"world-{LONG}-moe", 0.0)):
        for e in runs[key]["evaluations"]:
            e[loss] -= faster
            e["answers"]["look-up"] = 1 - e[loss] / 4
    assert by_name(name)(runs) == pytest.approx(0)
    assert by_name("equal tokens")(runs) == pytest.approx(0.25 / 4)
    for e in runs[f"world-{LONG}-engram"]["evaluations"]:
        e["answers"]["look-up"] += 0.125
    assert by_name(name)(runs) == pytest.approx(0.125)
    for e in runs[f"world-{LONG}-engram"]["evaluations"]:
        e[loss] -= 100
    assert by_name(name)(runs) is None, "no loss is equal"


@pytest.mark.parametrize("form", ["zero", "mean"])
def test_retained_recall(form):
    runs = results()
    last = end(runs, f"world-{LONG}-engram")
    last[form]["answers"] |= {"look-up": 0.5, "needle": 0.25, "fact": -0.05}
    assert by_name(f"suppressed by {form}")(runs) == pytest.approx((1 + 0.5) / 2 - 0)
    last["answers"]["needle"] = 0.05
    assert by_name(f"suppressed by {form}")(runs) == pytest.approx(1), "a kind that was not learned does not count"
    last["answers"]["fact"] = 0.05
    assert by_name(f"suppressed by {form}")(runs) is None


@pytest.mark.parametrize("name, run, what", [
    ("settled world", f"world-{LONG}", "settled"), ("settled kjv", f"kjv-{SHORT}", "settled"),
    ("formula world", f"world-{LONG}", "formula"), ("formula kjv", f"kjv-{SHORT}", "formula"),
    ("ends", f"world-{LONG}", "ends")])
def test_the_gate_as_a_detector(name, run, what):
    runs = results()
    end(runs, f"{run}-engram")["auc"][what] = 0.75
    assert by_name(name)(runs) == pytest.approx(0.25)
    assert [c.name for c in CRITERIA if c.difference(runs)] == [name]


def test_the_plan_fits_and_its_names_are_unique():
    assert len({run.name for run in EXPERIMENT.runs}) == len(EXPERIMENT.runs)
    assert sum(run.config.steps * run.seconds for run in EXPERIMENT.runs) / 2 <= 55 * 60
    assert len({c.name for c in CRITERIA}) == len(CRITERIA)
    assert {step % GRID for run in EXPERIMENT.runs for step in run.evaluate} == {0, memory.EARLY}
    assert all(sum(run.key == other.key for other in EXPERIMENT.runs) >= 3 for run in EXPERIMENT.runs)
