"""Optimisers against torch's, in float64, and against closed forms."""

import copy
import math

import numpy as np
import pytest

from engram_ref import ops
from engram_ref.backends import load
from engram_ref.errors import InputError
from engram_ref.model.declarations import engram_module, model
from engram_ref.model_presets import model_preset
from engram_ref.ops.updates import NEWTON_SCHULZ, RMS
from engram_ref.ops.vjp.tables import RowGradient, scatter_add
from engram_ref.presets import preset
from engram_ref.training.gradients import clip, mean_of_batches
from engram_ref.training.groups import TABLE_RATE, GroupedOptimiser, names_by_group, paper_optimiser
from engram_ref.training.optimisers import Adam, Muon
from engram_ref.training.schedule import warm_up_and_drops

SHAPES = {"wide": (5, 12), "tall": (12, 5), "square": (7, 7), "one row": (1, 9)}
RANGES = {"classic": (0.68, 1.21), "hybrid": (0.999, 1.001)}
"""The documented results of singular values that start above 0.01 of the norm."""

CLOSE = 64 * 2.0**-53         # a few dozen operations on numbers of about 1


def gradients(rng, shapes, steps=4):
    return [{name: rng.standard_normal(shape) for name, shape in shapes.items()} for _ in range(steps)]


def trained(optimiser, parameters, gradients):
    for each in gradients:
        parameters = optimiser.step(parameters, each)
    return parameters


# torch's optimisers ------------------------------------------------------------------------------------


def torch_trained(make, parameters, gradients):
    torch = pytest.importorskip("torch", reason="torch is not installed")
    tensors = {name: torch.tensor(x, requires_grad=True) for name, x in parameters.items()}
    optimiser = make(torch, list(tensors.values()))
    for each in gradients:
        for name, x in tensors.items():
            x.grad = as_tensor(torch, each[name]) if name in each else None
        optimiser.step()
    return {name: x.detach().numpy() for name, x in tensors.items()}


def as_tensor(torch, gradient):
    if not isinstance(gradient, RowGradient):
        return torch.tensor(gradient)
    rows, values = torch.tensor(gradient.rows)[None], torch.tensor(gradient.values)
    return torch.sparse_coo_tensor(rows, values, gradient.shape, check_invariants=True)


def largest_difference(expected, found):
    return max(np.abs(expected[name] - found[name]).max() for name in expected)


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
@pytest.mark.parametrize("eps", [1e-8, 1e-20])
def test_adam_equals_torch_adamw(rng, eps, weight_decay):
    start = {"w": rng.standard_normal((3, 4)), "b": rng.standard_normal(5)}
    given = gradients(rng, {"w": (3, 4), "b": (5,)}, 6)
    options = {"lr": 0.01, "weight_decay": weight_decay, "eps": eps}
    expected = torch_trained(lambda torch, p: torch.optim.AdamW(p, betas=(0.9, 0.95), **options), start, given)
    assert largest_difference(expected, trained(Adam(**options), start, given)) <= CLOSE


def test_a_parameter_without_a_gradient_counts_no_step(rng):
    """The correction of the means counts the steps of each parameter, as torch does."""
    start, given = {"w": rng.standard_normal(3), "v": rng.standard_normal(3)}, gradients(rng, {"w": 3, "v": 3})
    del given[0]["v"], given[2]["w"]
    expected = torch_trained(lambda torch, p: torch.optim.AdamW(p, 0.01, (0.9, 0.95), weight_decay=0.0), start, given)
    assert largest_difference(expected, trained(Adam(0.01), start, given)) <= CLOSE


def test_lazy_adam_equals_torch_sparse_adam(rng):
    """With an eps near 0: SparseAdam adds it before the correction of the root."""
    start = {"table": rng.standard_normal((9, 3))}
    given = [{"table": scatter_add(rng.integers(0, 9, 6), rng.standard_normal((6, 3)), (9, 3))} for _ in range(5)]
    expected = torch_trained(lambda torch, p: torch.optim.SparseAdam(p, 0.01, (0.9, 0.95), 1e-300), start, given)
    assert largest_difference(expected, trained(Adam(0.01, eps=1e-300), start, given)) <= CLOSE


def float64_newton_schulz(torch):
    """Torch's iteration without its conversion to bfloat16."""
    def run(gradient, coefficients, steps, eps):
        x = gradient if gradient.shape[0] <= gradient.shape[1] else gradient.T
        x = x / x.norm().clamp(min=eps)
        for _ in range(steps):
            gram = x @ x.T
            x = coefficients[0] * x + (coefficients[1] * gram + coefficients[2] * gram @ gram) @ x
        return x if gradient.shape[0] <= gradient.shape[1] else x.T

    return run


