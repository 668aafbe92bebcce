"""RoPE and MLA; oracle/slow/rope.py and attention.py compute the answers, with full attention and no cache."""

import math

import numpy as np

from engram_ref import ops
from engram_ref.model.declarations import attention_shapes
from engram_ref.model_config import YarnConfig
from engram_ref.oracle.slow import attention as slow
from engram_ref.oracle.slow import rope
from scripts.builders.planned import bf16, case, rng_of
from scripts.builders.small_models import MLA, MLA_LATENT, YARN, slow_attention_config
from scripts.builders.small_modules import as_lists

WIDTH = 7
WIDE_YARN = YarnConfig(factor=40.0, mscale=1.0)


def rotations():
    """Yield cases for frequencies, angles and rotated pairs."""
    for title, dim, theta, yarn in (("plain", 6, 10_000.0, None), ("pair", 2, 500.0, None),
                                    ("yarn", 64, 10_000.0, WIDE_YARN), ("yarn-narrow", 6, 100.0, YARN)):
        flags = "positions" if yarn is None else "positions yarn"
        yield case(f"frequencies/{title}", flags=flags, dim=dim, theta=theta,
                   yarn=yarn, slow=lambda dim, theta, yarn: rope.frequencies(dim, theta, yarn and vars(yarn)))
        yield case(f"softmax_scale/{title}", flags=flags, dim=dim, yarn=yarn, slow=lambda dim, yarn: rope.yarn_mscale(
            yarn and vars(yarn)) ** 2 / math.sqrt(dim))
        yield case(f"yarn_mscale/{title}", flags=flags, yarn=yarn,
                   slow=lambda yarn: rope.yarn_mscale(yarn and vars(yarn)))
        yield case(f"half_split_order/{title}", flags="positions", dim=dim,
                   slow=lambda dim: [*range(0, dim, 2), *range(1, dim, 2)])
    positions, speeds = np.array([[0, 1, 2], [1_000_003, 1_000_005, 1_000_007]]), np.array([1.0, 0.01])
    yield case("angles/far", flags="positions", positions=positions, frequency=speeds,
               slow=lambda positions, frequency: [p * f for p in positions.ravel() for f in frequency])
    for title, shape in (("heads", (2, 3, 3, 4)), ("shared", (2, 3, 4)), ("empty", (1, 0, 2, 4)),
                         ("float32", (2, 3, 3, 4))):
        narrow = title == "float32"
        x = rng_of(f"rotate/{title}").standard_normal(shape).astype(np.float32 if narrow else np.float64)
        yield case(f"rotate/{title}", kind="f32" if narrow else "f64", flags="positions", x=x,
                   slow=slow_rotate, angle=(positions[..., None] * speeds)[: shape[0], : shape[1]])


def slow_rotate(x, angle):
    flat = x.reshape(*x.shape[:2], -1, x.shape[-1]) if x.size else x
    return [[[rope.rotate(head, 1, a) for head in heads] for heads, a in zip(row, angles, strict=True)]
            for row, angles in zip(flat.tolist(), angle.tolist(), strict=True)] if x.size else []


def parts(name, config, B, T, S):
    """Return the parameters of one layer, S hidden states, the last T positions and angles, and all angles."""
    rng = rng_of(name)
    p = {key.removeprefix("attn."): rng.standard_normal(shape) * (shape[-1] ** -0.5 if len(shape) > 1 else 1.0)
         for key, shape in attention_shapes(config, WIDTH).items()}
    whole = rng.standard_normal((B, S, WIDTH))
    positions = np.broadcast_to(np.arange(S), (B, S))
    angle = ops.angles(positions, ops.frequencies(config.qk_rope_head_dim, config.rope_theta, config.yarn))
    p, whole, angle = bf16((p, whole, angle))
    return p, whole, positions[:, S - T :].copy(), angle[:, S - T :].copy(), angle


def layers():
    """Yield cases for one MLA layer: from the start, one token, no tokens, and after a cache."""
    for config, label in ((MLA, "plain"), (MLA_LATENT, "latent-yarn")):
        for title, B, T, S in (("batch", 2, 4, 4), ("one-token", 1, 1, 1), ("empty", 2, 0, 0), ("cached", 1, 2, 5)):
            name, flags = f"{label}-{title}", "positions yarn" if config.yarn else "positions"
            flags += {"empty": " empty", "cached": " chunked", "one-token": " one-token"}.get(title, "")
            p, whole, positions, angle, all_angles = parts(f"mla/{name}", config, B, T, S)
            x = whole[:, S - T :].copy()
            query = {k: v for k, v in p.items() if k[:2] in ("wq", "q_")}
            key = {k: v for k, v in p.items() if k[:3] in ("wkv", "kv_") and k != "wkv_b.weight"}
            yield case(f"queries/{name}", outputs=("q_nope", "q_pe"),
                       flags=flags, parameters=query, x=x, angle=angle, config=config, slow=slow_queries)
            yield case(f"latents/{name}", outputs=("c_kv", "k_pe"), flags=flags,
                       parameters=key, x=x, angle=angle, config=config, slow=slow_latents)
            c_kv, k_pe = ops.latents(p, whole, all_angles, config)
            rest = {k: v for k, v in p.items() if k not in key}
            for absorbed in (False, True):
                yield case(f"mla/{name}{'-absorbed' if absorbed else ''}", outputs=("attention",), traced=True,
                           flags=flags + " absorbed" * absorbed, parameters=rest, x=x,
                           c_kv=c_kv, k_pe=k_pe, positions=positions, angle=angle, config=config, absorbed=absorbed,
                           slow=slow_layer)
            yield from inside(name, rest, config, x, c_kv, k_pe, positions, angle, flags)


