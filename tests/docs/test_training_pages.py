"""The pages about gradients and optimisers: their code runs, and their numbers are those of the code."""

import re
from pathlib import Path

import numpy as np
import pytest

from engram_ref import model_preset
from engram_ref.ops.gate import ROOT_CLAMP
from engram_ref.ops.updates import NEWTON_SCHULZ, RMS, bias_update
from engram_ref.training.groups import TABLE_RATE, paper_optimiser
from engram_ref.training.optimisers import Adam, Muon
from tests.unit.test_optimisers import RANGES

REFERENCE = Path(__file__).parents[2] / "docs" / "reference"
GRADIENTS, OPTIMISERS = ((REFERENCE / f"{name}.md").read_text(encoding="utf-8") for name in ("gradients", "optimisers"))


def rows(page):
    """The cells of every line of the page's tables, without heads."""
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
            for table in re.findall(r"\| ---.*\n((?:\|.*\n)+)", page) for line in table.splitlines()]


def run(page):
    space = {}
    for block in [part.split("```")[0] for part in page.split("```python\n")[1:]]:
        exec(block, space)
    return space


def test_the_code_about_gradients_runs():
    space = run(GRADIENTS)
    assert set(space["gradients"]) == {name for name, array in space["parameters"].items() if array.dtype.kind == "f"}
    assert space["gradients"]["embed.weight"].rows.tolist() == [5, 6, 7]


def test_the_code_about_optimisers_runs():
    space = run(OPTIMISERS)
    assert space["norm"] == 4.0
    assert np.abs(space["parameters"]["norm.weight"] - 1).max() < 4e-4 / 2000 * 2


def test_the_table_of_groups():
    optimisers = paper_optimiser(model_preset("tiny"), 1.0).optimisers
    expected = [["matrix", "Muon", "1", "0.1"], ["vector, conv, embedding, output", "Adam", "1", "0.1"],
                ["table", "lazy Adam", f"{TABLE_RATE:g}", "0"]]
    assert rows(OPTIMISERS)[:3] == expected
    for optimiser, (_, kind, rate, decay) in zip(optimisers.values(), expected, strict=True):
        assert isinstance(optimiser, Muon if kind == "Muon" else Adam)
        assert f"{optimiser.lr:g}" == rate and f"{optimiser.weight_decay:g}" == decay
    assert optimisers["table"].lazy and Adam(1.0).eps == 1e-8 and "default of 1e-8" in OPTIMISERS


def test_the_table_of_iterations():
    """A test of the update rules computes the ranges."""
    (low, high), (below, above) = RANGES["classic"], RANGES["hybrid"]
    assert rows(OPTIMISERS)[3:] == [["`classic`", "5", f"{low} to {high}"], ["`hybrid`", "8 + 2", "within 0.001 of 1"]]
    assert [len(NEWTON_SCHULZ[name]) for name in ("classic", "hybrid")] == [5, 10]
    assert (below, above) == (1 - 0.001, 1 + 0.001)
    assert f"{RMS['classic']} (classic) or {RMS['hybrid']} (hybrid)" in OPTIMISERS


def test_the_clamp_on_the_page():
    assert f"{ROOT_CLAMP:.0e}".replace("e-0", "e-") == "1e-6" and GRADIENTS.count("1e-6") == 2


@pytest.mark.parametrize("counts, grows", [([10, 1, 1, 0], True), ([4, 4, 4, 0], False)])
def test_the_mean_bias_grows_with_more_experts_below_the_mean(counts, grows):
    assert (bias_update(np.zeros(4), np.array(counts), 0.001).mean() > 0) == grows
    assert abs(bias_update(np.zeros(4), np.array(counts), 0.001, centred=True).mean()) < 1e-18
