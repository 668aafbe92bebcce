"""The text of `walk`: where its values come from, and one page of lines per stage of Engram and of a model's block."""

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from engram_ref.cli.source import model_line
from engram_ref.cli.terminal import DIM, columns, escaped, fit, shade, table, visible, width, wrap
from engram_ref.cli.walk_data import Walk
from engram_ref.stages import STAGES

MAX_MEMBERS = 40         # tokens of a class that are listed; further ones are only counted
MAX_TOKEN = 24           # columns of a token in a table; some tokens have 128 characters
SHOWN_VALUES = 6         # leading channels of a vector that are printed
MAX_ATTENDED = 3         # positions that are listed per head


def source_of(walk: Walk) -> str:
    """What the addresses and values come from: a preset, or a trained model with its size and training."""
    c = walk.config
    if walk.trained is None:
        return (f"preset {c.name}, layer {walk.layer} (counted from {c.layer_base}), vocabulary {c.vocabulary}; "
                "addresses only, because weights are not included")
    return f"{escaped(model_line(walk.trained))}; layer {walk.layer} (counted from {c.layer_base})"


def token_cell(walk: Walk, position: int) -> str:
    """A quoted token, truncated to MAX_TOKEN columns."""
    shown = visible(walk.spell(walk.raw_ids[position]))
    return shown if columns(shown) <= MAX_TOKEN else fit(shown, MAX_TOKEN)


def wide_table(titles: Sequence[str], positions: list[int], cells: Callable[[int], Sequence[str]],
               keep: str = "left") -> list[str]:
    """A table as wide as the terminal, with columns of equal width; longer cells are truncated."""
    cell_width = (width() - max(len("pos"), len(str(positions[-1])))) // len(titles) - 2
    return table([">pos", *(f"<{fit(title, cell_width)}" for title in titles)],
                 ([t, *(fit(cell, cell_width, keep) for cell in cells(t))] for t in positions))


def tokens_page(walk: Walk, positions: list[int]) -> list[str]:
    """Each token with its raw and canonical id and the tokens that share the canonical id, as far as they fit."""
    tokens = [walk.token(t) for t in positions]
    head, *lines = table([">pos", "<token", ">raw", ">canonical", "<shares its id with"],
                         ([token["position"], token_cell(walk, token["position"]), token["raw_id"],
                           token["canonical_id"], ""] for token in tokens))
    for i, token in enumerate(tokens):
        members = token["shares_its_id_with"]
        shown = [visible(member) for member in members[:MAX_MEMBERS]]
        for kept in range(len(shown), -1, -1):
            more = [f"+{len(members) - kept}"] if kept < len(members) else []
            line = f"{lines[i]}  {' '.join([*shown[:kept], *more]) or '-'}"
            if columns(line) <= width():
                break
        lines[i] = line
    return [head, *lines]


def ngrams_page(walk: Walk, positions: list[int]) -> list[str]:
    """The texts of the n-grams that end at each position, oldest token first; long ones are truncated at the start."""
    ngrams = {t: walk.token(t)["ngrams"].values() for t in positions}
    return wide_table([f"{n}-gram" for n in walk.config.orders], positions,
                      lambda t: [" | ".join(map(escaped, ngram)) for ngram in ngrams[t]], keep="right")


def mix_page(walk: Walk, positions: list[int]) -> list[str]:
    """The mix of each order, in hexadecimal to make the exclusive or readable."""
    return table([">pos", *(f">{n}-gram" for n in walk.config.orders)],
                 ([t, *(f"{int(m):016x}" for m in walk.at("mix", t))] for t in positions))


def rows_page(walk: Walk, positions: list[int]) -> list[str]:
    """The row that each head reads, one line per order."""
    H = walk.config.n_heads
    return table([">pos", ">n", *(f">head {h}" for h in range(H))],
                 ([t if i == 0 else "", n, *walk.at("rows", t)[i * H : (i + 1) * H]]
                  for t in positions for i, n in enumerate(walk.config.orders)), narrow=True)


