"""The compositions use the kernels where possible and torch's operations otherwise."""

import importlib
from dataclasses import replace

import numpy as np
import pytest

from engram_ref.addressing import addressing_of
from engram_ref.config import CHOICES
from engram_ref.ops import DEAD, address, gather_decode, project_and_gate
from scripts.builders.small_modules import V41, random_inputs, random_parameters
from tests.bounds import module_scale
from tests.compare import assert_close

torch = pytest.importorskip("torch", reason="torch is not installed")
pytest.importorskip("triton", reason="triton is not installed")
torch_ops = importlib.import_module("engram_ref.backends.torch")
KERNELS = {name: importlib.import_module(f"engram_ref.backends.torch.kernels.{name}")
           for name in ("rows", "dequantise", "gate")}

pytestmark = pytest.mark.usefixtures("kernels_run")
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
TILEKERNELS = replace(V41, name="v4.1-like, not rounded", rounding="none")


def tensor(array):
    return torch.tensor(array, device=DEVICE)


def case(dtype=np.float32):
    """NumPy parameters, hidden states, rows and DEAD marks."""
    rng = np.random.default_rng(1)
    parameters = random_parameters(replace(TILEKERNELS, table_codec="fp32"), rng, dtype=dtype)
    shape = parameters.pop("table").shape
    parameters["table_codes"] = rng.integers(0, 0x7F, shape, dtype=np.uint8)
    parameters["table_scales"] = rng.integers(120, 125, (shape[0], shape[1] // 32), dtype=np.uint8)
    hidden, rows = random_inputs(TILEKERNELS, rng, dtype=dtype)
    return parameters, hidden, rows, rng.random(rows.shape[:2]) < 0.4


def record_launches(monkeypatch):
    """A list that receives the name of every kernel launched from now on."""
    launched = []
    for name, launcher in (("rows", "rows"), ("dequantise", "gather_dequantise"), ("gate", "gate")):
        original = getattr(KERNELS[name], launcher)
        monkeypatch.setattr(KERNELS[name], launcher,
                            lambda *a, name=name, original=original: (launched.append(name), original(*a))[1])
    return launched


def run_all(config=TILEKERNELS, record=None, dtype=np.float32):
    """Rows, memory and gated values of the backend and of the definition, and a function that computes their scale."""
    parameters, hidden, rows, dead = case(dtype)
    addressing, extra = addressing_of(V41), () if record is None else (record,)
    ids, history = np.array([[5, DEAD, 7, 8]]), np.array([[3, 4, DEAD]])
    constants = (addressing.multipliers[1], addressing.primes[1], addressing.offsets[1], 2, None)
    on_device = {name: tensor(array) for name, array in parameters.items()}
    memory = gather_decode(parameters, rows, config, dtype)
    found = (torch_ops.address(tensor(ids), tensor(history), *constants, *extra),
             torch_ops.gather_decode(on_device, tensor(rows), config, dtype, *extra),
             torch_ops.project_and_gate(on_device, tensor(memory), tensor(hidden), tensor(dead), config, *extra))
    stages = {}
    gated = project_and_gate(parameters, memory, hidden, dead, config, stages.__setitem__)
    scale = lambda: module_scale(stages | {"memory": memory}, parameters, config, hidden)
    return [f.cpu().numpy() for f in found], (address(ids, history, *constants), memory, gated), scale


def test_the_v41_path_uses_every_kernel(monkeypatch):
    launched = record_launches(monkeypatch)
    found, expected, scale = run_all()
    assert launched == ["rows", "dequantise", "gate"]
    for name, e, f in zip(("rows", "memory"), expected, found, strict=False):
        assert_close(name, e, f, "exact")
    terms = 2 * max(TILEKERNELS.memory_width, TILEKERNELS.hidden_size)
    assert_close("gated", expected[2].astype(np.float64), found[2], "f32", terms, 2 * scale())     # both round


def test_memory_is_rounded_if_the_dialect_rounds(monkeypatch):
    launched = record_launches(monkeypatch)
    found, expected, _ = run_all(V41)
    assert launched == ["rows", "dequantise", "gate"]
    assert_close("memory", expected[1], found[1], "exact")


@pytest.mark.parametrize(("change", "expected"), [
    ({"score_form": "normalised"}, ["rows", "dequantise"]),
    *(({"gate_form": form}, ["rows", "dequantise"]) for form in CHOICES["gate_form"] if form != "copysign_sqrt")],
    ids=str)
def test_unsupported_forms_use_torch_operations(change, expected, monkeypatch):
    launched = record_launches(monkeypatch)
    run_all(replace(TILEKERNELS, **change))
    assert launched == expected


def test_a_recorded_run_has_every_stage_and_uses_no_kernel(monkeypatch):
    launched, stages = record_launches(monkeypatch), []
    run_all(record=lambda stage, array: stages.append(stage))
    assert launched == []
    assert {"windows", "mix", "rows", "memory", "key", "value", "score", "gate", "gated"} <= set(stages)


def test_float64_uses_torch_operations(monkeypatch):
    launched = record_launches(monkeypatch)
    run_all(dtype=np.float64)
    assert launched == ["rows"]


def test_gradients_use_torch_operations(monkeypatch):
    launched = record_launches(monkeypatch)
    parameters, hidden, rows, dead = case()
    on_device = {name: tensor(array) for name, array in parameters.items()}
    memory = torch_ops.gather_decode(on_device, tensor(rows), TILEKERNELS, torch.float32)
    gated = torch_ops.project_and_gate(on_device, memory, tensor(hidden).requires_grad_(), tensor(dead), TILEKERNELS)
    assert launched == ["dequantise"] and gated.requires_grad


def test_the_cpu_uses_torch_operations_without_the_interpreter(monkeypatch):
    if DEVICE == "cuda":
        pytest.skip("tensors on a GPU use the kernels")
    launched = record_launches(monkeypatch)
    monkeypatch.delenv("TRITON_INTERPRET")
    run_all()
    assert launched == []


def test_compiled_code_uses_torch_operations(monkeypatch):
    launched = record_launches(monkeypatch)
    parameters, hidden, rows, dead = case()
    on_device = {name: tensor(array) for name, array in parameters.items()}
    memory = tensor(np.ones((*rows.shape[:2], TILEKERNELS.memory_width), dtype=np.float32))

    def update(memory, hidden, dead):
        return torch_ops.project_and_gate(on_device, memory, hidden, dead, TILEKERNELS)

    arguments = [memory, tensor(hidden), tensor(dead)]
    compiled = torch.compile(update, fullgraph=True, backend="eager")(*arguments)
    assert launched == []
    assert compiled.shape == update(*arguments).shape
    assert launched == ["gate"]
