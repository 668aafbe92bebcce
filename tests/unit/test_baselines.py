"""The baselines of the benchmark return the same answers as this package."""

import numpy as np
import pytest

pytest.importorskip("numba", reason="numba is not installed")
import numba

from engram_ref import Trace, engram, ops
from engram_ref.bench.case import OURS
from engram_ref.bench.run import ROWS
from engram_ref.bench.setting import Setting, load_baselines
from tests.bounds import conv_scale, module_scale
from tests.compare import assert_close
from tests.unit.test_experts import answer_scale

pytestmark = pytest.mark.skipif(numba.config.DISABLE_JIT, reason="the benchmark does not run without the JIT")


def cases(row):
    return list(ROWS[row](Setting(quick=True, threads=1, baselines=load_baselines())))


def answers(case):
    """{name: answer} of ours and of every available baseline."""
    baselines = {asked.against for asked in case.comparisons if asked.metric == "speedup"} - set(case.missing())
    return {name: case.variants[name]() for name in (OURS, *sorted(baselines))}


def as_float64(value):
    """Convert float32 arrays, alone or in a dictionary, to float64."""
    if isinstance(value, dict):
        return {name: as_float64(array) for name, array in value.items()}
    return value.astype(np.float64) if isinstance(value, np.ndarray) and value.dtype == np.float32 else value


@pytest.mark.parametrize("row", ["rows-bulk", "rows-batch", "rows-v4.1", "rows-step", "gather", "dequantise"])
def test_rows_and_table_lookups_are_bit_equal(row):
    for case in cases(row):
        found = answers(case)
        assert len(found) > 1 or case.missing(), case.title
        for name, answer in found.items():
            assert_close(f"{case.title}: {name}", found[OURS], np.asarray(answer), "exact")


@pytest.mark.parametrize("row", ["rows-bulk", "rows-batch", "rows-v4.1"])
def test_our_rows_equal_the_definition(row):
    for case in cases(row):
        ours = case.variants[OURS]
        assert_close("rows", ops.address_layers(*ours.args), ours(), "exact")


def test_module_outputs_agree():
    case, = cases("forward")
    parameters, hidden, rows, config = map(as_float64, case.variants[OURS].args)
    trace = Trace()
    truth = engram(parameters, hidden, rows, config, trace=trace)
    scale = module_scale({key: trace[key] for key in trace}, parameters, config, hidden)
    for name, answer in answers(case).items():
        assert_close(name, truth, answer, "f32", config.memory_width + config.hidden_size, scale)


def test_convolution_outputs_agree():
    case, = cases("conv")
    x, weight, dilation, taps = map(as_float64, case.variants[OURS].args)
    truth, scale = ops.conv_silu(x, weight, dilation, taps), conv_scale(x, np.zeros_like(x), weight, dilation)
    for name, answer in answers(case).items():
        assert_close(name, truth, answer, "f32", weight.shape[-1], scale)


def test_expert_outputs_agree():
    case, = cases("experts")
    parameters, x, config = map(as_float64, case.variants[OURS].args)
    truth, scale = ops.moe(parameters, x, config), answer_scale(parameters, x[0], config)[None]
    longest = 2 * x.shape[-1] + 3 * config.moe_intermediate_size + config.num_experts_per_tok
    for name, answer in answers(case).items():
        assert_close(name, truth, answer, "f32", longest, scale)