def vector_page(name: str, walk: Walk, positions: list[int]) -> list[str]:
    """Root mean square and first values of a float stage, at each position."""
    vectors = [walk.at(name, t) for t in positions]          # [D] or [M, D]
    where = "" if vectors[0].ndim == 1 else " of branch 0"
    count = min(SHOWN_VALUES, vectors[0].shape[-1])
    return table([">pos", ">rms", "<value" if count == 1 else f"<first {count} values{where}"],
                 ([t, f"{np.sqrt(np.mean(x.ravel() ** 2)):.4f}", " ".join(f"{v:>8.4f}" for v in x.ravel()[:count])]
                  for t, x in zip(positions, vectors, strict=True)))


def gates_page(walk: Walk, positions: list[int]) -> list[str]:
    """The gate of each branch, with a bar that is darker for larger values."""
    about = ("A gate near 1 means that the last words nearly settle the next one. How often their rows were trained is "
             "not known.")
    if walk.trained.config.gate_cost:
        about += " The training, unlike the paper's, added the mean gate to the loss, which keeps most gates small."
    return [*wrap(about, DIM),
            *table([">pos", "<token", *(f">branch {m}" for m in range(walk.config.n_branches))],
                   ([t, token_cell(walk, t), *(f"{shade(a) * 2} {a:.3f}" for a in walk.at("gate", t))]
                    for t in positions))]


def attention_page(walk: Walk, positions: list[int]) -> list[str]:
    """The tokens with the largest attention weights, for each head and position."""

    def most_attended(t: int) -> list[str]:
        weights = walk.at("attention.attention_weights", t)              # [A, S]
        best = np.argsort(-weights, axis=-1, kind="stable")[:, : min(MAX_ATTENDED, t + 1)]
        return [" ".join(f"{visible(walk.spell(walk.raw_ids[s]))} {of_head[s]:.2f}" for s in listed)
                for of_head, listed in zip(weights, best.tolist(), strict=True)]

    heads = walk.trained.model.backbone.attention.n_heads
    return wide_table([f"head {h}" for h in range(heads)], positions, most_attended)


def routing_page(walk: Walk, positions: list[int]) -> list[str]:
    """The experts selected for each token, with their weights."""
    pairs = {t: zip(walk.at("experts.experts", t), walk.at("experts.expert_weights", t), strict=True)
             for t in positions}
    return table([">pos", "<token", "<expert: weight"],
                 ([t, token_cell(walk, t), "  ".join(f"{e}: {w:.3f}" for e, w in pairs[t])] for t in positions))


def logits_page(walk: Walk, positions: list[int]) -> list[str]:
    """The most likely next token with memory, its probability with and without, and the most likely one without."""
    size = (width() - 39) // 3                              # 39: the other columns and the gaps

    def cells(t: int) -> list[object]:
        (best, on, off), *_ = listed = walk.next_tokens(t)
        other, _, most = max(listed, key=lambda token: token[2])
        gate = f"{shade(walk.gate(t)) * 2} {walk.gate(t):.2f}"
        names = [fit(visible(walk.spell(i)), size) for i in (walk.raw_ids[t], best, other)]
        return [t, names[0], gate, names[1], f"{on:.2f}", f"{off:.2f}", names[2], f"{most:.2f}"]

    return [*wrap("next: the most likely token, with probability p; off: without the memory", DIM),
            *table([">pos", "<token", ">gate", "<next", ">p", ">p off", "<next off", ">p off"], map(cells, positions))]


Page = Callable[[Walk, list[int]], list[str]]

OTHER_THAN_VECTORS: dict[str, Page] = {"canonical_ids": tokens_page, "windows": ngrams_page, "mix": mix_page,
                                       "rows": rows_page, "gate": gates_page}
PAGES: dict[str, Page] = {
    **{stage.name: OTHER_THAN_VECTORS.get(stage.name, partial(vector_page, stage.name)) for stage in STAGES},
    "attention.attention_weights": attention_page,
    "experts.experts": routing_page,
    "logits": logits_page,
}
"""Stages of the Engram module, then of the rest of the block or the model -> their pages, in order of computation."""