@pytest.mark.parametrize("nesterov", [True, False])
@pytest.mark.parametrize("scale, theirs", [("rms", "match_rms_adamw"), ("keller", "original")])
@pytest.mark.parametrize("shape", SHAPES.values(), ids=list(SHAPES))
def test_muon_equals_torch_muon(rng, monkeypatch, shape, scale, theirs, nesterov):
    torch = pytest.importorskip("torch", reason="torch is not installed")
    monkeypatch.setattr(torch.optim._muon, "_zeropower_via_newtonschulz", float64_newton_schulz(torch))
    start, given = {"w": rng.standard_normal(shape)}, gradients(rng, {"w": shape})
    make = lambda torch, p: torch.optim.Muon(p, 0.02, 0.1, 0.95, nesterov, adjust_lr_fn=theirs)
    expected = torch_trained(make, start, given)
    found = trained(Muon(0.02, 0.1, 0.95, nesterov, scale, form="ema"), start, given)
    assert largest_difference(expected, found) <= CLOSE
    sums = trained(Muon(0.02, 0.1, 0.95, nesterov, scale), start, given)         # the iteration normalises
    assert largest_difference(expected, sums) <= CLOSE


def test_stored_momenta_of_both_forms_differ_by_a_factor(rng):
    given, optimisers = gradients(rng, {"w": (3, 4)}), [Muon(0.02, form=form) for form in ("ema", "sum")]
    for optimiser in optimisers:
        trained(optimiser, {"w": np.ones((3, 4))}, given)
    average, total = (optimiser.arrays()["momentum/w"] for optimiser in optimisers)
    assert np.abs(average - (1 - 0.95) * total).max() <= CLOSE


# closed forms and properties ---------------------------------------------------------------------------


def polynomial(s, steps):
    for a, b, c in NEWTON_SCHULZ[steps]:
        s = a * s + b * s**3 + c * s**5
    return s


@pytest.mark.parametrize("steps", NEWTON_SCHULZ)
@pytest.mark.parametrize("shape", SHAPES.values(), ids=list(SHAPES))
def test_newton_schulz_maps_the_singular_values(rng, shape, steps):
    u, s, v = np.linalg.svd(rng.standard_normal(shape), full_matrices=False)
    expected = (u * polynomial(s / math.sqrt((s**2).sum()), steps)) @ v
    assert np.abs(ops.newton_schulz((u * s) @ v, steps) - expected).max() <= 64 * CLOSE      # slope at 0: 3.4^8


@pytest.mark.parametrize("steps", RANGES)
def test_documented_range_of_singular_values(steps):
    ends = polynomial(np.linspace(0.01, 1, 100_001), steps)
    assert RANGES[steps][0] < ends.min() and ends.max() < RANGES[steps][1]


def test_a_stack_is_one_matrix_each(rng):
    stack = rng.standard_normal((3, 4, 5)) * np.array([1.0, 100.0, 1e-3])[:, None, None]
    found = ops.newton_schulz(stack, "classic")
    for matrix, result in zip(stack, found, strict=True):
        assert np.abs(ops.newton_schulz(matrix, "classic") - result).max() <= CLOSE


def test_size_of_an_update(rng):
    """With "rms" and full rank, its root mean square is RMS; with "keller", it depends on the shape."""
    g = np.linalg.qr(rng.standard_normal((8, 8)))[0][:4]
    new, _ = ops.muon_update(0 * g, g, 0 * g, 1.0, 0.0, 0.0, False, "sum", "rms", "hybrid")
    assert abs(math.sqrt((new**2).mean()) / RMS["hybrid"] - 1) < 1e-3
    tall, _ = ops.muon_update(0 * g.T, g.T, 0 * g.T, 1.0, 0.0, 0.0, False, "sum", "keller", "hybrid")
    wide, _ = ops.muon_update(0 * g, g, 0 * g, 1.0, 0.0, 0.0, False, "sum", "keller", "hybrid")
    assert np.abs(tall - math.sqrt(2) * wide.T).max() <= CLOSE


def test_zero_matrix_and_zero_gradient():
    assert (ops.newton_schulz(np.zeros((3, 4)), "classic") == 0).all()
    start = {"w": np.ones((2, 3))}
    for optimiser in (Adam(0.1, 0.5), Muon(0.1, 0.5)):
        assert np.allclose(optimiser.step(start, {"w": np.zeros((2, 3))})["w"], 0.95, rtol=0, atol=CLOSE)


