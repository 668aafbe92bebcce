"""Generate: let the model write on, one token at a time."""

from collections.abc import Mapping
from types import ModuleType

import numpy as np

from engram_ref import ops as numpy_ops
from engram_ref.addressing import Addressing
from engram_ref.checks import NonNegative, as_ops, check_kind, checked, integer
from engram_ref.errors import InputError
from engram_ref.model.engram_parameters import as_parameters
from engram_ref.model.state import DecodeState
from engram_ref.model.transformer import forward
from engram_ref.model.tree import check
from engram_ref.model_config import ModelConfig


def generate(parameters: Mapping[str, np.ndarray], prompt: np.ndarray, config: ModelConfig, new_tokens: int, *,
             temperature: float = 0.0, rng: "np.random.Generator | None" = None,
             addressing: Addressing | None = None, ops: ModuleType = numpy_ops) -> np.ndarray:
    """The tokens that follow a prompt.

    prompt        int64 [B, T] or [T], at least one token
    new_tokens    how many to add
    temperature   0 takes the likeliest token, ties to the lowest id; above 0 samples softmax(logits / temperature)
    rng           the only source of randomness, of the kind that ops.sample takes; needed for a temperature above 0
    addressing    as for forward
    returns       int64 [B, new_tokens] or [new_tokens]
    raises        InputError for an empty prompt, a negative count or temperature, or a missing rng
    """
    ops = as_ops(ops)
    check_kind("config", config, ModelConfig)
    prompt = ops.as_int64("prompt", prompt)
    if prompt.ndim not in (1, 2) or prompt.shape[-1] == 0:
        raise InputError("prompt", "int64 [B, T] or [T] with at least one token", list(prompt.shape))
    new_tokens, temperature = integer("new_tokens", new_tokens), checked("temperature", temperature, NonNegative)
    if temperature > 0 and rng is None:
        raise InputError("temperature", "0, or above 0 together with an rng", temperature)
    parameters = as_parameters(parameters, ops, {"prompt": prompt})
    check(parameters, config, ops)
    batch = prompt if prompt.ndim == 2 else prompt[None]
    state, newest, written = DecodeState.start(len(batch)), batch, []
    for _ in range(new_tokens):
        logits = forward(parameters, newest, config, state=state, absorbed=True, addressing=addressing,
                         ops=ops, check_values=False)
        newest = ops.sample(logits[:, -1], temperature, rng)[:, None]
        written.append(newest)
    tokens = ops.join(written, len(batch))
    return tokens if prompt.ndim == 2 else tokens[0]
