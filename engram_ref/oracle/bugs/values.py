"""Wrong values of the module: norms, gate, roundings, convolution."""

from dataclasses import replace

import ml_dtypes
import numpy as np

CLAMP = 1e-6
QUIET = {"over": "ignore", "under": "ignore", "invalid": "ignore", "divide": "ignore"}


def in_bf16(original, *arguments):
    result = original(*arguments)
    return result.astype(ml_dtypes.bfloat16).astype(result.dtype)


def with_parameters(change):
    """Return a composition that is called with changed parameters, its first argument."""
    return lambda original, parameters, *rest: original(dict(parameters) | change(parameters), *rest)


# norms and gains

def at_least(eps):
    """Return an `inverse_rms` with an eps of at least this."""
    return lambda original, x, stated: original(x, max(stated or 0.0, eps))


def eps_outside(original, x, eps):
    eps = float(np.finfo(x.dtype).eps) if eps is None else eps
    with np.errstate(**QUIET):
        return 1 / (1 / original(x, 0.0) + x.dtype.type(eps))


def joint_norm(original, x, eps):
    """Computes one mean square over all branches."""
    if x.ndim not in (2, 4):                      # [M, D] or [B, T, M, D]; attention normalises [B, T, D]
        return original(x, eps)
    joint = original(x.reshape(*x.shape[:-2], x.shape[-2] * x.shape[-1]), eps)
    return np.broadcast_to(joint[..., None], (*x.shape[:-1], 1))


def gain_of_branch_0(*names):
    return with_parameters(lambda p: {name: np.repeat(p[name][:1], len(p[name]), axis=0) for name in names})


# gate

def clamped_root(s):
    return np.sqrt(np.maximum(np.abs(s), s.dtype.type(CLAMP)))


def both_roots(wrong):
    return {"signed_sqrt": wrong, "copysign_sqrt": wrong}


def scores_times(power):
    """Return the changes for scores multiplied by a power of the width."""
    def wrong(original, x, *rest):
        return (original(x, *rest) * x.shape[-1] ** power).astype(x.dtype)
    return {"score": wrong, "factored_score": wrong}


def product_rounded_first(original, hidden, update, rounding):
    rounded = update.astype(ml_dtypes.bfloat16).astype(update.dtype) if rounding != "none" else update
    return original(hidden, rounded, rounding)


# convolution

def eps_of_the_gate(original, parameters, gated, taps, config, *record):
    eps = float(np.finfo(gated.dtype).eps) if config.norm_eps is None else config.norm_eps
    return original(parameters, gated, taps, replace(config, conv_norm_eps=eps), *record)


def unnormalised(original, parameters, gated, taps, config, *record):
    ops = original.__self__
    branch = ops.conv_silu(gated, parameters["conv_weight"], config.conv_dilation, taps)
    return ops.add(branch, gated), gated


def gated_not_added(original, parameters, gated, *rest):
    output, normalised = original(parameters, gated, *rest)
    return output - gated, normalised


def skipped(original, parameters, memory, hidden, taps, dead, config, keep, record):
    zeros = np.zeros_like(hidden)
    return zeros, original.__self__.tail(zeros, keep) if config.conv_kernel else None


def residual_included(original, parameters, memory, hidden, *rest):
    output, kept = original(parameters, memory, hidden, *rest)
    return output + hidden, kept