def test_first_step_of_adam_is_the_learning_rate():
    """The corrected means are g and g^2, so every number moves by lr, however small its gradient is."""
    new = Adam(0.01, eps=1e-300).step({"b": np.zeros(3)}, {"b": np.array([1e-9, -1.0, 1e5])})
    assert np.abs(new["b"] - [-0.01, 0.01, -0.01]).max() <= CLOSE


def test_a_tiny_eps_amplifies_rounding_noise():
    noise = {"b": np.array([1e-12])}
    assert abs(Adam(0.01).step({"b": np.zeros(1)}, noise)["b"][0]) < 1e-5
    assert abs(Adam(0.01, eps=1e-20).step({"b": np.zeros(1)}, noise)["b"][0]) > 0.0099


def test_dense_adam_moves_rows_that_were_not_read(rng):
    """Lazy and dense agree until a row is not read: its old mean then goes on moving it."""
    start, first = {"t": rng.standard_normal((4, 2))}, RowGradient(np.arange(4), np.ones((4, 2)), (4, 2))
    second = RowGradient(np.array([1]), np.ones((1, 2)), (4, 2))
    lazy, dense = Adam(0.1), Adam(0.1, lazy=False)
    after = [optimiser.step(start, {"t": first})["t"] for optimiser in (lazy, dense)]
    np.testing.assert_array_equal(*after)
    last = [optimiser.step({"t": t}, {"t": second})["t"] for optimiser, t in zip((lazy, dense), after, strict=True)]
    np.testing.assert_array_equal(last[0][[0, 2, 3]], after[0][[0, 2, 3]])
    mean, square = 0.9 * 0.1 / (1 - 0.9**2), 0.95 * 0.05 / (1 - 0.95**2)
    assert np.abs(last[1][0] - (after[1][0] - 0.1 * mean / (math.sqrt(square) + 1e-8))).max() <= CLOSE
    np.testing.assert_array_equal(last[0][1], last[1][1])


def test_biases_of_experts():
    bias, counts = np.array([0.1, 0.2, 0.3, 0.4]), np.array([5, 1, 3, 3])
    assert np.abs(ops.bias_update(bias, counts, 0.001) - [0.099, 0.201, 0.3, 0.4]).max() <= CLOSE
    assert abs(ops.bias_update(bias, counts, 0.001, centred=True).mean()) <= CLOSE
    assert ops.bias_update(bias.astype(np.float32), counts, 0.001).dtype == np.float32


# groups ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["tiny", "engram-27b"])
def test_every_trained_parameter_is_in_one_group(name):
    declared = list(model(model_preset(name)))
    groups = names_by_group(declared)
    listed = [n for names in groups.values() for n in names]
    assert sorted(listed) == sorted(p.name for p in declared if p.kind in ("weight", "table"))
    shapes = {p.name: p.shape for p in declared}
    assert all(len(shapes[n]) >= 2 for n in groups["matrix"])
    assert not [n for n in listed if n.endswith("gate.bias")]


def test_paper_optimiser():
    found = paper_optimiser(model_preset("tiny"), 4e-4)
    matrix, vector, table = found.optimisers.values()
    assert isinstance(matrix, Muon) and matrix.weight_decay == vector.weight_decay == 0.1
    assert table.lr == TABLE_RATE * vector.lr and table.weight_decay == 0.0 and table.lazy
    assert found.group_of["embed.weight"] == found.group_of["head.weight"] == "vector"
    assert isinstance(paper_optimiser(model_preset("tiny"), 1e-3, matrices="adam").optimisers["matrix"], Adam)


def test_groups_serve_torch_optimisers(rng):
    """The same names as parameter groups of torch give the same parameters after three steps."""
    declared = list(engram_module(preset("tiny"), preset("tiny").layer_ids[0]))
    groups = {"vector": names_by_group(declared)["vector"], "table": names_by_group(declared)["table"]}
    start = {p.name: rng.standard_normal(p.shape) for p in declared if p.group in groups}
    given = gradients(rng, {name: x.shape for name, x in start.items()}, 3)
    ours = GroupedOptimiser({"vector": (Adam(0.01, 0.1), groups["vector"]), "table": (Adam(0.05), groups["table"])})
    order = list(start)

    def theirs(torch, tensors):
        by_name = dict(zip(order, tensors, strict=True))
        parts = {group: [by_name[name] for name in names] for group, names in groups.items()}
        return torch.optim.AdamW([{"params": parts["vector"], "weight_decay": 0.1},
                                  {"params": parts["table"], "lr": 0.05, "weight_decay": 0.0}], 0.01, (0.9, 0.95))

    assert largest_difference(torch_trained(theirs, start, given), trained(ours, start, given)) <= CLOSE


