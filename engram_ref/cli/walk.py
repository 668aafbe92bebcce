"""engram-ref walk: follow a sentence through Engram, stage by stage."""

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
from engram_ref.cli.terminal import BOLD, DIM, MOST_WIDTH, escaped, fit, speaks_unicode, style, visible, width, wrap
from engram_ref.cli.walk_data import DEFAULT_TEXT, Walk, axes_of, figure_span, follow
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

MOST_BYTES = 2_000_000   # of a text: tokenised as a whole, since the tokens are counted; a second or two

HELP = "follow a sentence through Engram, stage by stage"
DESCRIPTION = f"""Follow a sentence through Engram, stage by stage.

With no text it takes {DEFAULT_TEXT!r}
Tokens, n-grams and row numbers are those of the preset; the values after them come from the preset
tiny on seeded random weights. Only the positions shown are computed. Bytes that are not a whole
letter are shown as such, <E2 82>; as JSON, every token has its bytes. Standard input may have
{MOST_BYTES:,} bytes."""

MOST_PARAMETERS = 100_000_000
MOST_POSITIONS = 32      # longer texts are shown up to here; --position shows any one
MOST_COMPUTED = 512      # positions that are printed as JSON, or that a whole model computes
BRIEF = ("canonical_ids", "windows", "rows", "memory", "key", "gate", "conv", "output")
"""The stages shown unless --step or --stage asks for others."""


def arguments(command: argparse.ArgumentParser) -> None:
    """The options of `walk`."""
    add_input(command)
    command.add_argument("--layer", type=int, metavar="ID", help="which Engram layer (default: the preset's first)")
    command.add_argument("--model", metavar="NAME", help="go on through the whole block of a model, tiny or small; it "
                         f"computes all positions up to the one shown, at most {MOST_COMPUTED}")
    command.add_argument("--position", type=int, metavar="P", help="show one position only, from 0 (default: the first "
                         f"{MOST_POSITIONS}; with --json all, at most {MOST_COMPUTED})")
    command.add_argument("--stage", metavar="NAME", help="show one stage only: " + ", ".join(PAGES))
    command.add_argument("--step", action="store_true",
                         help="every stage with its formula and place in the source; Enter goes on")
    command.add_argument("--plot", metavar="FILE.svg", help="write a figure: tokens, n-grams, gates")


def run(options: argparse.Namespace) -> int:
    """Follow the text and show what the options ask for."""
    config, vocabulary = configured(options)
    layer = config.layer_ids[0] if options.layer is None else options.layer
    check_layer(config, layer)
    if config.vocabulary is None:
        raise InputError("--preset", "one with a vocabulary", config.name,
                         "it hashes raw ids of a tokenizer that is not shipped: engram-ref ids --tokens")
    path = output_path(options.plot, ".svg", "--plot")
    if options.stage is not None:
        check_name("--stage", options.stage, PAGES)
    names = [options.stage] if options.stage else [n for n in PAGES if options.step or options.json or n in BRIEF]
    model = None if options.model is None else walkable(options, config, vocabulary)
    if path is not None:
        require("matplotlib", "--plot")
    text = DEFAULT_TEXT if not options.text else read_text(options.text, MOST_BYTES)
    raw_ids = vocabulary.encode(text)
    positions, focus, span = chosen_positions(len(raw_ids), config.max_ngram, options)
    walk = follow(text, raw_ids, vocabulary, config, layer, span, model)
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


def walkable(options: argparse.Namespace, config: EngramConfig, vocabulary: Vocabulary) -> ModelConfig:
    """The model that --model names, on the vocabulary of --tokenizer or else its own, which must be the preset's."""
    model = model_preset(options.model)
    if model.engram is None or (options.tokenizer is None and model.engram.vocabulary != config.vocabulary):
        raise InputError("--model", f"one with Engram and the vocabulary {config.vocabulary}", options.model)
    if summarise(model).total > MOST_PARAMETERS:
        raise InputError("--model", "one that runs on a desk: tiny or small", options.model,
                         f"engram-ref count {options.model} shows its sizes")
    if options.tokenizer is None:
        return model
    return replace(model, engram=vocabulary.configure(model.engram, config.pad_id),
                   backbone=replace(model.backbone, vocab_size=vocabulary.size))


