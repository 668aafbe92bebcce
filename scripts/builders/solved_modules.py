"""The Engram module on inputs solved for: each row of a batch puts a score or a size at a special point of a formula.

All numbers are exact in bfloat16. Keys read only the first part of the memory, values only the rest, so that both can
be chosen. Key channel i is the memory's number i times a power of two per branch; the last FREE key channels are 0, so
that the hidden state there changes no score except through its norm. In most rows it is -bf16(Y) there: H + Y then
cancels to the last bits of Y, so that even an answer in bfloat16 shows 17 bits of the gate.
"""

from dataclasses import replace

import ml_dtypes
import numpy as np

from engram_ref import ops
from engram_ref.oracle.compare import to_bf16
from engram_ref.oracle.run import Adapter, call
from scripts.builders.emulated_rounding import emulated_memory, emulated_project
from scripts.builders.modules import in_single
from scripts.builders.planned import Other, case, rng_of
from scripts.builders.small_modules import DEMO, PAPER, QWEN, TILEKERNELS, V41, random_parameters, slow_engram

D, M, FREE = 16, 3, 4
KEYS = D - FREE                             # channels of the key that are not 0
SHAPE = {"hidden_size": D, "n_branches": M}
FP8_SHAPE = SHAPE | {"n_heads": 1, "table_sizes": (23, 29, 31)}
CONFIGS = {
    "demo-like": replace(DEMO, **SHAPE, row_width=8), "paper-like": replace(PAPER, **SHAPE, row_width=8),
    "qwen-like": replace(QWEN, **SHAPE, row_width=8), "tilekernels-like": replace(TILEKERNELS, **SHAPE, row_width=8),
    "v4.1-like": replace(V41, **FP8_SHAPE),
}
RELEASE = CONFIGS["v4.1-like"]
PLAIN_FP8 = replace(V41, **FP8_SHAPE, name="v4.1-like-fp8-unrounded", rounding="none")
"""FP8 rows in a module that computes in float32: no rounding hides the smallest and the largest scales."""

SCORES = {f"score {sign}{size}": float(f"{sign}{size}") for size in ("1e-8", "0.9e-6", "1.1e-6", "3e-6", "1e-4")
          for sign in "+-"}
SHORT = {"demo-like": (-12, -26), "paper-like": (-34, -30), "qwen-like": (-10, -13),
         "tilekernels-like": (-34, -30), "v4.1-like": (-34, -30)}
"""Dialect -> two exponents of a hidden state at which the mean square is near eps, in float32 and in float64."""

RECIPES = ("zero key", *SCORES, "tiny hidden", "short hidden", "tiny key", "unequal branches", "aligned", "opposite",
           "cancelling", "small values", "ordinary", "subnormal codes", "dead", "underflow")
LARGE = ("tiny hidden", "short hidden", "unequal branches", "ordinary", "small values", "dead")     # not magnified
UNDERFLOW = ("float32 underflows to -0.0 when the score is multiplied by the norms; normalised vectors have a product "
             "of -0.0 and others of 0.0, whose sum is 0.0")


def recipes(config):
    """Return the names of the rows of the batch."""
    missing = {"dead": config.rounding == "none",                # of these dialects, only V4.1 has DEAD positions
               "underflow": config.score_form != "factored",
               "subnormal codes": config.table_codec != "fp8_e8m0"}
    missing |= dict.fromkeys(SCORES, config.gate_form == "sigmoid")
    return [name for name in RECIPES if not missing.get(name)]


def value_part(config):
    """Return the index of the first number of the memory that values read."""
    return 32 if config.table_codec == "fp8_e8m0" else config.memory_width // 2


def parameters_of(config, dtype):
    """Return projections with few weights, all small multiples of a power of two, and gains that are powers of two."""
    n, first = config.memory_width, value_part(config)
    codec = "fp32" if config.table_codec == "fp8_e8m0" else config.table_codec
    p = random_parameters(replace(config, table_codec=codec), rng_of(f"solved/{config.name}"), dtype=dtype)
    rng = rng_of(f"solved/{n}")                 # dialects of one width share their weights
    key, value = np.zeros((M, D, n), dtype), np.zeros((D, n), dtype)
    for i in range(KEYS):
        key[:, i, i] = 2.0 ** (np.arange(M) - 1) * rng.choice([-1.0, 1.0], M)
    for d in range(D):
        value[d, first + rng.permutation(n - first)[:4]] = rng.integers(1, 8, 4) * rng.choice([-0.25, 0.25], 4)
    p |= {"key_weight": key, "value_weight": value}
    shift = 1.0 if config.gain_form == "zero_centred" else 0.0
    for name in ("query_gain", "key_gain"):
        p[name] = (rng.choice([-1.0, 0.5, 1.0, 2.0], (M, D)) - shift).astype(dtype)
    if config.projection_bias:
        p |= {"key_bias": np.zeros((M, D), dtype), "value_bias": (rng.integers(1, 8, D) / 4).astype(dtype)}
    if config.conv_kernel:
        p["conv_weight"] = (rng.integers(-8, 9, p["conv_weight"].shape) / 8).astype(dtype)
        p["conv_gain"] = (rng.choice([0.75, 1.0, 1.5], (M, D)) - shift).astype(dtype)
    return p


