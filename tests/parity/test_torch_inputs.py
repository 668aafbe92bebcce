"""Inputs of the torch backend: ids as lists and tensors, devices, dtypes, and the errors for invalid input."""

import ml_dtypes
import numpy as np
import pytest

import engram_ref
from engram_ref import Addressing, EngramState, InputError, Trace, engram, ops, start_state
from engram_ref.model.state import DecodeState
from engram_ref.model.transformer import forward
from engram_ref.ops import DEAD
from scripts.builders.small_models import FULL, random_ids, random_model
from scripts.builders.small_modules import DEMO, QWEN, random_inputs
from tests.compare import assert_close
from tests.unit.test_streaming import STREAMS

torch = pytest.importorskip("torch", reason="torch is not installed")
from engram_ref.backends import torch as torch_ops  # noqa: E402  needs torch
from tests.torch_cases import module_arguments  # noqa: E402

META = torch.device("meta")


@pytest.mark.parametrize("flat", [False, True])
@pytest.mark.parametrize("name, ids", STREAMS.values(), ids=STREAMS)
def test_addressing_rows_match_numpy(name, ids, flat):
    by_numpy, by_torch = (Addressing(engram_ref.preset(name), ops=o) for o in (ops, torch_ops))
    layer = by_numpy.config.layer_ids[-1]
    expected = by_numpy.rows(ids, layer, flat=flat)
    assert_close("rows", expected, by_torch.rows(ids, layer, flat=flat).numpy(), "exact")
    assert_close("rows", expected, by_torch.rows(torch.tensor(ids), layer, flat=flat).numpy(), "exact")
    batch, trace = torch.tensor([ids, ids[::-1]]), Trace()
    assert_close("batch", expected, by_torch.rows(batch, layer, flat=flat, trace=trace)[0].numpy(), "exact")
    assert list(trace) == ["canonical_ids", "windows", "mix", "rows"]
    cut = len(ids) // 2
    history = by_torch.advance(None, torch.tensor(ids[:cut]))
    assert_close("cut", expected[cut:], by_torch.rows(torch.tensor(ids[cut:]), layer, history, flat).numpy(), "exact")


def test_rows_of_all_layers_from_raw_ids_and_step_by_step():
    by_numpy, by_torch = (Addressing(engram_ref.preset("deepseek-v4.1-flash"), ops=o) for o in (ops, torch_ops))
    raw = np.random.default_rng(0).integers(0, 128_000, (2, 6))
    raw[0, 2] = DEAD
    expected = by_numpy.rows_of_tokens(raw, flat=True)
    assert_close("layers", expected, by_torch.rows_of_tokens(torch.tensor(raw), flat=True).numpy(), "exact")
    canonical = torch_ops.canonicalise(torch.tensor(raw), by_torch.canonical)
    layer, history = by_torch.config.layer_ids[0], by_torch.start(2)
    step, rows = by_torch.stepper(layer), by_numpy.rows(canonical.numpy(), layer)
    for t in range(6):
        assert_close(f"step {t}", rows[:, t], step(canonical[:, t], history).numpy(), "exact")
        history = by_torch.advance(history, canonical[:, t : t + 1])
    assert history.dtype == torch.int64 and by_torch.start(0).shape == (0, 3)


WRONG_IDS = {
    "strings": (["a"], "canonical_ids: expected real numbers of at most 64 bits, found list of dtype <U1"),
    "floats": ([0.5], "canonical_ids: expected integers (int64), found float64"),
    "ragged": ([[1, 2], [3]], "canonical_ids: expected rows of equal length, found rows of different lengths"),
    "too large": ([[1, 2], [3, 10**7]], "found 10000000 at position (1, 1)"),
    "unmarked": ([1, -2], "found -2 at position 1"),
    "beyond int64": (torch.tensor([2**64 - 1], dtype=torch.uint64), "integers below 2^63, found 18446744073709551615"),
    "a tensor of floats": (torch.tensor([1.0]), "integers (int64), found float32"),
}


@pytest.mark.parametrize("ids, message", WRONG_IDS.values(), ids=WRONG_IDS)
def test_invalid_ids_raise(ids, message):
    with pytest.raises(InputError) as error:
        Addressing(engram_ref.preset("deepseek-v4.1-flash"), ops=torch_ops).rows(ids, 1)
    assert message in str(error.value)


def test_errors_for_wrong_rows_and_infinities_give_the_index():
    p, hidden, rows, _ = module_arguments(DEMO)
    rows[1, 2, 3] = 99
    with pytest.raises(InputError, match=r"found 99 at position \(1, 2, 3\)"):
        engram(p, hidden, rows, DEMO, ops=torch_ops)
    hidden[0, 1, 2, 3] = -torch.inf
    rows[1, 2, 3] = 0
    with pytest.raises(InputError, match=r"hidden: expected finite values, found -inf at position \(0, 1, 2, 3\)"):
        engram(p, hidden, rows, DEMO, ops=torch_ops)
    with pytest.raises(InputError, match="parameter key_gain: expected finite values"):
        engram(p | {"key_gain": p["key_gain"] * torch.nan}, hidden, rows, DEMO, ops=torch_ops)


def assert_error(name, function):
    """The call raises an error that names the two arguments and their devices."""
    with pytest.raises(InputError) as error:
        function()
    assert name in str(error.value) and "tensors on the same device" in str(error.value)
    assert "cpu" in str(error.value) and "meta" in str(error.value)