def inside(name, p, config, x, c_kv, k_pe, positions, angle, flags):
    """Yield cases for the parts of the layer: both forms of attention, mask, up-projections, softmax."""
    S = c_kv.shape[1]
    q_nope, q_pe = ops.queries(p, x, angle, config)
    w_uk, w_uv = ops.up_projections(p, config)
    a = {"q_nope": q_nope, "q_pe": q_pe, "c_kv": c_kv, "k_pe": k_pe, "w_uk": w_uk.copy(), "w_uv": w_uv.copy(),
         "allowed": ops.visible(positions, S), "scale": ops.softmax_scale(config.qk_head_dim, config.yarn)}
    for form in ("expanded", "absorbed"):
        yield case(f"attend_{form}/{name}", traced=True, flags=flags, slow=slow_attend, **a)
    yield case(f"visible/{name}", flags=flags, positions=positions, n_keys=S, slow=lambda positions, n_keys: [
        [s <= p for s in range(n_keys)] for p in positions.ravel().tolist()])
    yield case(f"up_projections/{name}", outputs=("w_uk", "w_uv"), kind="exact", config=config, slow=slow_up,
               parameters={"wkv_b.weight": p["wkv_b.weight"]})
    scores = 800 + 30 * rng_of(f"softmax/{name}").standard_normal((len(x), 2, x.shape[1], S))
    yield case(f"softmax/{name}", flags=f"{flags} saturated", scores=scores, allowed=a["allowed"],
               slow=slow_softmax)


def tokens_of(x, angle):
    """Pair every token with its angles."""
    return [(v, a) for row, angles in zip(x.tolist(), angle.tolist(), strict=True)
            for v, a in zip(row, angles, strict=True)]


def query_of(p, x, angles, c):
    """Return the queries [heads][nope + rope] of one token; at position 0 the slow version rotates nothing."""
    return [q[: c["nope"]] + rope.rotate(q[c["nope"] :], 1, angles) for q in slow.query(p, x, 0, c)]


def slow_queries(parameters, x, angle, config):
    c = slow_attention_config(config)
    heads = [query_of(as_lists(parameters), v, a, c) for v, a in tokens_of(x, angle)]
    return ([[h[: c["nope"]] for h in q] for q in heads], [[h[c["nope"] :] for h in q] for q in heads])


def slow_latents(parameters, x, angle, config):
    p, c = as_lists(parameters), slow_attention_config(config)
    both = [(*slow.latent_and_key(p, v, 0, c), a) for v, a in tokens_of(x, angle)]
    return [latent for latent, _, _ in both], [rope.rotate(key, 1, a) for _, key, a in both]


def slow_layer(parameters, x, c_kv, k_pe, positions, angle, config, absorbed):
    """Attend token by token and head by head, over the cached tokens up to its position."""
    p, c, outputs = as_lists(parameters), slow_attention_config(config), []
    caches = [list(zip(*parts, strict=True)) for parts in zip(c_kv.tolist(), k_pe.tolist(), strict=True)]
    for b, t in np.ndindex(*positions.shape):
        visible = caches[b][: positions[b, t] + 1]
        queries = query_of(p, x[b, t].tolist(), angle[b, t].tolist(), c)
        heads = [slow.one_head(p, q, visible, head, c)[0] for head, q in enumerate(queries)]
        outputs.append(slow.times(p["wo.weight"], [value for head in heads for value in head]))
    return outputs


def slow_attend(q_nope, q_pe, c_kv, k_pe, w_uk, w_uv, allowed, scale):
    """Compute attention head by head and token by token, over the allowed keys only."""
    outputs = []
    for b, t, head in np.ndindex(*q_nope.shape[:3]):
        q = q_nope[b, t, head].tolist() + q_pe[b, t, head].tolist()
        slots = np.flatnonzero(allowed[b, t]).tolist()
        keys = [slow.times(w_uk[head].tolist(), c_kv[b, s].tolist()) + k_pe[b, s].tolist() for s in slots]
        values = [slow.times(w_uv[head].tolist(), c_kv[b, s].tolist()) for s in slots]
        weights = slow.softmax([scale * slow.dot(q, k) for k in keys])
        outputs.append([slow.dot(weights, column) for column in zip(*values, strict=True)])
    return outputs


def slow_softmax(scores, allowed):
    weights = np.zeros(scores.shape)
    for b, h, t in np.ndindex(*scores.shape[:3]):
        mask = allowed[b, t]
        weights[b, h, t, mask] = slow.softmax(scores[b, h, t, mask].tolist())
    return weights


def slow_up(parameters, config):
    """Split the weight, which has the K rows of each head before its V rows."""
    rows, height = parameters["wkv_b.weight"].tolist(), config.qk_nope_head_dim + config.v_head_dim
    heads = [rows[h * height : (h + 1) * height] for h in range(config.n_heads)]
    return [h[: config.qk_nope_head_dim] for h in heads], [h[config.qk_nope_head_dim :] for h in heads]


AREA = (rotations, layers)
