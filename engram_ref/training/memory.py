"""The memory that a training step needs, stated before it runs.

The record of a step keeps the result of every op until its gradient is known. Each result grows with the batch, and
with the number of tokens T at most as c0 + c1 T + c2 T^2: attention weights have T^2 elements. So the sizes at three
short lengths determine those at every length. To these come the parameters, their gradients, and four temporary arrays
of the size of the largest result: the gradient of a softmax has its upstream, the weights, a difference and a product.

The optimiser keeps two running means of each parameter. While it updates them, there is a second, new version of each
of these three arrays, the gradients exist before and after clipping, except those of tables, which are short, and there
is a temporary array of the size of the largest parameter.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from engram_ref.addressing import Addressing
from engram_ref.backends.tape import as_value, calls, tape
from engram_ref.checks import check_kinds, integer
from engram_ref.errors import InputError
from engram_ref.memory import available
from engram_ref.model import declarations
from engram_ref.model.transformer import forward
from engram_ref.model_config import ModelConfig
from engram_ref.ops.namespace import NUMPY, Ops

LENGTHS = (4, 8, 12)        # of the texts that are measured
TEMPORARY = 4               # arrays of the size of the largest result


def bytes_of_step(parameters: Mapping[str, Any], config: ModelConfig, batch: int, tokens: int, ops: Ops = NUMPY,
                  addressing: Addressing | None = None) -> int:
    """Return the peak number of bytes that the gradients of one step need, parameters included.

    parameters   name -> NumPy array
    batch        number of texts
    tokens       their length
    addressing   as for forward
    """
    check_kinds(config=(config, ModelConfig))
    batch, tokens = integer("batch", batch, 1), integer("tokens", tokens, 1)
    measured = np.array([recorded_sizes(parameters, config, T, ops, addressing) for T in LENGTHS], dtype=np.float64)
    coefficients = np.linalg.solve(np.vander(LENGTHS, 3), measured)                        # [3, number of results]
    results = batch * np.maximum(np.vander([tokens], 3)[0] @ coefficients, 0.0)
    weights = sum(array.nbytes for array in parameters.values())
    return int(2 * weights + results.sum() + TEMPORARY * results.max())


def check_step(parameters: Mapping[str, Any], config: ModelConfig, batch: int, tokens: int, ops: Ops = NUMPY,
               addressing: Addressing | None = None) -> int:
    """Return the bytes that a step with Adam needs, or raise InputError if that many are not available."""
    weights = sum(array.nbytes for array in parameters.values())
    tables = sum(parameters[p.name].nbytes for p in declarations.model(config) if p.kind == "table")
    needed = max(bytes_of_step(parameters, config, batch, tokens, ops, addressing) + 2 * weights,
                 2 * 3 * weights + 2 * (weights - tables) + max(array.nbytes for array in parameters.values()))
    free = available() + weights                            # which are in memory
    if needed > free:
        raise InputError("batch", f"a step that fits in {free / 2**30:.1f} GiB of memory",
                         f"{batch} x {tokens} tokens, which need {needed / 2**30:.1f} GiB",
                         "use a smaller batch, and take the mean of several with training.gradients.mean_of_batches")
    return needed


def recorded_sizes(parameters: Mapping[str, Any], config: ModelConfig, tokens: int, ops: Ops,
                   addressing: Addressing | None = None) -> list[int]:
    """Bytes that each op of one step keeps in addition, in the order of computation; a view adds nothing."""
    recording = tape(ops)
    values = {name: as_value(array) for name, array in parameters.items()}
    ids = np.zeros((1, tokens), dtype=np.int64)
    logits = forward(values, ids, config, addressing=addressing, ops=recording, check_values=False)
    output = recording.cross_entropy(logits, ids)
    counted = {id(owner(array)) for array in parameters.values()}
    sizes = []
    for node in reversed(calls(output)):
        arrays = *node.results, *(x for x in node.inputs if isinstance(x, np.ndarray))      # such as a mask
        owners = {id(owner(array)): owner(array).nbytes for array in arrays}
        sizes.append(sum(size for key, size in owners.items() if key not in counted))
        counted |= set(owners)
    return sizes


def owner(array: np.ndarray) -> np.ndarray:
    """Return the array that owns the memory of a view."""
    return owner(array.base) if isinstance(array.base, np.ndarray) else array
