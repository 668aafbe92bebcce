"""Update rules of the optimisers: a parameter, its gradient and its state go in, the new parameter and state come out.

AdamW keeps running means of the gradient and of its square, and divides one by the root of the other, so every number
moves by about the learning rate, however small its gradient is:

    m = beta1 m + (1 - beta1) g         v = beta2 v + (1 - beta2) g^2
    w = (1 - lr decay) w - lr (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + eps)

Muon is for matrices. It replaces the singular values of the momentum by numbers near 1, so every direction of the
matrix moves by about the same length. Newton-Schulz approximates this with products alone: X = a X + b (X X^T) X +
c (X X^T)^2 X applies the odd polynomial a s + b s^3 + c s^5 to each singular value s.

Weight decay is decoupled: it multiplies the parameter by 1 - lr * decay, with the learning rate as given, and is not
part of the gradient.
"""

import numpy as np

from engram_ref.errors import check_name
from engram_ref.ops.vjp.loss import LossVjp

FAST, EXACT = (3.4445, -4.7750, 2.0315), (2.0, -1.5, 0.5)
"""Coefficients a, b, c. FAST has slope 3.4 at zero, so small singular values grow quickly, but it ends in [0.68, 1.21].
EXACT has the fixed point 1 with slope 0."""

NEWTON_SCHULZ = {"classic": (FAST,) * 5, "hybrid": (FAST,) * 8 + (EXACT,) * 2}
"""Iterations by name: "classic" of Jordan 2024, "hybrid" of DeepSeek-V4."""

SMALLEST_NORM = 1e-7        # of a matrix that is normalised

RMS = {"classic": 0.2, "hybrid": 0.18}
"""Root mean square of an update per unit of learning rate with scale "rms", by iteration (Moonlight, DeepSeek-V4)."""


def adam_update(parameter: np.ndarray, gradient: np.ndarray, mean: np.ndarray, square: np.ndarray, step: int,
                lr: float, beta1: float, beta2: float, eps: float, weight_decay: float) -> tuple:
    """Update a parameter with AdamW.

    gradient, mean, square   of the parameter's shape; mean and square are 0 before the first step
    step                     number of this step, from 1, for the correction of means that began with 0
    returns                  parameter, mean, square
    source                   Loshchilov and Hutter 2019
    """
    mean = beta1 * mean + (1 - beta1) * gradient
    square = beta2 * square + (1 - beta2) * gradient * gradient
    root = (square / (1 - beta2**step)) ** 0.5 + eps
    moved = lr * (mean / (1 - beta1**step)) / root
    return parameter * (1 - lr * weight_decay) - moved, mean, square