CHANGES = {
    "eps-1e-6": {"inverse_rms": at_least(1e-6)},
    "eps-1e-5": {"inverse_rms": at_least(1e-5)},
    "eps-1e-5-in-gate": {"gate_score": lambda original, parameters, hidden, key, config, *record: original(
        parameters, hidden, key, replace(config, norm_eps=max(config.norm_eps or 0.0, 1e-5)), *record)},
    "eps-1e-5-for-1e-20": {"inverse_rms": lambda original, x, eps: original(x, 1e-5 if eps == 1e-20 else eps)},
    "eps-1e-20": {"inverse_rms": lambda original, x, eps: original(x, 1e-20 if eps is None else eps)},
    "eps-machine": {"inverse_rms": lambda original, x, eps: original(
        x, None if eps is not None and eps < 1e-10 else eps)},
    "eps-outside": {"inverse_rms": eps_outside},
    "eps-shared": {"gated_conv": eps_of_the_gate},
    "joint-norm": {"inverse_rms": joint_norm},
    "bf16-norm": {"inverse_rms": in_bf16},
    "zero-centred-gain": {"effective_gain": lambda original, weight, form: 1 + weight},
    "gain-not-zero-centred": {"effective_gain": lambda original, weight, form: weight},
    "gains-of-branch-0": {"gate_score": gain_of_branch_0("query_gain", "key_gain")},
    "conv-norm-shared": {"gated_conv": gain_of_branch_0("conv_gain")},

    "scale-missing": scores_times(0.5),
    "scale-by-width": scores_times(-0.5),
    "no-signed-sqrt": {"gate": lambda original, s, form, dead: original(s, "sigmoid", dead)},
    "signed-sqrt-in-paper": {"gate": lambda original, s, form, dead: original(
        s, "signed_sqrt" if form == "sigmoid" else form, dead)},
    "unsigned-sqrt": both_roots(lambda original, s: np.abs(original(s))),
    "clamp-missing": both_roots(lambda original, s: np.copysign(np.sqrt(np.abs(s)), original(s))),
    "clamp-add": both_roots(lambda original, s: np.sign(original(s)) * np.sqrt(np.abs(s) + s.dtype.type(CLAMP))),
    "clamp-after-root": both_roots(lambda original, s: np.sign(original(s)) * np.maximum(
        np.sqrt(np.abs(s)), s.dtype.type(CLAMP))),
    "sign-for-copysign": {"copysign_sqrt": lambda original, s: np.sign(s) * clamped_root(s)},
    "lt-for-copysign": {"copysign_sqrt": lambda original, s: np.where(s < 0, -clamped_root(s), clamped_root(s))},
    "copysign-for-sign": {"signed_sqrt": lambda original, s: np.copysign(clamped_root(s), s)},
    "dead-gate-not-zero": {"gate": lambda original, s, form, dead: original(s, form)},
    "dead-score-zero": {"gate": lambda original, s, form, dead: original(
        s if dead is None else s * ~dead[..., None], form)},

    "bf16-score": {"gate_score": in_bf16},
    "bf16-gate": {"gate": in_bf16},
    "bf16-product": {"apply_gate": in_bf16},
    "double-round": {"add_residual": product_rounded_first},
    "residual-not-rounded": {"add_residual": lambda original, hidden, update, rounding: original(hidden, update)},

    "taps-reversed": {"short_conv": lambda original, x, weight, *rest: original(x, weight[..., ::-1], *rest)},
    "dilation-1": {"short_conv": lambda original, x, weight, dilation, taps: original(
        x, weight, 1, taps[:, taps.shape[1] - (weight.shape[-1] - 1) :])},
    "non-causal": {"short_conv": lambda original, x, *rest: original(x[:, ::-1], *rest)[:, ::-1]},
    "conv-kernel-shared": {"short_conv": lambda original, x, weight, *rest: original(
        x, np.repeat(weight[:1], len(weight), axis=0), *rest)},
    "conv-channel-major": {"short_conv": lambda original, x, weight, *rest: original(x, weight.reshape(
        weight.shape[1], *weight.shape[::2]).swapaxes(0, 1), *rest)},
    "conv-unnormalised": {"gated_conv": unnormalised},
    "silu-missing": {"conv_silu": lambda original, *arguments: original.__self__.short_conv(*arguments)},
    "sigmoid-for-silu": {"conv_silu": lambda original, *arguments: original.__self__.sigmoid(
        original.__self__.short_conv(*arguments))},
    "gated-value-not-added": {"gated_conv": gated_not_added},
    "hash-ids-dropped": {"gated_update": skipped},
    "returns-residual": {"gated_update": residual_included},
}
"""Bug -> target -> wrong implementation."""