def memories(config):
    """Return the memory of each row of the batch, [B, n]: integers up to 15 times 1/8."""
    rng, first = rng_of(f"memory/{config.memory_width}"), value_part(config)
    names = recipes(config)
    e = rng.integers(1, 16, (len(names), config.memory_width)) * rng.choice([-0.125, 0.125],
                                                                            (len(names), config.memory_width))
    for b, name in enumerate(names):
        if name == "zero key":
            e[b, :first] = 0.0
        elif name in SCORES:
            e[b, 1:first:2] = 0.0
        elif name == "tiny key":
            e[b, :first] *= 2.0**-13
        elif name == "small values":
            e[b, first:] *= 2.0**-9
    return e


def hidden_of(config, p, e, rows):
    """Return the hidden states [B, 1, M, D], solved for the score of each row and then for its magnifier."""
    names, rng = recipes(config), rng_of(f"hidden/{config.name}")
    gains = [ops.effective_gain(p[f"{name}_gain"].astype(np.float64), config.gain_form) for name in ("query", "key")]
    gain, keys = gains[0] * gains[1], np.zeros((len(names), M, D))
    keys[..., :KEYS] = e[:, None, :KEYS] * np.diagonal(p["key_weight"], axis1=1, axis2=2)[:, :KEYS]
    h = rng.integers(1, 128, keys.shape) * rng.choice([-0.0625, 0.0625], keys.shape)
    for b, name in enumerate(names):
        if name in SCORES:
            h[b, :, 0:KEYS:2] = 0.0                 # key and hidden state share channel 0 only
            h[b, :, 0] = 2.0**-9
        elif name in ("tiny hidden", "short hidden"):
            h[b] *= 2.0 ** SHORT[config.name][name == "short hidden"]
        elif name == "unequal branches":
            h[b] *= 2.0 ** (6 * np.arange(M) - 9)[:, None]
        elif name in ("aligned", "opposite"):
            h[b] = np.sign(gain) * keys[b] * (1 if name == "aligned" else -1)
        elif name == "cancelling":                  # large products in channels 0 and 1, a small one in channel 2
            h[b, :, 3:KEYS] = 0.0
            h[b, :, 0], h[b, :, 1] = 64 * keys[b, :, 1] / gain[:, 0], -64 * keys[b, :, 0] / gain[:, 1]
            h[b, :, 2] = 0.125 * np.sign(keys[b, :, 2] * gain[:, 2])
        elif name == "underflow":
            h[b] = 0.0
            h[b, :, 0], h[b, :, KEYS] = -np.sign(keys[b, :, 0] * gain[:, 0]) * 2.0**-100, 2.0**60
    return solved(config, p, h[:, None], rows)


def solved(config, p, h, rows):
    """Repeat until both fit: scale channel 0 to the score wanted, and set the free channels to -bf16(Y)."""
    names = recipes(config)
    evaluate = stages_of(config, p, rows)
    for _ in range(6):
        stages = evaluate(parameters=p, hidden=h, rows=rows, config=config, dead=None)
        for b, name in enumerate(names):
            if name in SCORES:
                h[b, 0, :, 0] = to_bf16(h[b, 0, :, 0] * SCORES[name] / stages["score"][b, 0])
            if name not in LARGE:
                free = slice(KEYS + (name == "underflow"), None)
                h[b, 0, :, free] = -to_bf16(stages["output"][b, 0, :, free])
    return h


def stages_of(config, p, rows):
    """Return a function that computes all stages in float64; keys and values that the dialect rounds are computed once.

    The residual is not rounded.
    """
    if config.rounding == "none":
        return lambda **a: call("engram_residual", a, ("residual",), ops, Adapter(), True)
    known = {}

    def evaluate(parameters, hidden, rows, config, dead):
        if config not in known:
            memory = ops.gather_decode(p, rows, config, np.float32)
            key, value = ops.project(p, memory, config)
            known[config] = {"memory": memory, "key": key, "value": value}
        return known[config] | after_keys(parameters, hidden, config, dead, known[config])

    return evaluate


