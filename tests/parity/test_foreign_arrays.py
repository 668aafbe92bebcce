"""Arrays of any library, byte order and memory layout give the same results as NumPy arrays, or a one-line error."""

import importlib.util
import re

import ml_dtypes
import numpy as np
import pytest

from engram_ref import Addressing, EngramState, InputError, backends, engram, preset, residual
from engram_ref.model.generate import generate
from engram_ref.model.parameters import load, save
from engram_ref.model.state import DecodeState
from engram_ref.model.transformer import forward
from engram_ref.ops.arrays import as_array, as_int64
from scripts.builders.small_models import FULL, random_ids, random_model
from scripts.builders.small_modules import DEMO, QWEN, random_inputs, random_parameters
from tests.compare import assert_close

torch = pytest.importorskip("torch", reason="torch is not installed")
BACKENDS = [name for name in backends.BACKENDS if importlib.util.find_spec(name)]

TINY, MODULE, MODEL = preset("tiny"), random_parameters(DEMO, np.random.default_rng(3)), random_model(FULL)
HIDDEN, ROWS = random_inputs(DEMO, np.random.default_rng(4))
TAPS = np.random.default_rng(5).standard_normal((2, DEMO.conv_span, *HIDDEN.shape[2:]))
DEAD = np.array([[False, True, False, False, True]] * 2)
IDS, HISTORY = np.array([[5, 6, 7, 60, 9], [1, 2, 3, 4, 5]]), np.array([[-1, 3], [4, 5]])


class Array:
    """A foreign array that NumPy reads through its __array__ method."""

    def __init__(self, array):
        self.array = array

    def __array__(self, dtype=None, copy=None):
        return self.array


class Capsule:
    """A foreign array that supports only DLPack."""

    def __init__(self, array):
        self.array = np.array(array)

    def __dlpack__(self, **keywords):
        return self.array.__dlpack__(**keywords)

    def __dlpack_device__(self):
        return self.array.__dlpack_device__()


def memory_mapped(array, tmp_path):
    path = tmp_path / f"{id(array)}.npy"
    np.save(path, array)
    return np.load(path, mmap_mode="r")


def read_only(array):
    array = array.copy()
    array.setflags(write=False)
    return array


FORMS = {
    "big-endian": lambda a: a.astype(a.dtype.newbyteorder(">")),
    "big-endian and reversed": lambda a: a[::-1].astype(a.dtype.newbyteorder(">"))[::-1],
    "reversed": lambda a: np.flip(np.flip(a).copy()),
    "Fortran": lambda a: np.array(a, order="F"),
    "every other": lambda a: np.repeat(a, 2, axis=-1)[..., ::2],
    "misaligned": lambda a: np.frombuffer(b"." + a.tobytes(), a.dtype, offset=1).reshape(a.shape),
    "read-only": read_only,
    "masked, nothing hidden": np.ma.masked_array,
    "matrix": lambda a: np.matrix(a) if a.ndim == 2 else a,
    "lists": lambda a: a.tolist(),
    "objects": lambda a: a.astype(object),
    "scalars": lambda a: [list(line) for line in a] if a.ndim == 2 else a,
    "__array__": Array,
    "DLPack": Capsule,
    "tensor": torch.tensor,
    "tensor with a gradient": lambda a: torch.tensor(a, requires_grad=a.dtype.kind == "f"),
    "tensor, transposed": lambda a: torch.tensor(a.T.copy()).T if a.ndim == 2 else torch.tensor(a),
    "int32": lambda a: a.astype(np.int32) if a.dtype.kind == "i" else a,
    "uint64": lambda a: a.astype(np.uint64) if a.dtype.kind == "i" and a.min() >= 0 else a,
    "tensor of uint64": lambda a: torch.tensor(a.astype(np.uint64)) if a.dtype.kind == "i" and a.min() >= 0 else a,
    "uint8": lambda a: a.astype(np.uint8) if a.dtype.kind == "i" and a.min() >= 0 and a.max() < 256 else a,
}

ARRAYS = {
    "rows": {"ids": IDS, "history": HISTORY},
    "rows_of_tokens": {"ids": IDS, "history": HISTORY},
    "advance": {"ids": IDS, "history": HISTORY},
    "stepper": {"ids": IDS[:, 0], "history": HISTORY},
    "engram": {"hidden": HIDDEN, "rows": ROWS, "dead": DEAD, "taps": TAPS},
    "residual": {"hidden": HIDDEN, "update": HIDDEN[::-1].copy()},
    "forward": {"ids": random_ids(FULL), "dead": np.arange(14).reshape(2, 7) % 5 == 0},
    "generate": {"ids": random_ids(FULL)},
}
PARAMETERS = {"engram": MODULE, "forward": MODEL}


def parameters_of(name, ops):
    return ops.tensors(PARAMETERS[name]) if hasattr(ops, "tensors") else PARAMETERS[name]


