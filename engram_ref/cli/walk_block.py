"""The pages that `walk --model` adds: hyper-connections, attention, routing, logits of one block."""

from collections.abc import Callable

import numpy as np

from engram_ref.cli.terminal import fit, style, table, visible, width
from engram_ref.cli.walk_data import Walk
from engram_ref.cli.walk_text import position_width, token_cell
from engram_ref.stages import BY_NAME

MOST_WATCHED = 3         # positions, experts or next tokens that are named


def maps_page(walk: Walk, positions: list[int], site: str) -> list[str]:
    """How one site reads the branches and writes back; H_res of the last position shown."""
    block = walk.block
    pre, post, res = (block[f"{site}_branches.branch_{name}"][0] for name in ("pre", "post", "residual"))
    M = pre.shape[-1]
    rows: list[list[object]] = [["pos", *(f"pre {m}" for m in range(M)), *(f"post {m}" for m in range(M))]]
    rows += [[t, *(f"{x:.3f}" for x in (*pre[walk.index(t)], *post[walk.index(t)]))] for t in positions]
    last = positions[-1]
    lines = [*table(rows, ">" * (2 * M + 1)), style(f"H_res at {last}: row i is written, column j read", "2")]
    return [*lines, *("  " + "  ".join(f"{x:.3f}" for x in row) for row in res[walk.index(last)])]


def attention_page(walk: Walk, positions: list[int]) -> list[str]:
    """Where each head looks from each position: the most watched tokens."""
    weights = walk.block["attention.attention_weights"][0]               # [A, span, S]
    heads, digits = len(weights), position_width(positions)
    room = (width() - digits) // heads - 2
    lines = [style(f"{'pos':>{digits}}  " + "  ".join(fit(f"head {h}", room) for h in range(heads)).rstrip(), "2")]
    for t in positions:
        cells = []
        for looks in weights[:, walk.index(t)]:                          # [S]
            best = np.argsort(-looks, kind="stable")[: min(MOST_WATCHED, t + 1)]
            cells.append(fit(" ".join(f"{visible(walk.token(int(s)))} {looks[s]:.2f}" for s in best), room))
        lines.append(f"{t:>{digits}}  {'  '.join(cells)}".rstrip())
    return lines


def routing_page(walk: Walk, positions: list[int]) -> list[str]:
    """Which experts serve each token, and with which weight; a dense block has none."""
    if "experts.experts" not in walk.block:
        return ["this block's feed-forward network is dense: every token passes through all of it"]
    chosen, weights = walk.block["experts.experts"][0], walk.block["experts.expert_weights"][0]
    rows: list[list[object]] = [["pos", "token", "expert: weight"]]
    for t in positions:
        pairs = zip(chosen[walk.index(t)], weights[walk.index(t)], strict=True)
        rows.append([t, token_cell(walk, t), "  ".join(f"{e}: {w:.3f}" for e, w in pairs)])
    return table(rows, "><<")


def logits_page(walk: Walk, positions: list[int]) -> list[str]:
    """The likeliest next tokens, with their probabilities; of random weights they mean nothing."""
    logits, digits = walk.block["logits"][0], position_width(positions)  # [span, V]
    lines = [style(f"{'pos':>{digits}}  likeliest next tokens (random weights)", "2")]
    for t in positions:
        p = np.exp(logits[walk.index(t)] - logits[walk.index(t)].max())
        p = p / p.sum()
        best = np.argsort(-p, kind="stable")[:MOST_WATCHED]
        text = "  ".join(f"{visible(walk.spell(int(i)))} {p[i]:.5f}" for i in best)
        lines.append(fit(f"{t:>{digits}}  {text}", width()).rstrip())
    return lines


BLOCK_PAGES: tuple[tuple[str, str, Callable[[Walk, list[int]], list[str]]], ...] = (
    ("attn_branches.branch_residual", "branch_residual", lambda walk, p: maps_page(walk, p, "attn")),
    ("attention.attention_weights", "attention_weights", attention_page),
    ("ffn_branches.branch_residual", "branch_residual", lambda walk, p: maps_page(walk, p, "ffn")),
    ("experts.experts", "experts", routing_page),
    ("logits", "logits", logits_page),
)
"""Key below the block (or the model), stage, page."""


def block_heading(walk: Walk, key: str, stage: str) -> list[str]:
    """A page's title line: key, shape, and what it is."""
    described = walk.block.describe(key) if key in walk.block else f"{key} (none in this block)"
    return [style(described, "1"), f"   {BY_NAME[stage].about}"]