def test_tensors_on_two_devices_raise_and_are_named():
    """Every entry point checks all its arguments before any work."""
    p, hidden, rows, taps = module_arguments(DEMO)
    dead, table = torch.zeros(rows.shape[:2], dtype=torch.bool), {"table": p["table"].to(META)}
    module = lambda *a, p=p, **k: engram(p, *a, DEMO, ops=torch_ops, check=False, **k)
    assert_error("hidden and rows", lambda: module(hidden, rows.to(META)))
    assert_error("hidden and rows", lambda: module(hidden.to(META), rows))
    assert_error("hidden and dead", lambda: module(hidden, rows, dead=dead.to(META)))
    assert_error("hidden and state.taps", lambda: module(hidden, rows, state=EngramState(taps.to(META))))
    assert_error("hidden and parameter table", lambda: module(hidden, rows, p=p | table))
    addressing, ids = Addressing(DEMO, ops=torch_ops), torch.zeros((2, 5), dtype=torch.int64)
    history = addressing.start(2).to(META)
    assert_error("ids and history", lambda: addressing.rows_of_tokens(ids, history))


def test_a_model_on_two_devices_raises_and_keeps_its_state():
    p, state = torch_ops.tensors(random_model(FULL)), DecodeState.start(2)
    forward(p, random_ids(FULL), FULL, state=state, ops=torch_ops)
    lengths, caches = state.lengths.copy(), dict(state.caches)
    state.caches["layers.0.c_kv"] = state.caches["layers.0.c_kv"].to(META)
    assert_error("ids and state cache layers.0.c_kv", lambda: forward(
        p, random_ids(FULL), FULL, state=state, ops=torch_ops))
    assert (state.lengths == lengths).all() and list(state.caches) == list(caches)
    assert_error("ids and parameter embed.weight", lambda: forward(
        p | {"embed.weight": p["embed.weight"].to(META)}, random_ids(FULL), FULL, ops=torch_ops, check_values=False))


def test_the_error_for_numpy_parameters_suggests_a_conversion():
    p, hidden, rows, _ = module_arguments(DEMO)
    p["key_weight"] = p["key_weight"].numpy()
    with pytest.raises(InputError, match=r"parameter key_weight: expected a tensor, found ndarray .*\.tensors"):
        engram(p, hidden, rows, DEMO, ops=torch_ops)


def test_a_state_is_on_the_requested_device():
    assert start_state(DEMO, 2, torch.float32, like=torch.zeros(1, device=META), ops=torch_ops).taps.device == META
    assert start_state(DEMO, 2, ops=torch_ops).taps.dtype == torch.float64
    p, hidden, rows, _ = module_arguments(DEMO)
    state = start_state(DEMO, 2, torch.float32, ops=torch_ops)
    with pytest.raises(InputError, match=r"state.taps: expected float64 \[2, .*found float32"):
        engram(p, hidden, rows, DEMO, state=state, ops=torch_ops)


def test_parameters_become_tensors():
    rng = np.random.default_rng(0)
    made = {"table": rng.standard_normal((3, 4)).astype(ml_dtypes.bfloat16), "codes": rng.integers(0, 9, 3, np.uint8),
            "offsets": np.array([0, 3]), "weight": rng.standard_normal(4)}
    kept, narrow = torch_ops.tensors(made), torch_ops.tensors(made, "meta", np.float32)
    assert [x.dtype for x in kept.values()] == [torch.bfloat16, torch.uint8, torch.int64, torch.float64]
    assert [x.dtype for x in narrow.values()] == [torch.bfloat16, torch.uint8, torch.int64, torch.float32]
    assert {x.device.type for x in narrow.values()} == {"meta"}
    assert_close("table", made["table"].astype(np.float32), torch_ops.to_numpy(kept["table"]), "exact")
    kept["weight"][0] = 0.0
    assert made["weight"][0] != 0.0


def test_a_bfloat16_table_is_read_and_other_dtypes_raise():
    p, hidden, rows, _ = module_arguments(QWEN)
    assert p["table"].dtype == torch.bfloat16
    with pytest.raises(InputError, match="parameter table: expected dtype bfloat16, found float64"):
        engram(p | {"table": p["table"].double()}, hidden, rows, QWEN, ops=torch_ops)
    hidden, _ = random_inputs(QWEN, np.random.default_rng(0))
    with pytest.raises(InputError, match="hidden: expected dtype float32 or float64, found bfloat16"):
        engram(p, torch.tensor(hidden).bfloat16(), rows, QWEN, ops=torch_ops)


def test_a_bfloat16_tensor_is_traced_as_float32():
    trace = Trace(check_finite=True)
    trace.record("gate", torch.tensor([[[0.5]]], dtype=torch.bfloat16, requires_grad=True))
    assert_close("gate", np.array([[[0.5]]], dtype=np.float32), trace["gate"], "exact")
    with pytest.raises(InputError, match=r"key: expected finite values, found nan at position \(1,\)"):
        trace.record("key", torch.tensor([1.0, torch.nan]))


def test_targets_of_a_wrong_shape_or_dtype_raise():
    for targets in (torch.zeros(2, 4, dtype=torch.int64), torch.zeros(2, 3)):
        with pytest.raises(InputError, match=r"targets: expected int64 \[2, 3\]"):
            torch_ops.cross_entropy(torch.zeros(2, 3, 7), targets)
