"""engram-ref walk: print how Engram processes a sentence, stage by stage."""

import argparse
import inspect
import json
import sys
from dataclasses import replace
from pathlib import Path

import engram_ref
from engram_ref import ops
from engram_ref.cli.source import add_input, configured, output_path, read_text
from engram_ref.cli.streams import is_terminal
from engram_ref.cli.terminal import BOLD, DIM, MAX_WIDTH, escaped, fit, style, supports_unicode, visible, width, wrap
from engram_ref.cli.walk_data import DEFAULT_TEXT, Walk, axes_of, compute_walk, figure_span
from engram_ref.cli.walk_text import BLOCK_PAGES, PAGES
from engram_ref.config import EngramConfig, check_layer
from engram_ref.errors import InputError, check_name
from engram_ref.files import write_whole
from engram_ref.model.accounting import summarise
from engram_ref.model_config import ModelConfig
from engram_ref.model_presets import model_preset
from engram_ref.packages import require
from engram_ref.stages import stage_of
from engram_ref.text.vocabulary import Vocabulary

MAX_BYTES = 2_000_000    # of standard input: the whole text is tokenised, which takes a second or two

HELP = "follow a sentence through Engram, stage by stage"
DESCRIPTION = f"""Follow a sentence through Engram and print the result of each stage. The default text is
{DEFAULT_TEXT!r}

Tokens, n-grams and rows depend on the preset. All later values are computed with the preset tiny and
seeded random weights. Only the positions shown are computed. Partial UTF-8 characters are shown as bytes,
such as <E2 82>; the JSON includes the bytes of every token. Standard input is limited to {MAX_BYTES:,} bytes."""

MAX_PARAMETERS = 100_000_000
MAX_POSITIONS = 32       # positions shown of a longer text; --position selects any
MAX_COMPUTED = 512       # positions printed as JSON, or computed by a whole model
BRIEF = ("canonical_ids", "windows", "rows", "memory", "key", "gate", "conv", "output")
"""The stages shown by default, without --step or --stage."""


def arguments(command: argparse.ArgumentParser) -> None:
    """Add the options of `walk`."""
    add_input(command)
    command.add_argument("--layer", type=int, metavar="ID", help="Engram layer (default: the preset's first)")
    command.add_argument("--model", metavar="NAME", help="also show the rest of the block in a model, tiny or small; "
                         f"this computes all positions up to the last one shown, at most {MAX_COMPUTED}")
    command.add_argument("--position", type=int, metavar="P", help="show only this position, counted from 0 (default: "
                         f"the first {MAX_POSITIONS}, or with --json all, at most {MAX_COMPUTED})")
    command.add_argument("--stage", metavar="NAME", help="show only this stage: " + ", ".join(PAGES))
    command.add_argument("--step", action="store_true",
                         help="show every stage with its formula and source line, and wait for Enter after each")
    command.add_argument("--plot", metavar="FILE.svg", help="write a figure of tokens, n-grams and gates")


def run(options: argparse.Namespace) -> int:
    """Compute the selected stages and positions, then print or plot them."""
    config, vocabulary = configured(options)
    layer = config.layer_ids[0] if options.layer is None else options.layer
    check_layer(config, layer)
    if config.vocabulary is None:
        raise InputError("--preset", "a preset with an included vocabulary", config.name,
                         "it hashes raw ids of a tokenizer that is not included; use engram-ref ids --tokens")
    path = output_path(options.plot, ".svg", "--plot")
    if options.stage is not None:
        check_name("--stage", options.stage, PAGES)
    names = [options.stage] if options.stage else [n for n in PAGES if options.step or options.json or n in BRIEF]
    model = None if options.model is None else chosen_model(options, config, vocabulary)
    if path is not None:
        require("matplotlib", "--plot")
    text = DEFAULT_TEXT if not options.text else read_text(options.text, MAX_BYTES)
    raw_ids = vocabulary.encode(text)
    positions, focus, span = chosen_positions(len(raw_ids), config.max_ngram, options)
    walk = compute_walk(text, raw_ids, vocabulary, config, layer, span, model)
    if path is not None:
        from engram_ref.cli.walk_figure import figure_svg

        write_whole(path, figure_svg(walk, focus))
        if not options.json:
            print(f"wrote {escaped(str(path))}")
    if options.json:
        print(json.dumps(as_json(walk, positions, names)))
    elif path is None or options.step or options.stage:
        show(walk, positions, names, options)
    return 0


def chosen_model(options: argparse.Namespace, config: EngramConfig, vocabulary: Vocabulary) -> ModelConfig:
    """The model that --model names, adapted to --tokenizer; without it, the vocabulary must be the preset's."""
    model = model_preset(options.model)
    if model.engram is None or (options.tokenizer is None and model.engram.vocabulary != config.vocabulary):
        raise InputError("--model", f"a model with Engram and the vocabulary {config.vocabulary}", options.model)
    if summarise(model).total > MAX_PARAMETERS:
        raise InputError("--model", f"a model of at most {MAX_PARAMETERS:,} parameters: tiny or small", options.model,
                         f"engram-ref count {options.model} prints its size")
    if options.tokenizer is None:
        return model
    return replace(model, engram=vocabulary.configure(model.engram, config.pad_id),
                   backbone=replace(model.backbone, vocab_size=vocabulary.size))