def decode(ops, parameters, ids, dead, change):
    """Logits after a state whose caches are foreign arrays."""
    state = DecodeState.start(2)
    forward(parameters, IDS, FULL, state=state, ops=ops)
    state.caches = {name: change(np.array(ops.to_numpy(cache))) for name, cache in state.caches.items()}
    state = DecodeState(change(state.lengths), state.caches)
    return forward(parameters, ids, FULL, state=state, dead=dead, ops=ops), state.caches["layers.0.conv_norm"]


def module(ops, parameters, hidden, rows, dead, taps):
    state = EngramState(taps)
    return engram(parameters, hidden, rows, DEMO, state=state, dead=dead, ops=ops), state.taps


CALLS = {
    "rows": lambda ops, ids, history: Addressing(TINY, ops=ops).rows(ids, 1, history),
    "rows_of_tokens": lambda ops, ids, history: Addressing(TINY, ops=ops).rows_of_tokens(ids, history),
    "advance": lambda ops, ids, history: Addressing(TINY, ops=ops).advance(history, ids),
    "stepper": lambda ops, ids, history: Addressing(TINY, ops=ops).stepper(1)(ids, history),
    "engram": lambda ops, **a: module(ops, parameters_of("engram", ops), **a),
    "residual": lambda ops, hidden, update: residual(hidden, update, DEMO, ops=ops),
    "forward": lambda ops, change=lambda a: a, **a: decode(ops, parameters_of("forward", ops), **a, change=change),
    "generate": lambda ops, ids: generate(parameters_of("forward", ops), ids, FULL, 1, ops=ops),
}


def outputs(ops, found):
    return [np.asarray(ops.to_numpy(part)) for part in (found if isinstance(found, tuple) else (found,))]


@pytest.mark.filterwarnings("ignore:the matrix subclass:PendingDeprecationWarning")
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", ARRAYS)
@pytest.mark.parametrize("backend", BACKENDS)
def test_results_match_those_for_numpy_arrays(backend, name, form):
    ops, change = backends.load(backend), FORMS[form]
    more = {"change": change} if name == "forward" else {}
    changed = {argument: change(array) for argument, array in ARRAYS[name].items()}
    expected = outputs(ops, CALLS[name](ops, **ARRAYS[name]))
    for e, f in zip(expected, outputs(ops, CALLS[name](ops, **changed, **more)), strict=True):
        assert f.dtype == e.dtype and f.dtype.isnative
        assert_close(name, e, f, "exact" if e.dtype.kind == "i" else "model")


@pytest.mark.filterwarnings("ignore:the matrix subclass:PendingDeprecationWarning")
@pytest.mark.parametrize("form", [form for form in FORMS if "int" not in form])
@pytest.mark.parametrize("backend", [name for name in BACKENDS if name != "torch"])
def test_parameters_may_be_foreign_arrays(backend, form):
    ops = backends.load(backend)
    for name, call in (("engram", lambda p: engram(p, HIDDEN, ROWS, DEMO, ops=ops)),
                       ("forward", lambda p: forward(p, IDS, FULL, ops=ops))):
        changed = {key: FORMS[form](array) for key, array in PARAMETERS[name].items()}
        assert_close(name, call(PARAMETERS[name]), call(changed), "model")


@pytest.mark.parametrize("layout", ["transposed", "every other", "with a gradient"])
def test_parameters_may_be_tensors_of_any_layout(layout):
    ops = backends.load("torch")
    change = {"transposed": lambda x: x.mT.contiguous().mT if x.ndim > 1 else x,
              "every other": lambda x: x.repeat_interleave(2, -1)[..., ::2],
              "with a gradient": lambda x: x.requires_grad_(x.is_floating_point())}[layout]
    p = {name: change(x) for name, x in parameters_of("engram", ops).items()}
    found = engram(p, HIDDEN, ROWS, DEMO, ops=ops)
    assert_close("Y", engram(MODULE, HIDDEN, ROWS, DEMO), found.detach().numpy(), "model")
    assert found.requires_grad == (layout == "with a gradient")


def test_torch_requires_parameters_as_tensors():
    with pytest.raises(InputError, match="parameter table: expected a tensor, found ndarray"):
        engram(MODULE, HIDDEN, ROWS, DEMO, ops=backends.load("torch"))
    for form in ("big-endian", "reversed", "read-only", "misaligned"):
        tensors = backends.load("torch").tensors({name: FORMS[form](array) for name, array in MODULE.items()})
        assert all(np.array_equal(tensors[name].numpy(), MODULE[name]) for name in MODULE)


