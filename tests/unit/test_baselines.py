"""The baselines of the benchmark return the same answers as this package."""

import numpy as np
import pytest

pytest.importorskip("numba", reason="numba is not installed")
import numba

from engram_ref import Trace, engram, ops
from engram_ref.bench import training
from engram_ref.bench.case import OURS
from engram_ref.bench.run import ROWS
from engram_ref.bench.setting import Setting, load_baselines
from engram_ref.model.transformer import forward
from engram_ref.model.tree import initialise
from engram_ref.ops.vjp.tables import RowGradient
from engram_ref.training.backward import differentiable, recorder_of
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


@pytest.mark.parametrize("title", ["training step", "training step without Engram"])
def test_the_plain_torch_model_has_our_loss_and_gradients(title):
    """Both are correct within the roundings of their longest sums; a term that is missing changes far more.

    n roundings of 2^-53 each are lost on the way through the model, and grow by the condition of its norms: with the
    eps of 1e-20 and 1e-6, and inputs of size 1, by less than 2^10.
    """
    torch = pytest.importorskip("torch", reason="torch is not installed")
    config, base = training.models()[title], load_baselines("train_baseline")
    rng = np.random.default_rng(14)
    parameters = {name: array if array.dtype.kind != "f" else array + 0.1 * rng.standard_normal(array.shape)
                  for name, array in initialise(config, rng, np.float64).items()}
    ids = rng.integers(0, config.backbone.vocab_size, (2, 14))
    recorder = recorder_of(ops)
    values, wanted = differentiable(parameters, recorder)
    losses = recorder.ops.cross_entropy(forward(values, ids[:, :-1], config, ops=recorder.ops), ids[:, 1:])
    found = recorder.gradients(losses, np.full(losses.shape, 1 / losses.array.size), wanted)

    model = base.model_of(parameters, config, training.hashing(config))
    loss = torch.nn.functional.cross_entropy(model(torch.tensor(ids[:, :-1])).flatten(0, 1),
                                             torch.tensor(ids[:, 1:]).flatten())
    loss.backward()
    theirs = {name: x.grad for name, x in model.named_parameters()}
    roundings = 2**10 * 2.0**-53 * (config.backbone.vocab_size + losses.array.size)
    assert abs(losses.array.mean() - loss.item()) <= roundings * loss.item()
    compared = set()
    for name, gradient in found.items():
        ours = gradient.dense() if isinstance(gradient, RowGradient) else gradient
        if name.endswith("gate.bias"):                       # affects only the choice
            assert not ours.any()
            continue
        compared.add(base.own_name(name))
        expected = theirs[base.own_name(name)].numpy().reshape(ours.shape)
        assert np.abs(expected).max() > 0 and np.abs(ours - expected).max() <= roundings * np.abs(expected).max(), name
    assert compared == set(theirs)
