"""The rivals of the benchmark compute what we compute: one that computed something else would be worthless."""

import numpy as np
import pytest

pytest.importorskip("numba", reason="numba is not installed")
import numba

from engram_ref import Trace, engram, ops
from engram_ref.bench.case import OURS
from engram_ref.bench.run import ROWS
from engram_ref.bench.setting import Setting, load_rivals
from tests.bounds import conv_scale, module_scale
from tests.compare import assert_close
from tests.unit.test_experts import answer_scale

pytestmark = pytest.mark.skipif(numba.config.DISABLE_JIT, reason="the benchmark does not run without the JIT")


def cases(row):
    return list(ROWS[row](Setting(quick=True, threads=1, rivals=load_rivals())))


def rivals_of(case):
    """{name: answer} of every rival that can run here, ours among them."""
    rivals = {asked.against for asked in case.compare if asked.kind == "faster"} - set(case.missing())
    return {name: case.sides[name]() for name in (OURS, *sorted(rivals))}


def as_float64(value):
    """Float32 arrays, alone or in a dictionary, as float64."""
    if isinstance(value, dict):
        return {name: as_float64(array) for name, array in value.items()}
    return value.astype(np.float64) if isinstance(value, np.ndarray) and value.dtype == np.float32 else value


@pytest.mark.parametrize("row", ["P1", "P2", "P3", "P4", "P5", "P6"])
def test_rows_and_tables_are_the_same_bits(row):
    for case in cases(row):
        found = rivals_of(case)
        assert len(found) > 1 or case.missing(), case.what
        for name, answer in found.items():
            assert_close(f"{case.what}: {name}", found[OURS], np.asarray(answer), "exact")


@pytest.mark.parametrize("row", ["P1", "P2", "P3"])
def test_our_rows_are_those_of_the_definition(row):
    for case in cases(row):
        ours = case.sides[OURS]
        assert_close("rows", ops.address_layers(*ours.args), ours(), "exact")


def test_the_module_gives_the_same_output():
    case, = cases("P7")
    parameters, hidden, rows, config = map(as_float64, case.sides[OURS].args)
    trace = Trace()
    truth = engram(parameters, hidden, rows, config, trace=trace)
    scale = module_scale({key: trace[key] for key in trace}, parameters, config, hidden)
    for name, answer in rivals_of(case).items():
        assert_close(name, truth, answer, "f32", config.memory_width + config.hidden_size, scale)


def test_the_convolution_gives_the_same_output():
    case, = cases("P9")
    x, weight, dilation, taps = map(as_float64, case.sides[OURS].args)
    truth, scale = ops.conv_silu(x, weight, dilation, taps), conv_scale(x, np.zeros_like(x), weight, dilation)
    for name, answer in rivals_of(case).items():
        assert_close(name, truth, answer, "f32", weight.shape[-1], scale)


def test_the_experts_give_the_same_output():
    case, = cases("P10")
    parameters, x, config = map(as_float64, case.sides[OURS].args)
    truth, scale = ops.moe(parameters, x, config), answer_scale(parameters, x[0], config)[None]
    longest = 2 * x.shape[-1] + 3 * config.moe_intermediate_size + config.num_experts_per_tok
    for name, answer in rivals_of(case).items():
        assert_close(name, truth, answer, "f32", longest, scale)
