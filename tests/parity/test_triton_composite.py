"""The composites take the kernels where they can, and torch's operations everywhere else."""

import importlib
from dataclasses import replace

import numpy as np
import pytest

from engram_ref.addressing import addressing_of
from engram_ref.config import CHOICES
from engram_ref.ops import DEAD, address, gather_decode, project_and_gate
from engram_ref.oracle.small_modules import V41, random_inputs, random_parameters
from tests.bounds import module_scale
from tests.compare import assert_close

torch = pytest.importorskip("torch", reason="torch is not installed")
pytest.importorskip("triton", reason="triton is not installed")
twin = importlib.import_module("engram_ref.backends.torch")
KERNELS = {name: importlib.import_module(f"engram_ref.backends.torch.kernels.{name}")
           for name in ("rows", "dequantise", "gate")}

pytestmark = pytest.mark.usefixtures("kernels_run")
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
TILEKERNELS = replace(V41, name="v4.1-like, not rounded", rounding="none")


def tensor(array):
    return torch.tensor(array, device=DEVICE)


def case(dtype=np.float32):
    """NumPy parameters, hidden, rows, and a dead position."""
    rng = np.random.default_rng(1)
    parameters = random_parameters(replace(TILEKERNELS, table_codec="fp32"), rng, dtype=dtype)
    shape = parameters.pop("table").shape
    parameters["table_codes"] = rng.integers(0, 0x7F, shape, dtype=np.uint8)
    parameters["table_scales"] = rng.integers(120, 125, (shape[0], shape[1] // 32), dtype=np.uint8)
    hidden, rows = random_inputs(TILEKERNELS, rng, dtype=dtype)
    return parameters, hidden, rows, rng.random(rows.shape[:2]) < 0.4


def calls(monkeypatch):
    """The names of the kernels' launchers, as they are called from now on."""
    made = []
    for name, launcher in (("rows", "rows"), ("dequantise", "gather_dequantise"), ("gate", "gate")):
        original = getattr(KERNELS[name], launcher)
        monkeypatch.setattr(KERNELS[name], launcher,
                            lambda *a, name=name, original=original: (made.append(name), original(*a))[1])
    return made


def run_all(config=TILEKERNELS, record=None, dtype=np.float32):
    """Rows, memory and gated values by the backend and by the definition, and a function that returns their scale."""
    parameters, hidden, rows, dead = case(dtype)
    addressing, extra = addressing_of(V41), () if record is None else (record,)
    ids, history = np.array([[5, DEAD, 7, 8]]), np.array([[3, 4, DEAD]])
    constants = (addressing.multipliers[1], addressing.primes[1], addressing.offsets[1], 2, None)
    on_device = {name: tensor(array) for name, array in parameters.items()}
    memory = gather_decode(parameters, rows, config, dtype)
    found = (twin.address(tensor(ids), tensor(history), *constants, *extra),
             twin.gather_decode(on_device, tensor(rows), config, dtype, *extra),
             twin.project_and_gate(on_device, tensor(memory), tensor(hidden), tensor(dead), config, *extra))
    stages = {}
    gated = project_and_gate(parameters, memory, hidden, dead, config, stages.__setitem__)
    scale = lambda: module_scale(stages | {"memory": memory}, parameters, config, hidden)
    return [f.cpu().numpy() for f in found], (address(ids, history, *constants), memory, gated), scale


def test_the_v41_path_uses_every_kernel(monkeypatch):
    made = calls(monkeypatch)
    found, expected, scale = run_all()
    assert made == ["rows", "dequantise", "gate"]
    for name, e, f in zip(("rows", "memory"), expected, found, strict=False):
        assert_close(name, e, f, "exact")
    terms = 2 * max(TILEKERNELS.memory_width, TILEKERNELS.hidden_size)
    assert_close("gated", expected[2].astype(np.float64), found[2], "f32", terms, 2 * scale())     # both sides round


def test_memory_is_rounded_where_the_dialect_rounds(monkeypatch):
    made = calls(monkeypatch)
    found, expected, _ = run_all(V41)
    assert made == ["rows", "dequantise", "gate"]
    assert_close("memory", expected[1], found[1], "exact")


@pytest.mark.parametrize(("change", "expected"), [
    ({"score_form": "normalised"}, ["rows", "dequantise"]),
    *(({"gate_form": form}, ["rows", "dequantise"]) for form in CHOICES["gate_form"] if form != "copysign_sqrt")],
    ids=str)
def test_other_forms_use_torch_operations(change, expected, monkeypatch):
    made = calls(monkeypatch)
    run_all(replace(TILEKERNELS, **change))
    assert made == expected


def test_a_recorded_run_has_every_stage_and_uses_no_kernel(monkeypatch):
    made, seen = calls(monkeypatch), []
    run_all(record=lambda stage, array: seen.append(stage))
    assert made == []
    assert {"windows", "mix", "rows", "memory", "key", "value", "score", "gate", "gated"} <= set(seen)


def test_float64_uses_torch_operations(monkeypatch):
    made = calls(monkeypatch)
    run_all(dtype=np.float64)
    assert made == ["rows"]


def test_gradients_use_torch_operations(monkeypatch):
    made = calls(monkeypatch)
    parameters, hidden, rows, dead = case()
    on_device = {name: tensor(array) for name, array in parameters.items()}
    memory = twin.gather_decode(on_device, tensor(rows), TILEKERNELS, torch.float32)
    gated = twin.project_and_gate(on_device, memory, tensor(hidden).requires_grad_(), tensor(dead), TILEKERNELS)
    assert made == ["dequantise"] and gated.requires_grad


def test_the_cpu_uses_torch_operations_without_the_interpreter(monkeypatch):
    if DEVICE == "cuda":
        pytest.skip("tensors on a GPU take the kernels")
    made = calls(monkeypatch)
    monkeypatch.delenv("TRITON_INTERPRET")
    run_all()
    assert made == []


def test_compiled_code_uses_torch_operations(monkeypatch):
    made = calls(monkeypatch)
    parameters, hidden, rows, dead = case()
    on_device = {name: tensor(array) for name, array in parameters.items()}
    memory = tensor(np.ones((*rows.shape[:2], TILEKERNELS.memory_width), dtype=np.float32))

    def update(memory, hidden, dead):
        return twin.project_and_gate(on_device, memory, hidden, dead, TILEKERNELS)

    given = [memory, tensor(hidden), tensor(dead)]
    traced = torch.compile(update, fullgraph=True, backend="eager")(*given)
    assert made == []
    assert traced.shape == update(*given).shape
    assert made == ["gate"]