def after_keys(parameters, hidden, config, dead, fixed):
    """Return the stages from the score on, in float64, given the rounded keys and values."""
    s = ops.gate_score(parameters, hidden, fixed["key"].astype(np.float64), config)
    alpha = ops.gate(s, config.gate_form, dead)
    gated = ops.apply_gate(alpha, fixed["value"].astype(np.float64))
    return {"score": s, "gate": alpha, "gated": gated, "output": gated, "residual": hidden + gated}


def table_of(config, p, e):
    """Return the table with the memory e[b] in rows (b + c) mod B of column c, and these rows [B, 1, C]."""
    B, C, W = len(e), config.columns, config.row_width
    rows = (np.arange(B)[:, None] + np.arange(C)) % B
    flat, parts = rows + p["column_offsets"], e.reshape(B, C, W)
    if config.table_codec != "fp8_e8m0":
        table = np.zeros_like(p["table"])
        table[flat] = parts
        return {"table": table.astype(p["table"].dtype)}, rows[:, None]
    # FP8: the smallest power of two in a block is that of its odd integers; 3 bits further down for subnormal codes
    exponent = np.frexp(np.abs(parts).max(axis=-1))[1] - 4
    subnormal = np.zeros((B, 1), int)
    subnormal[[b for b, name in enumerate(recipes(config)) if name == "subnormal codes"]] = 9
    exponent = np.where(parts.any(axis=-1), exponent, -3) + subnormal
    scaled = np.ldexp(parts, -exponent[..., None]).astype(np.float32)
    codes, scales = np.zeros((len(p["table"]), W), np.uint8), np.full((len(p["table"]), 1), 127, np.uint8)
    codes[flat], scales[flat] = scaled.astype(ml_dtypes.float8_e4m3fn).view(np.uint8), (exponent + 127)[..., None]
    return {"table_codes": codes, "table_scales": scales}, rows[:, None]


def arguments_of(config, dtype):
    """Return the arguments of the case of one dialect."""
    p, e = parameters_of(config, dtype), memories(config)
    tables, rows = table_of(config, p, e)
    p = {name: array for name, array in p.items() if name != "table"} | tables
    dead = np.array([[name == "dead"] for name in recipes(config)]) if "dead" in recipes(config) else None
    return {"parameters": p, "hidden": hidden_of(config, p, e, rows).astype(dtype), "rows": rows, "config": config,
            "dead": dead}


def modules():
    """Yield one case per dialect, and one for the underflow, which has two acceptable answers."""
    for label, config in CONFIGS.items():
        emulated = config.rounding != "none"
        a = arguments_of(config, np.float32 if emulated else np.float64)
        shared = {"outputs": ("residual",), "traced": True, "dialect": label,
                  "slow": slow_rounded if emulated else slow_residual, "kind_of_case": "solved"}
        if emulated:
            shared |= {"kind": "f32", "rounded": ("residual",), "exact": ("memory", "key", "value")}
        B = len(recipes(config)) - (config.score_form == "factored")
        flags = "clamp eps unequal-branches dialect" + " subnormal rounding" * emulated
        yield case(f"engram_residual/{label}-solved", flags=flags, **shared, **truth_of(a, slice(B)))
        if config.score_form == "factored":
            last = truth_of(a, slice(B, None))
            changed = last["hidden"].copy()
            changed[..., 0] = -changed[..., 0]
            plus = Other("a score of +0.0", UNDERFLOW, {"hidden": changed}, shared["slow"])
            yield case(f"engram_residual/{label}-underflow", flags="minus-zero dialect", accept=[plus], **shared,
                       **last)


def truth_of(a, rows):
    """Return the arguments for these rows of the batch, and `truth` if the dialect rounds."""
    part = {name: a[name] if a[name] is None else a[name][rows] for name in ("hidden", "rows", "dead")}
    rounds = a["config"].rounding != "none"
    return a | part | ({"truth": stages_of(a["config"], a["parameters"], part["rows"])} if rounds else {})


def slow_residual(parameters, hidden, rows, config, dead):
    """Return Y and H + Y, computed by the slow module."""
    Y = slow_engram(parameters, hidden, rows, config, dead)
    return {"output": Y, "residual": hidden + Y}


def slow_rounded(parameters, hidden, rows, config, dead):
    """Return memory, keys and values, computed with exact fractions; a token with NaN in its memory has no others."""
    single = in_single(parameters)
    memories = [emulated_memory(single, position) for position in rows[:, 0]]
    finite = [b for b, memory in enumerate(memories) if np.isfinite(memory).all()]
    keys, values = np.full((len(rows), M, D), np.nan), np.full((len(rows), D), np.nan)
    keys[finite], values[finite] = emulated_project(single, [memories[b] for b in finite], config.quantise_floor)
    return {"memory": memories, "key": keys, "value": values}


AREA = (modules,)
