"""engram-ref walk: print how Engram processes a sentence, stage by stage."""

import argparse
import inspect
import json
import sys
from pathlib import Path

import engram_ref
from engram_ref import ops
from engram_ref.cli.source import DEFAULT_PRESET, add_input, configured, output_path, read_text, trained_model
from engram_ref.cli.streams import is_terminal
from engram_ref.cli.terminal import BOLD, DIM, MAX_WIDTH, escaped, fit, style, visible, width, wrap
from engram_ref.cli.walk_data import DEFAULT_TEXT, TRAINED_TEXT, Walk, axes_of, compute_walk, figure_span
from engram_ref.cli.walk_text import PAGES, source_of
from engram_ref.config import check_layer
from engram_ref.errors import InputError, check_name
from engram_ref.files import write_whole
from engram_ref.packages import require
from engram_ref.stages import stage_of
from engram_ref.training.checkpoint import Trained

MAX_BYTES = 2_000_000    # of standard input: the whole text is tokenised, which takes a second or two

HELP = "follow a sentence through Engram, stage by stage"
DESCRIPTION = f"""Follow a sentence through the small trained model of this package, or one that you trained, and print
the result of each stage, then the next tokens that the model predicts with its memory and without. With --preset, print
the tokens, n-grams and rows of a configuration instead: there are no weights, so no gates and no values. The default
texts are {TRAINED_TEXT!r} and {DEFAULT_TEXT!r} Partial UTF-8 characters are shown as bytes, such as <E2 82>; the JSON
includes the bytes of every token. Standard input is limited to {MAX_BYTES:,} bytes."""

MAX_POSITIONS = 32       # positions shown of a longer text; --position selects any
MAX_COMPUTED = 512       # positions printed as JSON, or computed by a model
BRIEF = ("canonical_ids", "windows", "rows", "memory", "key", "gate", "conv", "output", "logits")
"""The stages shown by default, without --step or --stage."""


def arguments(command: argparse.ArgumentParser) -> None:
    """Add the options of `walk`."""
    add_input(command, None, f"show the addresses of this configuration, such as {DEFAULT_PRESET}")
    command.add_argument("--checkpoint", metavar="FOLDER", help="a model trained with engram-ref train --out FOLDER "
                         "(default: the model that is part of this package)")
    command.add_argument("--layer", type=int, metavar="ID", help="Engram layer (default: the first)")
    command.add_argument("--position", type=int, metavar="P", help="show only this position, counted from 0 (default: "
                         f"the first {MAX_POSITIONS}, or with --json all, at most {MAX_COMPUTED}). A model computes "
                         f"all earlier positions too, at most {MAX_COMPUTED}")
    command.add_argument("--stage", metavar="NAME", help="show only this stage: " + ", ".join(PAGES))
    command.add_argument("--step", action="store_true",
                         help="show every stage with its formula and source line, and wait for Enter after each")
    command.add_argument("--plot", metavar="FILE.svg", help="write a figure of tokens, n-grams and a model's gates")


def run(options: argparse.Namespace) -> int:
    """Compute the selected stages and positions, then print or plot them."""
    trained = chosen_model(options)
    config, vocabulary = configured(options) if trained is None else (trained.model.engram, trained.vocabulary)
    layer = config.layer_ids[0] if options.layer is None else options.layer
    check_layer(config, layer)
    if config.vocabulary is None:
        raise InputError("--preset", "a preset with an included vocabulary", config.name,
                         "it hashes raw ids of a tokenizer that is not included; use engram-ref ids --tokens")
    path = output_path(options.plot, ".svg", "--plot")
    if options.stage is not None:
        check_name("--stage", options.stage, PAGES)
    if path is not None:
        require("matplotlib", "--plot")
    default = DEFAULT_TEXT if trained is None else TRAINED_TEXT
    text = default if not options.text else read_text(options.text, MAX_BYTES)
    raw_ids = vocabulary.encode(text)
    positions, focus, span = chosen_positions(len(raw_ids), config.max_ngram, options)
    walk = compute_walk(text, raw_ids, vocabulary, config, layer, span, trained)
    names = chosen_stages(walk, options)
    if path is not None:
        from engram_ref.cli.walk_figure import figure_svg

        if trained is not None and options.position is None:
            focus = max(figure_span(focus, len(raw_ids)), key=walk.gain)
        write_whole(path, figure_svg(walk, focus))
        if not options.json:
            print(f"wrote {escaped(str(path))}")
    if options.json:
        print(json.dumps(as_json(walk, positions, [options.stage] if options.stage else list(walk.stages))))
    elif path is None or options.step or options.stage:
        show(walk, positions, names, options)
    return 0