@pytest.mark.parametrize("make", [lambda: Adam(0.1), lambda: Muon(0.1),
                                  lambda: GroupedOptimiser({"a": (Adam(0.1), ["w"]), "b": (Muon(0.1), ["v"])})],
                         ids=["adam", "muon", "groups"])
def test_a_restored_state_continues_bit_for_bit(rng, make):
    shapes = {"w": (3, 4), "v": (4, 3)}
    start, given = {name: rng.standard_normal(shape) for name, shape in shapes.items()}, gradients(rng, shapes)
    whole, first, second = make(), make(), make()
    middle = trained(first, start, given[:2])
    second.restore(copy.deepcopy(first.arrays()))
    expected, found = trained(whole, start, given), trained(second, middle, given[2:])
    assert {n: x.tobytes() for n, x in expected.items()} == {n: x.tobytes() for n, x in found.items()}


@pytest.mark.parametrize("make", [Adam, Muon])
def test_steps_and_state_of_tensors(rng, make):
    torch = pytest.importorskip("torch", reason="torch is not installed")
    start, given = {"w": rng.standard_normal((3, 4))}, gradients(rng, {"w": (3, 4)})
    tensors = [{"w": torch.tensor(each["w"])} for each in (start, *given)]
    first, second = make(0.1, 0.1, ops=load("torch")), make(0.1, 0.1, ops=load("torch"))
    middle = trained(first, tensors[0], tensors[1:3])
    second.restore(first.arrays())
    found = trained(second, middle, tensors[3:])["w"].numpy()
    assert np.abs(trained(make(0.1, 0.1), start, given)["w"] - found).max() <= CLOSE


# between gradients and optimiser -----------------------------------------------------------------------


def test_clipping_keeps_the_direction(rng):
    given = {"w": rng.standard_normal((3, 4)), "t": RowGradient(np.array([1, 5]), rng.standard_normal((2, 3)), (9, 3))}
    clipped, norm = clip(given, 1.0)
    total = math.sqrt((clipped["w"] ** 2).sum() + (clipped["t"].values ** 2).sum())
    assert norm > 1 and abs(total - 1) <= CLOSE
    assert np.abs(clipped["w"] * norm - given["w"]).max() <= CLOSE * norm
    same, _ = clip(given, 1e3)
    assert np.array_equal(same["w"], given["w"])


def test_batches_are_weighted_by_their_tokens(rng):
    rows = [RowGradient(np.array([0, 2]), rng.standard_normal((2, 3)), (4, 3)) for _ in range(2)]
    given = [{"w": rng.standard_normal(5), "t": row} for row in rows]
    found = mean_of_batches(given, [3, 1])
    assert np.abs(found["w"] - (0.75 * given[0]["w"] + 0.25 * given[1]["w"])).max() <= CLOSE
    assert np.abs(found["t"].dense() - (0.75 * rows[0].dense() + 0.25 * rows[1].dense())).max() <= CLOSE


def test_schedule():
    factors = [warm_up_and_drops(step, 1000, 100) for step in range(1, 1001)]
    assert factors[0] == 0.01 and factors[99] == factors[799] == 1.0
    assert factors[800] == factors[899] == 0.316 and factors[900] == factors[-1] == 0.1
    assert warm_up_and_drops(1, 1, 0) == 0.1


# bad input ---------------------------------------------------------------------------------------------

ONE = {"w": np.ones((2, 3)), "b": np.ones(3), "codes": np.zeros((2, 2), dtype=np.uint8)}
STATE = {"count": np.array(1), "mean": ONE["w"], "square": ONE["w"]}


def of_rows(rows, shape):
    return RowGradient(np.array(rows), np.ones(shape), (2, 3))


def restored(**changed):
    optimiser = Adam(0.1)
    optimiser.restore({f"{kind}/w": array for kind, array in (STATE | changed).items()})
    return optimiser


