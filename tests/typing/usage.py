"""A typed program against the public surface, for the type checker; nothing runs it.

`assert_type` states the type a user gets. Each `type: ignore` marks a mistake that the checker has to report: an
unused one is an error too.
"""

from collections.abc import Callable
from pathlib import Path
from typing import assert_type

import numpy as np

import engram_ref
from engram_ref import Addressing, EngramConfig, EngramState, ModelConfig, Trace, Vocabulary, ops
from engram_ref.backends import load, replace
from engram_ref.model.engram_parameters import initialise
from engram_ref.model.parameters import from_engram_demo, from_hf_deepseek_v3
from engram_ref.model.state import DecodeState
from engram_ref.model.transformer import forward
from engram_ref.ops.namespace import Ops
from engram_ref.testing import (
    Divergence,
    PortCase,
    check_engram,
    check_rows,
    check_streaming,
    first_divergence,
    port_cases,
    random_config,
)

config, model = engram_ref.preset("paper"), engram_ref.model_preset("tiny")
assert_type(config, EngramConfig)
assert_type(model, ModelConfig)
assert_type(model.engram, EngramConfig | None)
assert_type(config.hidden_size, int)
engram_ref.preset(27)                           # type: ignore[arg-type]
print(config.hidden_width)                      # type: ignore[attr-defined]

# Vocabulary and rows
vocabulary = Vocabulary.load("deepseek-v4")
assert_type(Vocabulary.from_file(Path("tokenizer.json")), Vocabulary)
assert_type(vocabulary.digest, str)
ids: np.ndarray = vocabulary.canonical[vocabulary.encode("Only Alexander the Great")]
addressing = Addressing(config)
rows: np.ndarray = addressing.rows(ids, layer_id=2, history=None, flat=False)
step: Callable[..., np.ndarray] = addressing.stepper(2)
primes: dict[int, np.ndarray] = dict(addressing.primes)
addressing.rows(ids, layer=2)                   # type: ignore[call-arg]
addressing.rows("Only Alexander")               # type: ignore[call-arg, arg-type]

# The module, with a state and a trace
parameters = initialise(config, 2, np.random.default_rng(0), np.float32)
hidden, trace = np.zeros((4, 4, 2560), dtype=np.float32), Trace()
state = engram_ref.start_state(config, 1, "float32")
assert_type(state, EngramState)
output: np.ndarray = engram_ref.engram(parameters, hidden, rows, config, trace=trace)
gate: np.ndarray = trace["gate"]
engram_ref.engram(parameters, hidden, rows)     # type: ignore[call-arg]

# Backends and single ops
numba = load("numba")
assert_type(numba, Ops)
assert_type(replace(numba, silu=lambda x: x), Ops)
normed: np.ndarray = ops.rms_norm(hidden, np.ones(2560, dtype=np.float32), 1e-6)
normed = numba.rms_norm(hidden, np.ones(2560, dtype=np.float32), 1e-6)
ops.rms_norm(hidden)                            # type: ignore[call-arg]

# A whole model, and checkpoints of other implementations
logits: np.ndarray = forward({}, ids, model, state=DecodeState.start(1), ops=numba)
hf_config, hf_parameters = from_hf_deepseek_v3({}, {})
assert_type(hf_config, ModelConfig)
demo: dict[str, np.ndarray] = dict(from_engram_demo({}, config))

# Tests of a port
check_rows(lambda ids, history: ids, "tiny", layer_id=1, flat=True, cases=10, seed=1, to=np.asarray)
check_engram(lambda *arguments: arguments[1], config, parameters, dtype="float32")
check_streaming(lambda batch: object(), config, actions=["feed"])
check_rows(3, "tiny")                           # type: ignore[arg-type]
check_streaming(lambda: object(), config)       # type: ignore[arg-type, misc]
assert_type(first_divergence("numpy", numba, {"config": config}), Divergence | None)
assert_type(port_cases("gate", kit=Path("kit")), list[PortCase])
assert_type(random_config(np.random.default_rng(0), conv_kernel=3), EngramConfig)