def chosen_positions(length: int, max_ngram: int, options: argparse.Namespace) -> tuple[list[int], int, range]:
    """The positions to show, the one whose rows the figure has, and the positions to compute for both.

    To show: the one asked for, or the first of a text; as JSON all of them.
    """
    position, most = options.position, MOST_COMPUTED
    if position is not None and not 0 <= position < length:
        raise InputError("--position", f"a position in [0, {length})", position, f"the text has {length} tokens")
    if position is None and options.json and length > most:
        raise InputError("TEXT", f"at most {most} tokens, if all are printed as JSON", length,
                         "--position P prints one; engram-ref ids --json prints the rows of any number")
    first = range(length if options.json else min(length, MOST_POSITIONS))
    positions = list(first) if position is None else [position]
    focus = positions[0] if len(positions) == 1 else min(max_ngram, length) - 1
    span = range(positions[0], positions[-1] + 1)
    if options.plot is not None:
        figure = figure_span(focus, length)
        span = range(min(span.start, figure.start), max(span.stop, figure.stop))
    if options.model is not None and span.stop > most:
        raise InputError("--position", f"one below {most - (span.stop - positions[-1] - 1)} with --model",
                         positions[-1], "attention looks at every position before it, so the model computes them all")
    return positions, focus, span


def show(walk: Walk, positions: list[int], names: list[str], options: argparse.Namespace) -> None:
    """Print the pages, those of a model's block last; with --step, wait between them for who can press Enter."""
    c = walk.config
    text = visible(walk.text[:MOST_WIDTH])                  # so much of it at most is shown
    print(*wrap(f"preset {c.name}, layer {walk.layer} (blocks count from {c.layer_base}), vocabulary {c.vocabulary}",
                BOLD), fit(text, width()).rstrip(), sep="\n")
    print(*wrap(f"{len(walk.raw_ids)} tokens, each reading {c.columns} rows: {len(c.orders)} orders x "
                f"{c.n_heads} heads"), sep="\n")
    if options.stage is None and not options.step:
        print(f"{len(names)} of {len(PAGES)} stages; --step shows them all, with formulas and sources")
    if options.position is None and len(positions) < len(walk.raw_ids):
        print(f"showing the first {len(positions)} positions; --position P shows any one")
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
    """Said before the first value: which numbers are real and which are not."""
    dash = "─" if speaks_unicode() else "-"
    what = "the module of the preset tiny" if walk.model is None else f"the whole model {walk.model.name}"
    state = "and a random state" if walk.model is None else "from the embedding of the text on"
    notice = (f"Rows above are those of {walk.config.name}. From here on {what} ({walk.module.n_branches} branches of "
              f"{walk.module.hidden_size}, with its own small tables and a convolution) computes on seeded random "
              f"weights {state}: every step is real, gate values are not learned.")
    return [dash * width(), *wrap(notice)]


def heading(walk: Walk, key: str, step: bool) -> list[str]:
    """A page's title: number, key, shape, what it is; with `step` its formula and where in the source the op is."""
    stage = stage_of(key)
    number = f"{list(PAGES).index(key) + 1}. " if key in PAGES else ""
    described = walk.stages.describe(key) if key in walk.stages else f"{key} (none in this block)"
    lines = [style(number + described, BOLD), f"   {stage.about}"]
    if not step:
        return lines
    op = getattr(ops, stage.op)
    file = Path(inspect.getsourcefile(op)).relative_to(Path(engram_ref.__file__).parent.parent)
    place = f"   {file}:{inspect.getsourcelines(op)[1]}  {stage.op}()"
    return [*lines, f"   {stage.formula}", style(place, DIM)]


def as_json(walk: Walk, positions: list[int], names: list[str]) -> dict[str, object]:
    """Everything `walk` shows of these positions, and every stage of them in full, except the logits."""
    stages = {}
    for key in [*names, *(key for key in walk.stages if key not in PAGES)]:
        array = walk.take(key, positions)
        stages[key] = {"axes": " ".join(axes_of(key, array)), "shape": list(array.shape), "dtype": str(array.dtype),
                       "values": None if key == "logits" else array.tolist()}
    weights_of = "preset tiny" if walk.model is None else f"model {walk.model.name}"
    return {"preset": walk.config.name, "layer": walk.layer, "vocabulary": walk.config.vocabulary, "text": walk.text,
            "length": len(walk.raw_ids), "values_from": f"{weights_of}, seeded random weights",
            "tokens": [walk.token(t) for t in positions], "stages": stages}
