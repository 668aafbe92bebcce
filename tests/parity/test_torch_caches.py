"""Caches of tensors: written in place only if no gradients are recorded and no inference tensor is involved."""

from types import SimpleNamespace

import numpy as np
import pytest

from engram_ref.model.state import DecodeState
from engram_ref.model.transformer import forward
from scripts.builders.small_models import FULL, random_ids, random_model
from tests.compare import assert_close

torch = pytest.importorskip("torch", reason="torch is not installed")
from engram_ref.backends import torch as torch_ops  # noqa: E402  needs torch

IDS = torch.tensor(random_ids(FULL, 2, 9))


def parameters(*trained):
    """Tensors; those whose names end with one of `trained` require gradients."""
    return {name: x.requires_grad_(bool(trained) and x.is_floating_point() and name.endswith(trained))
            for name, x in torch_ops.tensors(random_model(FULL)).items()}


def recording_namespace(allocated):
    """The torch namespace; the number of slots of every newly allocated cache is appended to `allocated`."""
    def recorded(op):
        def call(cache, new, lengths):
            result = op(cache, new, lengths)
            if result is not cache:
                allocated.append(result.shape[1])
            return result
        return call

    changed = {name: recorded(getattr(torch_ops, name)) for name in ("append", "place")}
    return SimpleNamespace(**{name: getattr(torch_ops, name) for name in torch_ops.__all__} | changed)


def steps(p, state, begin, end, ops=torch_ops):
    return [forward(p, IDS[:, t : t + 1], FULL, state=state, ops=ops) for t in range(begin, end)]


@pytest.mark.parametrize("mode", ["no gradients", "no_grad", "inference_mode"])
def test_steps_without_gradients_write_in_place(mode):
    p, state, allocated = parameters(*(("weight",) if mode != "no gradients" else ())), DecodeState.start(2), []
    with {"no gradients": torch.enable_grad, "no_grad": torch.no_grad, "inference_mode": torch.inference_mode}[mode]():
        steps(p, state, 0, 9, recording_namespace(allocated))
    assert len(allocated) == 9 * 5 and sorted(set(allocated)) == [1, 2, 4, 8, 16]
    assert_close("logits", forward(random_model(FULL), IDS.numpy(), FULL)[:, -1],
                 steps(p, DecodeState.start(2), 0, 9)[-1][:, 0].detach().numpy(), "model")


@pytest.mark.parametrize("trained", [("weight", "gain", "phi"), ("layers.2.attn.wq_b.weight",), ("embed.weight",)],
                         ids=["nearly all", "queries of the last layer", "embedding"])
def test_gradients_through_many_steps_equal_those_of_one_call(trained):
    """If only the last layer's queries are trained, no cache has a gradient, but the backward pass reads one."""
    def gradients(in_steps):
        p = parameters(*trained)
        state = DecodeState.start(2)
        logits = torch.cat(steps(p, state, 0, 9), dim=1) if in_steps else forward(p, IDS, FULL, ops=torch_ops)
        torch_ops.cross_entropy(logits, IDS).mean().backward()
        return {name: x.grad.numpy() for name, x in p.items() if x.grad is not None}

    whole, found = gradients(False), gradients(True)
    assert whole and whole.keys() == found.keys()
    for name, gradient in whole.items():
        assert_close(name, gradient, found[name], "model")


def test_steps_without_gradients_do_not_change_earlier_steps():
    """Take steps with gradients, roll back, take steps without, then run the backward pass of the first steps."""
    p, state = parameters("weight"), DecodeState.start(2)
    logits = torch.cat(steps(p, state, 0, 6), dim=1)
    state.rollback(3)
    with torch.no_grad():
        steps(p, state, 3, 9)
    logits.square().sum().backward()
    assert all(x.grad is not None for name, x in p.items() if name.endswith("wo.weight"))


def test_a_state_from_inference_mode_continues_outside_of_it():
    p, state = parameters(), DecodeState.start(2)
    with torch.inference_mode():
        steps(p, state, 0, 3)                                # leaves room for one more token
    outside = steps(p, state, 3, 6)
    with torch.inference_mode():
        inside = steps(p, state, 6, 9)
    whole = forward(random_model(FULL), IDS.numpy(), FULL)[:, 3:]
    assert_close("logits", whole, torch.cat(outside + inside, dim=1).numpy(), "model")


def test_a_fork_with_tensor_caches_is_independent():
    p, state = parameters(), DecodeState.start(2)
    steps(p, state, 0, 6)
    fork = state.fork()
    state.rollback(2)
    steps(p, state, 0, 2)
    last = steps(p, fork, 6, 7)[0]
    assert_close("logits", forward(random_model(FULL), IDS.numpy(), FULL)[:, 6:7], last.numpy(), "model")
    assert np.array_equal(fork.lengths, [7, 7]) and np.array_equal(state.lengths, [6, 6])
