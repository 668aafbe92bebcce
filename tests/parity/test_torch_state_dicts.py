"""Both loaders read PyTorch tensors and parameters exactly."""

import numpy as np
import pytest

from engram_ref import InputError
from tests.compare import assert_close
from tests.unit.test_state_dicts import DEMO, demo_state_dict, each_loader, from_engram_demo

torch = pytest.importorskip("torch", reason="torch is not installed")

KINDS = {
    "float64": lambda array: torch.tensor(array),
    "float32": lambda array: torch.tensor(array).float(),
    "bfloat16": lambda array: torch.tensor(array).bfloat16(),
    "float16": lambda array: torch.tensor(array).half(),
    "a parameter": lambda array: torch.nn.Parameter(torch.tensor(array)),
    "a bfloat16 parameter": lambda array: torch.nn.Parameter(torch.tensor(array).bfloat16()),
    "a gradient attached": lambda array: torch.tensor(array, requires_grad=True) * 1.0,
    "strided": lambda array: torch.tensor(np.repeat(array, 2, axis=-1))[..., ::2],
}


@each_loader
@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_tensors_are_read_exactly(make, load, kind):
    state = {name: kind(array) for name, array in make().items()}
    found = load(state)
    for name, array in load({name: t.detach().double().numpy() for name, t in state.items()}).items():
        assert_close(name, array, np.asarray(found[name], array.dtype), "exact")


FP8 = "float8_e4m3fn"
UNREADABLE = {"no storage": lambda: torch.empty(3, device="meta"), "sparse": lambda: torch.eye(3).to_sparse(),
              "integers": lambda: torch.ones(3, dtype=torch.int64), FP8: lambda: torch.ones(3).to(torch.float8_e4m3fn)}


@each_loader
@pytest.mark.parametrize("kind", UNREADABLE)
def test_the_error_names_a_tensor_without_float_values(make, load, kind):
    state = make()
    name = next(iter(state))
    with pytest.raises(InputError, match=f"^state_dict {name} .*{'bfloat16' if kind == FP8 else ''}"):
        load(state | {name: UNREADABLE[kind]()})


def test_the_offsets_may_be_a_tensor():
    offsets = from_engram_demo(demo_state_dict(), DEMO)["column_offsets"]
    state = demo_state_dict() | {"multi_head_embedding.offsets": torch.tensor(offsets)}
    assert "table" in from_engram_demo(state, DEMO)
    with pytest.raises(InputError, match="offsets"):
        from_engram_demo(state | {"multi_head_embedding.offsets": torch.tensor(offsets) + 1}, DEMO)
