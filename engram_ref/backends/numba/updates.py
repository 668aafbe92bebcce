"""AdamW a block at a time, so that its temporary arrays stay in the cache.

Fast version of ops/updates.py: the same operations in the same order, so the results are bit-equal.
"""

import numpy as np

BLOCK = 2**14       # numbers whose update is computed at a time


def adam_update(parameter: np.ndarray, gradient: np.ndarray, mean: np.ndarray, square: np.ndarray, step: int,
                lr: float, beta1: float, beta2: float, eps: float, weight_decay: float) -> tuple:
    """Fast version of ops.adam_update."""
    old = [np.ascontiguousarray(x).reshape(-1) for x in (parameter, gradient, mean, square)]
    new = tuple(np.empty(parameter.shape, parameter.dtype) for _ in range(3))
    written = [x.reshape(-1) for x in new]
    for first in range(0, parameter.size, BLOCK):
        (w, g, m0, v0), (x, m, v) = ([array[first : first + BLOCK] for array in arrays] for arrays in (old, written))
        # Update both means; x holds their new part
        np.multiply(beta1, m0, out=m)
        m += np.multiply(1 - beta1, g, out=x)
        np.multiply(1 - beta2, g, out=x)
        x *= g
        np.multiply(beta2, v0, out=v)
        v += x
        # Move the parameter
        root = v / (1 - beta2**step)
        np.sqrt(root, out=root)
        root += eps
        np.divide(m, 1 - beta1**step, out=x)
        x *= lr
        x /= root
        np.subtract(np.multiply(w, 1 - lr * weight_decay, out=root), x, out=x)
    return new