def replace_rows(table: np.ndarray, rows: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return a copy of the table with these rows replaced.

    table    [R, W]
    rows     int64 [n], each once
    values   [n, W]

    >>> replace_rows(np.zeros((3, 1)), np.array([2]), np.ones((1, 1))).ravel()
    array([0., 0., 1.])
    """
    table = table.copy()
    table[rows] = values
    return table


def newton_schulz(matrix: np.ndarray, steps: str) -> np.ndarray:
    """Replace the singular values of each matrix by numbers near 1.

    matrix    [..., A, B]; every matrix of a stack is treated by itself
    steps     a key of NEWTON_SCHULZ
    returns   [..., A, B]. "classic": singular values above 0.01 of the Frobenius norm end in [0.68, 1.21]; "hybrid":
              within 0.001 of 1. Smaller ones end below
    raises    InputError for other steps
    source    Jordan 2024; DeepSeek-V4 (hybrid)
    """
    check_name("steps", steps, NEWTON_SCHULZ)
    wide = matrix.shape[-2] <= matrix.shape[-1]
    x = matrix if wide else matrix.mT
    x = x / (((x * x).sum((-2, -1)) ** 0.5).clip(SMALLEST_NORM))[..., None, None]
    for a, b, c in NEWTON_SCHULZ[steps]:
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x if wide else x.mT


def batch_weights(tokens: np.ndarray) -> np.ndarray:
    """Return the weight of each batch's gradient in that of all batches together: its share of the tokens.

    tokens    float [n], number of tokens that the mean loss of each batch was taken over

    >>> batch_weights(np.array([3.0, 1.0]))
    array([0.75, 0.25])
    """
    return tokens / tokens.sum()


def bias_update(bias: np.ndarray, counts: np.ndarray, rate: float, centred: bool = False) -> np.ndarray:
    """Raise the bias of experts with fewer tokens than the mean, and lower the others, by a fixed amount.

    bias, counts   [E]; counts of tokens over the whole batch of a step
    centred        also subtract the mean of the biases, which changes no choice
    returns        [E]; an expert with exactly the mean keeps its bias
    source         Wang et al. 2024; DeepSeek-V3

    >>> bias_update(np.zeros(3), np.array([1, 2, 3]), 0.5)
    array([ 0.5,  0. , -0.5])
    """
    up = np.sign(counts.sum() - len(counts) * counts)                            # in integers, so the mean is exact
    bias = bias + rate * up.astype(bias.dtype)
    return bias - bias.mean() if centred else bias


class Updates(LossVjp):
    """Update rules."""

    __slots__ = ()
    adam_update = staticmethod(adam_update)
    batch_weights = staticmethod(batch_weights)
    bias_update = staticmethod(bias_update)
    newton_schulz = staticmethod(newton_schulz)
    replace_rows = staticmethod(replace_rows)

    def lazy_adam_update(self, table: np.ndarray, rows: np.ndarray, values: np.ndarray, mean: np.ndarray,
                         square: np.ndarray, step: int, lr: float, beta1: float, beta2: float, eps: float,
                         weight_decay: float) -> tuple:
        """Update only the rows of a table that have a gradient; the other rows and their state stay as they are.

        Dense Adam would go on moving them by their old mean. torch.optim.SparseAdam is lazy, too.

        table, mean, square   [R, W]
        rows, values          int64 [n], each once, and [n, W]: the gradient
        others, returns       as for adam_update
        """
        old = (table[rows], values, mean[rows], square[rows])
        new = self.adam_update(*old, step, lr, beta1, beta2, eps, weight_decay)
        return tuple(self.replace_rows(whole, rows, part)
                     for whole, part in zip((table, mean, square), new, strict=True))

    def muon_update(self, parameter: np.ndarray, gradient: np.ndarray, momentum: np.ndarray, lr: float,
                    weight_decay: float, beta: float, nesterov: bool, form: str, scale: str, steps: str) -> tuple:
        """Update a matrix, or each matrix of a stack, with Muon.

        gradient, momentum   of the parameter's shape [..., A, B]; momentum is 0 before the first step
        form                 of the momentum: "sum", m = beta m + g, or "ema", m = beta m + (1 - beta) g
        nesterov             use beta m + g, or beta m + (1 - beta) g, with the new m instead of m itself
        scale                "rms": times RMS[steps] sqrt(max(A, B)); "keller": times sqrt(max(1, A / B))
        steps                as for newton_schulz
        returns              parameter, momentum
        raises               InputError for an unknown form or scale
        source               Jordan 2024; Liu et al. 2025 ("rms"); DeepSeek-V4 (hybrid)
        """
        check_name("form", form, ("sum", "ema"))
        check_name("scale", scale, ("rms", "keller"))
        A, B = parameter.shape[-2:]
        new = gradient if form == "sum" else (1 - beta) * gradient
        momentum = beta * momentum + new
        direction = self.newton_schulz(beta * momentum + new if nesterov else momentum, steps)
        factor = RMS[steps] * max(A, B) ** 0.5 if scale == "rms" else max(1.0, A / B) ** 0.5
        return parameter * (1 - lr * weight_decay) - lr * factor * direction, momentum