BAD_STEPS = {
    "gradient w: expected finite": lambda: Adam(0.1).step(ONE, {"w": np.full((2, 3), np.nan)}),
    "gradient w: expected shape": lambda: Adam(0.1).step(ONE, {"w": np.ones((3, 2))}),
    "gradient x: expected the name": lambda: Adam(0.1).step(ONE, {"x": np.ones((3, 2))}),
    "gradient w: expected dtype float64": lambda: Adam(0.1).step(ONE, {"w": np.ones((2, 3), dtype=np.float32)}),
    "gradient w: expected shape \\[1, 3\\]": lambda: Adam(0.1).step(ONE, {"w": of_rows([0], (1, 2))}),
    "parameter codes: expected a float": lambda: Adam(0.1).step(ONE, {"codes": np.ones((2, 2))}),
    "parameter b: expected a matrix": lambda: Muon(0.1).step(ONE, {"b": np.ones(3)}),
    "parameter w: expected a matrix": lambda: Muon(0.1).step(ONE, {"w": RowGradient(np.array([0]), np.ones((1, 3)),
                                                                                   (2, 3))}),
    "parameter b: expected a group": lambda: GroupedOptimiser({"all": (Adam(0.1), ["w"])}).step(ONE, {"b": ONE["b"]}),
    "parameter w: expected one group": lambda: GroupedOptimiser({"a": (Adam(0.1), ["w"]), "b": (Adam(0.1), ["w"])}),
    "lr: expected a number above 0": lambda: Adam(0.0),
    "lr: expected a finite": lambda: Muon(math.inf),
    "weight_decay: expected": lambda: Adam(0.1, -0.1),
    "beta1: expected": lambda: Adam(0.1, beta1=1.0),
    "beta2: expected": lambda: Adam(0.1, beta2=1.0),
    "eps: expected a number above 0": lambda: Adam(0.1, eps=0.0),
    "momentum: expected": lambda: Muon(0.1, momentum=-1.0),
    "momentum: expected a number of at most": lambda: Muon(0.1, momentum=1.0),
    "steps: expected": lambda: Muon(0.1, steps="many"),
    "factor: expected": lambda: Adam(0.1).step(ONE, {"b": ONE["b"]}, math.nan),
    "state: expected": lambda: Adam(0.1).restore({"count/w": np.array(1), "mean/w": ONE["w"]}),
    "state square/w: expected finite": lambda: restored(square=np.full((2, 3), np.nan)),
    "state mean/w: expected shape": lambda: restored(mean=np.ones((1, 3))).step(ONE, {"w": ONE["w"]}),
    "state count/w: expected": lambda: restored(count=np.array(0)),
    "limit: expected": lambda: clip({}, 0.0),
    "gradient b: expected a finite norm": lambda: clip({"b": np.array([np.inf])}, 1.0),
    "tokens: expected": lambda: mean_of_batches([], []),
    "gradients\\[1\\]: expected": lambda: mean_of_batches([{"b": 1.0}, {"c": 1.0}], [1, 1]),
    "step: expected": lambda: warm_up_and_drops(11, 10),
}


@pytest.mark.parametrize("message", BAD_STEPS)
def test_bad_input_is_refused(message):
    with pytest.raises(InputError, match=message):
        BAD_STEPS[message]()


def test_a_refused_step_changes_nothing(rng):
    optimiser = GroupedOptimiser({"a": (Adam(0.1), ["b"]), "m": (Muon(0.1), ["w"])})
    parameters = optimiser.step(ONE, {"w": np.ones((2, 3)), "b": np.ones(3)})
    before = copy.deepcopy(optimiser.arrays())
    with pytest.raises(InputError, match="gradient w"):
        optimiser.step(parameters, {"b": np.ones(3), "w": np.full((2, 3), np.inf)})
    np.testing.assert_equal(optimiser.arrays(), before)


@pytest.mark.parametrize("rows", [[1, 1], [1, 0], [-1, 0], [1, 2]],
                         ids=["twice", "descending", "negative", "too large"])
@pytest.mark.parametrize("lazy", [True, False])
def test_rows_of_a_gradient_are_checked(rows, lazy):
    with pytest.raises(InputError, match="gradient w: expected rows below 2, ascending, each once"):
        Adam(0.1, lazy=lazy).step(ONE, {"w": of_rows(rows, (2, 3))})


@pytest.mark.parametrize("wrong", [{"b/count/w": np.array(1)},
                                   {"m/count/w": np.array(1), "m/momentum/w": np.ones((2, 3))},
                                   {"a/count/b": np.array(np.nan)}], ids=["no such group", "other group", "NaN"])
def test_a_refused_state_changes_nothing(wrong):
    optimiser = GroupedOptimiser({"m": (Muon(0.1), ["v"]), "a": (Adam(0.1), ["b", "w"])})
    optimiser.step(ONE, {"b": np.ones(3)})
    before = copy.deepcopy(optimiser.arrays())
    with pytest.raises(InputError, match="state"):
        optimiser.restore({**before, "m/count/v": np.array(4), "m/momentum/v": np.ones((2, 3)), **wrong})
    np.testing.assert_equal(optimiser.arrays(), before)
