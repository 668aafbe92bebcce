"""The torch backend under torch.compile, on tensors without data, and under autograd."""

import pytest

from engram_ref.model.engram import apply_module, engram
from engram_ref.ops.gate import ROOTS
from scripts.builders.small_modules import DIALECTS, V41
from tests.compare import assert_close
from tests.op_cases import op_of
from tests.op_cases_floats import CASES, FLOATS

torch = pytest.importorskip("torch", reason="torch is not installed")
from engram_ref.backends import torch as torch_ops  # noqa: E402  needs torch
from tests.torch_cases import arguments_of, mapped, module_arguments, outputs, tensor  # noqa: E402

ON_THE_HOST = {"routed_naive", "place", "append", "last"}
"""Ops that read indices or lengths on the host, according to their docstrings."""

WITHOUT_DATA = [name for name in CASES if op_of(name) != "routed_naive"]
COMPILED = [name for name in CASES if op_of(name) not in ON_THE_HOST]


@pytest.fixture
def fresh_compiler():
    """Reset the compiler, so that the order of the tests does not matter."""
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def compiled(function):
    return torch.compile(function, fullgraph=True, backend="eager")


def assert_same(name, expected, found):
    for e, f in zip(outputs(expected), outputs(found), strict=True):
        assert e.dtype == f.dtype
        assert_close(name, e.numpy(), f.numpy(), "exact")


@pytest.mark.parametrize("name", COMPILED)
@pytest.mark.usefixtures("fresh_compiler")
def test_an_op_compiles_to_one_graph(name):
    case = CASES[name]
    arguments = mapped(tensor, arguments_of(case))
    found = compiled(lambda *a: case.call(torch_ops, *a))(*arguments)
    assert_same(name, case.call(torch_ops, *arguments), found)


@pytest.mark.parametrize("config", [*DIALECTS.values(), V41], ids=lambda config: config.name)
@pytest.mark.usefixtures("fresh_compiler")
def test_a_module_compiles_to_one_graph(config):
    p, hidden, rows, taps = module_arguments(config)
    run = lambda *a: apply_module(*a, None, config, 2, torch_ops, torch_ops.ignore)[0]
    assert_same(config.name, run(p, hidden, rows, taps), compiled(run)(p, hidden, rows, taps))


@pytest.mark.parametrize("config", [*DIALECTS.values(), V41], ids=lambda config: config.name)
@pytest.mark.usefixtures("fresh_compiler")
def test_engram_without_checks_compiles_to_one_graph(config):
    p, hidden, rows, _ = module_arguments(config)
    run = lambda *a: engram(*a, config, ops=torch_ops, check=False)
    assert_same(config.name, run(p, hidden, rows), compiled(run)(p, hidden, rows))


@pytest.mark.parametrize("shape", [(2, 5), (2, 0)], ids=lambda s: f"T={s[1]}")
@pytest.mark.parametrize("name", WITHOUT_DATA)
def test_ops_run_on_meta_tensors(name, shape):
    """Tensors on the "meta" device have no values, so code that needs one, such as int() or if, raises."""
    case = CASES[name]
    arguments = arguments_of(case, shape)
    expected = outputs(case.call(torch_ops, *mapped(tensor, arguments)))
    found = outputs(case.call(torch_ops, *mapped(lambda x: tensor(x).to("meta"), arguments)))
    assert [(f.shape, f.dtype) for f in found] == [(e.shape, e.dtype) for e in expected]
    if name not in ("positions_after", "join none"):                # no tensor argument sets their device
        assert {f.device.type for f in found} == {"meta"}


@pytest.mark.parametrize("config", [*DIALECTS.values(), V41], ids=lambda config: config.name)
def test_modules_run_on_meta_tensors(config):
    p, hidden, rows, taps = module_arguments(config, "meta")
    Y, _ = apply_module(p, hidden, rows, taps, None, config, 2, torch_ops, torch_ops.ignore)
    assert Y.shape == hidden.shape and Y.device.type == "meta"


def test_reading_a_value_of_a_meta_tensor_raises():
    for read in (bool, int, torch.Tensor.item, torch.nonzero):
        with pytest.raises((RuntimeError, NotImplementedError)):
            read(torch.ones((), device="meta"))


CHECKED = [name for name in FLOATS if op_of(name) in (
    "sigmoid", "gate", *ROOTS, "score", "factored_score", "rms_norm", "short_conv", "conv_silu",
    "moe", "routed_grouped", "routed_naive", "softmax", "sinkhorn", "branch_maps", "collapse", "cross_entropy", "mla",
    "project_and_gate", "gated_update", "swiglu", "rotate")]


@pytest.mark.parametrize("name", CHECKED)
def test_gradients_match_finite_differences(name):
    """Compare along a random direction; arrays inside dictionaries are leaves too."""
    case, leaves = FLOATS[name], []

    def leaf(array):
        x = tensor(array)
        if x.is_floating_point() and x.numel():
            leaves.append(x.requires_grad_())
        return x

    arguments = mapped(leaf, arguments_of(case, (1, 2)))

    def call(*values):
        given = {id(leaf): value for leaf, value in zip(leaves, values, strict=True)}
        results = outputs(case.call(torch_ops, *mapped(lambda x: given.get(id(x), x), arguments)))
        return tuple(y for y in results if y.is_floating_point())

    assert torch.autograd.gradcheck(call, leaves, fast_mode=True)


def test_the_slope_of_the_sigmoid_at_zero():
    x = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    torch_ops.sigmoid(x).backward()
    assert x.grad.item() == 0.25


def test_gradients_reach_the_router_through_the_weights():
    p, x = mapped(lambda array: tensor(array).requires_grad_(), arguments_of(CASES["moe"]))
    CASES["moe"].call(torch_ops, p, x).sum().backward()
    assert p["gate.weight"].grad.abs().sum() > 0 and p["gate.bias"].grad is None