def test_a_bfloat16_table_may_be_a_tensor():
    p, (hidden, rows) = random_parameters(QWEN, np.random.default_rng(3)), random_inputs(QWEN, np.random.default_rng(4))
    table = torch.tensor(p["table"].astype(np.float32)).bfloat16()
    for backend in (name for name in BACKENDS if name != "torch"):
        found = engram(p | {"table": table}, hidden, rows, QWEN, ops=backends.load(backend))
        assert_close("Y", engram(p, hidden, rows, QWEN), found, "model")


def test_foreign_arrays_can_be_saved(tmp_path):
    for form in ("big-endian", "Fortran", "reversed", "tensor with a gradient"):
        save({name: FORMS[form](array) for name, array in MODEL.items()}, tmp_path / "model.safetensors")
        found = load(tmp_path / "model.safetensors", FULL)
        assert all(np.array_equal(found[name], MODEL[name]) for name in MODEL), form


def test_memory_mapped_parameters_are_not_copied(tmp_path):
    mapped = {name: memory_mapped(array, tmp_path) for name, array in MODULE.items()}
    assert_close("Y", engram(MODULE, HIDDEN, ROWS, DEMO), engram(mapped, HIDDEN, ROWS, DEMO), "exact")
    assert np.shares_memory(as_array("table", mapped["table"]), mapped["table"])


def test_suitable_arrays_are_not_copied():
    for array in (HIDDEN, HIDDEN[:, ::2], HIDDEN.astype(ml_dtypes.bfloat16), DEAD, IDS.astype(np.uint8)):
        assert as_array("x", array) is array
    assert as_int64("x", IDS) is IDS


UNCONVERTIBLE = {
    "long doubles": lambda a: a.astype(np.longdouble),
    "complex": lambda a: a.astype(complex),
    "objects": lambda a: np.full(a.shape, None),
    "text": lambda a: np.full(a.shape, "1"),
    "dates": lambda a: np.full(a.shape, "2026-01-01", "M8[D]"),
    "records": lambda a: np.zeros(a.shape, [("x", "f8")]),
    "masked": lambda a: np.ma.masked_array(a, np.ones(a.shape, bool)),
    "ragged": lambda a: [[1, 2], [3]],
    "a generator": lambda a: (x for x in a),
    "a set": lambda a: {1, 2},
    "a dictionary": lambda a: {"a": a},
    "a class": lambda a: np.ndarray,
    "a huge integer": lambda a: [[10**30]],
    "sparse": lambda a: torch.ones((2, 2)).to_sparse(),
    "half": lambda a: a.astype(np.float16),
    "bfloat16": lambda a: a.astype(ml_dtypes.bfloat16),
    "a tensor of bfloat16": lambda a: torch.tensor(a.astype(np.float64)).bfloat16(),
    "integers and floats exchanged": lambda a: a.astype(np.float64 if a.dtype.kind == "i" else np.int64),
    "booleans": lambda a: a.astype(bool) if a.dtype.kind != "b" else a.astype(np.int64),
    "beyond int64": lambda a: np.full(a.shape, 2**64 - 1, np.uint64),
    "a number": lambda a: 1,
}


@pytest.mark.parametrize("name", ARRAYS)
@pytest.mark.parametrize("wrong", UNCONVERTIBLE)
def test_all_backends_raise_the_same_error_for_unconvertible_arrays(name, wrong):
    for argument, array in ARRAYS[name].items():
        messages = set()
        for backend in BACKENDS:
            with pytest.raises(InputError) as error:
                CALLS[name](backends.load(backend), **ARRAYS[name] | {argument: UNCONVERTIBLE[wrong](array)})
            assert error.value.argument in (argument, f"canonical_{argument}", f"state.{argument}", "prompt",
                                            "hidden, update")
            assert "\n" not in str(error.value)
            messages.add(re.sub(r"found .*", "", str(error.value)))
        assert len(messages) == 1 or wrong in ("sparse", "a class"), messages


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("ids", "history"), [
    ((), (1, 2)), ((1, 1), (1, 2)), ((2,), (1, 2)), ((1,), (2,)), ((2,), (2, 1)), ((2,), (2, 3)), ((1,), (1, 1, 2)),
    ((2, 2), (2, 2, 2))], ids=str)
def test_a_step_raises_for_wrong_shapes(backend, ids, history):
    """Without the check, a Numba kernel would read past the end of a history that is too short."""
    ops = backends.load(backend)
    for call in (Addressing(TINY, ops=ops).stepper(1), ops.stepper(np.array([3, 5, 7]), np.array([11, 13]), 2)):
        with pytest.raises(InputError, match=r"shape"):
            call(*(ops.as_int64("x", np.zeros(shape, np.int64)) for shape in (ids, history)))


def test_the_error_for_a_long_double_suggests_rounding():
    with pytest.raises(InputError, match=r"hidden: expected real numbers.*astype\(np.float64\)"):
        engram(MODULE, HIDDEN.astype(np.longdouble), ROWS, DEMO)