def chosen_positions(length: int, max_ngram: int, options: argparse.Namespace) -> tuple[list[int], int, range]:
    """The positions to show, the position whose rows the figure shows, and the positions to compute for both.

    The positions to show are the one that --position selects, or by default the first ones, or all with --json.
    """
    position, most = options.position, MAX_COMPUTED
    if position is not None and not 0 <= position < length:
        raise InputError("--position", f"a position in [0, {length})", position, f"the text has {length} tokens")
    if position is None and options.json and length > most:
        raise InputError("TEXT", f"at most {most} tokens with --json", f"{length} tokens",
                         "use --position P for one position, or engram-ref ids --json, which has no limit")
    first = range(length if options.json else min(length, MAX_POSITIONS))
    positions = list(first) if position is None else [position]
    focus = positions[0] if len(positions) == 1 else min(max_ngram, length) - 1
    span = range(positions[0], positions[-1] + 1)
    if options.plot is not None:
        figure = figure_span(focus, length)
        span = range(min(span.start, figure.start), max(span.stop, figure.stop))
    if options.model is not None and span.stop > most:
        raise InputError("--position", f"a position below {most - (span.stop - positions[-1] - 1)} with --model",
                         positions[-1], "attention reads every earlier position, so the model computes them all")
    return positions, focus, span


def show(walk: Walk, positions: list[int], names: list[str], options: argparse.Namespace) -> None:
    """Print the pages, with a model's block last; with --step on a terminal, wait for Enter after each page."""
    c = walk.config
    text = visible(walk.text[:MAX_WIDTH])                   # long enough for the widest line
    # title
    print(*wrap(f"preset {c.name}, layer {walk.layer} (counted from {c.layer_base}), vocabulary {c.vocabulary}",
                BOLD), fit(text, width()).rstrip(), sep="\n")
    print(*wrap(f"{len(walk.raw_ids)} tokens; each reads {c.columns} rows: {len(c.orders)} orders x "
                f"{c.n_heads} heads"), sep="\n")
    if options.stage is None and not options.step:
        print(f"{len(names)} of {len(PAGES)} stages; --step shows all, with formulas and source lines")
    if options.position is None and len(positions) < len(walk.raw_ids):
        print(f"the first {len(positions)} positions; --position P shows a later one")
    # pages
    pages = {name: PAGES[name] for name in names} | ({} if walk.model is None else BLOCK_PAGES)
    first_value = next((key for key in pages if stage_of(key).kind == "float"), None)
    for key, page in pages.items():
        if key in BLOCK_PAGES and options.stage is not None:
            return
        notice = ["", *values_notice(walk)] if key == first_value else []
        print(*notice, "", *heading(walk, key, options.step), *page(walk, positions), sep="\n")
        if options.step and key != list(pages)[-1] and is_terminal(sys.stdin):
            print(style("-- Enter for the next stage, Ctrl-C to stop --", DIM), end="", flush=True)
            if sys.stdin.readline() == "":                  # Ctrl-D
                return


def values_notice(walk: Walk) -> list[str]:
    """Notice before the first values: rows come from the preset, values from random weights."""
    dash = "─" if supports_unicode() else "-"
    source = "the module of the preset tiny" if walk.model is None else f"the whole model {walk.model.name}"
    inputs = "weights and hidden states" if walk.model is None else "weights, starting from the text's embeddings"
    notice = (f"The rows above belong to {walk.config.name}. The values below are computed by {source} "
              f"({walk.module.n_branches} branches of {walk.module.hidden_size} channels, small tables, a "
              f"convolution) with seeded random {inputs}. The computation is exact, but the gates are not trained.")
    return [dash * width(), *wrap(notice)]


def heading(walk: Walk, key: str, step: bool) -> list[str]:
    """A page's heading: number, key, shape and description; with `step` also the formula and the op's source line."""
    stage = stage_of(key)
    number = f"{list(PAGES).index(key) + 1}. " if key in PAGES else ""
    described = walk.stages.describe(key) if key in walk.stages else f"{key} (none in this block)"
    lines = [style(number + described, BOLD), f"   {stage.about}"]
    if not step:
        return lines
    op = getattr(ops, stage.op)
    file = Path(inspect.getsourcefile(op)).relative_to(Path(engram_ref.__file__).parent.parent)
    source = f"   {file}:{inspect.getsourcelines(op)[1]}  {stage.op}()"
    return [*lines, f"   {stage.formula}", style(source, DIM)]


def as_json(walk: Walk, positions: list[int], names: list[str]) -> dict[str, object]:
    """The tokens and the full stages of the given positions; logits are omitted."""
    stages = {}
    for key in [*names, *(key for key in walk.stages if key not in PAGES)]:
        array = walk.take(key, positions)
        stages[key] = {"axes": " ".join(axes_of(key, array)), "shape": list(array.shape), "dtype": str(array.dtype),
                       "values": None if key == "logits" else array.tolist()}
    weights_of = "preset tiny" if walk.model is None else f"model {walk.model.name}"
    return {"preset": walk.config.name, "layer": walk.layer, "vocabulary": walk.config.vocabulary, "text": walk.text,
            "length": len(walk.raw_ids), "values_from": f"{weights_of}, seeded random weights",
            "tokens": [walk.token(t) for t in positions], "stages": stages}
