"""Wrong update rules of optimisers."""

import numpy as np

from engram_ref.ops.updates import RMS
from engram_ref.training.groups import TABLE_RATE


def adam(first=True, second=True, inside=False):
    """Return Adam without the correction of the first or second mean, or with eps inside the root."""
    def wrong(original, parameter, gradient, mean, square, step, lr, beta1, beta2, eps, weight_decay):
        mean, square = original(parameter, gradient, mean, square, step, lr, beta1, beta2, eps, weight_decay)[1:]
        m = mean / (1 - beta1**step) if first else mean
        v = square / (1 - beta2**step) if second else square
        root = (v + eps) ** 0.5 if inside else v**0.5 + eps
        return parameter * (1 - lr * weight_decay) - lr * m / root, mean, square
    return {"adam_update": wrong}


def decay_in_the_gradient(original, parameter, gradient, *rest):
    *state, weight_decay = rest
    return original(parameter, gradient + weight_decay * parameter, *state, 0.0)


def dense(original, table, rows, values, *rest):
    gradient = np.zeros_like(table)
    gradient[rows] = values
    return original.__self__.adam_update(table, gradient, *rest)


def muon(**changed):
    """Return Muon with other options: name -> function of all options by name."""
    names = ("lr", "weight_decay", "beta", "nesterov", "form", "scale", "steps", "shape")

    def wrong(original, parameter, gradient, momentum, *rest):
        options = dict(zip(names, (*rest, parameter.shape[-2:]), strict=True))
        options |= {name: change(**options) for name, change in changed.items()}
        return original(parameter, gradient, momentum, *[options[name] for name in names[:-1]])
    return {"muon_update": wrong}


def adjusted(weight_decay, scale, steps, shape, **others):
    """The weight decay that acts like the right one on the adjusted learning rate."""
    A, B = shape
    return weight_decay * (RMS[steps] * max(A, B) ** 0.5 if scale == "rms" else max(1.0, A / B) ** 0.5)


def zero_is_positive(original, bias, counts, rate, centred):
    bias = original(bias, counts, rate, False) + rate * (counts.sum() == len(counts) * counts)
    return bias - bias.mean() if centred else bias


def base_rate(original, table, rows, values, mean, square, step, lr, *rest):
    return original(table, rows, values, mean, square, step, lr / TABLE_RATE, *rest)


def as_one_matrix(original, matrix, steps):
    return original(matrix.reshape(-1, matrix.shape[-1]), steps).reshape(matrix.shape)


CHANGES = {
    "adam-uncorrected": adam(first=False, second=False),
    "adam-square-uncorrected": adam(second=False),
    "adam-eps-inside": adam(inside=True),
    "adam-decay-coupled": {"adam_update": decay_in_the_gradient},
    "adam-table-dense": {"lazy_adam_update": dense},
    "adam-table-base-rate": {"lazy_adam_update": base_rate},
    "muon-decay-adjusted": muon(weight_decay=adjusted),
    "muon-nesterov-missing": muon(nesterov=lambda **options: False),
    "muon-sum-as-ema": muon(form=lambda **options: "ema"),
    "muon-ema-unscaled": muon(form=lambda **options: "sum"),
    "muon-stack-as-matrix": {"newton_schulz": as_one_matrix},
    "batches-equal": {"batch_weights": lambda original, tokens: original(np.ones_like(tokens))},
    "bias-update-ties-raised": {"bias_update": zero_is_positive},
    "bias-update-reversed": {"bias_update": lambda original, bias, counts, rate, centred: original(
        bias, counts, -rate, centred)},
}
"""Bug -> target -> wrong implementation."""