def chosen_model(options: argparse.Namespace) -> Trained | None:
    """The model that computes the values; None with --preset."""
    if options.preset is not None:
        if options.checkpoint is not None:
            raise InputError("--checkpoint", "no --preset", options.preset, "a trained model has its own configuration")
        return None
    if options.tokenizer is not None:
        raise InputError("--tokenizer", "a --preset", "none", "a trained model has its own vocabulary")
    trained = trained_model(options.checkpoint)
    if trained.model.engram is None:
        raise InputError("--checkpoint", "a model with Engram", f"{trained.config.name}, which has none")
    return trained


def chosen_stages(walk: Walk, options: argparse.Namespace) -> list[str]:
    """The stages to print, in order; InputError if the walk does not have the one that --stage names."""
    available = [name for name in PAGES if name in walk.stages]
    if options.stage is None:
        return [name for name in available if options.step or name in BRIEF]
    if options.stage not in available:
        raise InputError("--stage", f"one of {', '.join(available)}", options.stage, "this model has no such stage"
                         if walk.trained else "a preset has no weights; without --preset, a trained model is shown")
    return [options.stage]


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
    if options.preset is None and span.stop > most:
        raise InputError("--position", f"a position below {most - (span.stop - positions[-1] - 1)}", positions[-1],
                         "attention reads every earlier position, so the model computes them all")
    return positions, focus, span


def show(walk: Walk, positions: list[int], names: list[str], options: argparse.Namespace) -> None:
    """Print the pages; with --step on a terminal, wait for Enter after each page."""
    c = walk.config
    # title
    print(*wrap(source_of(walk), BOLD), fit(visible(walk.text[:MAX_WIDTH]), width()).rstrip(), sep="\n")
    print(*wrap(f"{len(walk.raw_ids)} tokens; each reads {c.columns} rows: {len(c.orders)} orders x "
                f"{c.n_heads} heads"), sep="\n")
    if options.stage is None and not options.step:
        print(f"{len(names)} of {sum(name in walk.stages for name in PAGES)} stages; --step shows all, with formulas "
              "and source lines")
    if options.position is None and len(positions) < len(walk.raw_ids):
        print(f"the first {len(positions)} positions; --position P shows a later one")
    # pages
    for name in names:
        print("", *heading(walk, name, options.step), *PAGES[name](walk, positions), sep="\n")
        if options.step and name != names[-1] and is_terminal(sys.stdin):
            print(style("-- Enter for the next stage, Ctrl-C to stop --", DIM), end="", flush=True)
            if sys.stdin.readline() == "":                  # Ctrl-D
                return


def heading(walk: Walk, key: str, step: bool) -> list[str]:
    """A page's heading: number, key, shape and description; with `step` also the formula and the op's source line."""
    stage = stage_of(key)
    number = [name for name in PAGES if name in walk.stages].index(key) + 1
    lines = [style(f"{number}. {walk.stages.describe(key)}", BOLD), f"   {stage.about}"]
    if not step:
        return lines
    op = getattr(ops, stage.op)
    file = Path(inspect.getsourcefile(op)).relative_to(Path(engram_ref.__file__).parent.parent)
    source = f"   {file}:{inspect.getsourcelines(op)[1]}  {stage.op}()"
    return [*lines, f"   {stage.formula}", style(source, DIM)]


def as_json(walk: Walk, positions: list[int], names: list[str]) -> dict[str, object]:
    """The tokens and the full stages of the given positions; of the logits, the most likely next tokens."""
    stages = {}
    for key in names:
        array = walk.take(key, positions)
        stages[key] = {"axes": " ".join(axes_of(key, array)), "shape": list(array.shape), "dtype": str(array.dtype),
                       "values": None if key == "logits" else array.tolist()}
    tokens = [walk.token(t) for t in positions]
    if walk.trained is not None:
        for token in tokens:
            token["next"] = [{"raw_id": i, "text": walk.spell(i), "probability": on, "without_memory": off}
                             for i, on, off in walk.next_tokens(token["position"])]
    return {"preset" if walk.trained is None else "model": walk.config.name, "layer": walk.layer,
            "vocabulary": walk.config.vocabulary, "text": walk.text, "length": len(walk.raw_ids),
            "source": source_of(walk), "tokens": tokens, "stages": stages}
