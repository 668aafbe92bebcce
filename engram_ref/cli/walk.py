"""engram-ref walk: follow a sentence through Engram, stage by stage."""

import argparse
import json
import sys
from dataclasses import replace

import numpy as np

from engram_ref.cli.source import add_preset, add_text, configured, output_path, read_text
from engram_ref.cli.streams import is_terminal
from engram_ref.cli.terminal import escaped, style
from engram_ref.cli.walk_block import BLOCK_PAGES, block_heading
from engram_ref.cli.walk_data import DEFAULT_TEXT, Walk, at_positions, follow
from engram_ref.cli.walk_text import PAGES, heading, source_lines, title, values_notice
from engram_ref.config import EngramConfig, check_layer
from engram_ref.errors import InputError, check_name
from engram_ref.files import write_whole
from engram_ref.model.accounting import summarise
from engram_ref.model_config import ModelConfig
from engram_ref.model_presets import model_preset
from engram_ref.packages import require
from engram_ref.stages import BY_NAME
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
    add_text(command)
    add_preset(command)
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
    path = None if options.plot is None else output_path(options.plot, ".svg", "--plot")
    names = stage_names(options)
    model = None if options.model is None else walkable(options, config, vocabulary)
    if path is not None:
        require("matplotlib", "--plot")
    text = DEFAULT_TEXT if not options.text else read_text(options.text, MOST_BYTES)
    raw_ids = vocabulary.encode(text)
    positions = shown_positions(len(raw_ids), options)
    focus = positions[0] if len(positions) == 1 else min(config.max_ngram, len(raw_ids)) - 1
    span = computed_span(positions, focus, len(raw_ids), options)
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


def stage_names(options: argparse.Namespace) -> list[str]:
    """The stages that the options ask for, in their order."""
    if options.stage is None:
        return [name for name in PAGES if options.step or options.json or name in BRIEF]
    check_name("--stage", options.stage, PAGES)
    return [options.stage]


def shown_positions(length: int, options: argparse.Namespace) -> list[int]:
    """Every position of a short text, the first of a long one, or the one asked for; as JSON every one."""
    position = options.position
    if position is not None:
        if not 0 <= position < length:
            raise InputError("--position", f"a position in [0, {length})", position, f"the text has {length} tokens")
        return [position]
    if options.json and length > MOST_COMPUTED:
        raise InputError("TEXT", f"at most {MOST_COMPUTED} tokens, if all are printed as JSON", length,
                         "--position P prints one; engram-ref ids --json prints the rows of any number")
    return list(range(length if options.json else min(length, MOST_POSITIONS)))


def computed_span(positions: list[int], focus: int, length: int, options: argparse.Namespace) -> range:
    """The positions to compute: those shown, and those of the figure."""
    span = range(positions[0], positions[-1] + 1)
    if options.plot is not None:
        from engram_ref.cli.walk_figure import figure_span

        figure = figure_span(focus, length)
        span = range(min(span.start, figure.start), max(span.stop, figure.stop))
    if options.model is not None and span.stop > MOST_COMPUTED:
        raise InputError("--position", f"one below {MOST_COMPUTED - (span.stop - positions[-1] - 1)} with --model",
                         positions[-1], "attention looks at every position before it, so the model computes them all")
    return span


def show(walk: Walk, positions: list[int], names: list[str], options: argparse.Namespace) -> None:
    """Print the pages; with --step, wait between them."""
    print("\n".join(title(walk)))
    if options.stage is None and not options.step:
        print(f"{len(names)} of {len(PAGES)} stages; --step shows them all, with formulas and sources")
    if options.position is None and len(positions) < walk.length:
        print(f"showing the first {len(positions)} positions; --position P shows any one")
    noticed = False
    for number, name in enumerate(PAGES, start=1):
        if name not in names:
            continue
        if name in walk.values and not noticed:
            print("\n" + "\n".join(values_notice(walk)))
            noticed = True
        print("\n" + "\n".join(heading(number, name, walk)))
        if options.step:
            print("\n".join(source_lines(BY_NAME[name])))
        print("\n".join(PAGES[name](walk, positions)))
        last = name == names[-1] and walk.block is None
        if options.step and not last and not go_on():
            return
    if walk.block is not None and options.stage is None:
        show_block(walk, positions, options)


def show_block(walk: Walk, positions: list[int], options: argparse.Namespace) -> None:
    """Print the rest of the block: branch maps, attention, routing, logits."""
    for key, stage, page in BLOCK_PAGES:
        print("\n" + "\n".join(block_heading(walk, key, stage)))
        if options.step:
            print("\n".join(source_lines(BY_NAME[stage])))
        print("\n".join(page(walk, positions)))
        if options.step and key != BLOCK_PAGES[-1][0] and not go_on():
            return


def go_on() -> bool:
    """Wait for Enter where someone can press it; False at the end of input (Ctrl-D)."""
    if not is_terminal(sys.stdin):
        return True
    print(style("-- Enter for the next stage, Ctrl-C to stop --", "2"), end="", flush=True)
    return sys.stdin.readline() != ""


def as_json(walk: Walk, positions: list[int], names: list[str]) -> dict[str, object]:
    """Everything `walk` shows of these positions, and every stage of them in full, except the logits."""
    tokens = [
        {"position": t, "text": walk.token(t), "bytes": walk.token_bytes(int(walk.raw_ids[t])).hex(" "),
         "raw_id": int(walk.raw_ids[t]), "canonical_id": int(walk.at("canonical_ids", t)),
         "shares_its_id_with": walk.mates(t), "ngrams": {str(n): walk.ngram(t, n) for n in walk.config.orders}}
        for t in positions
    ]
    stages = {}
    for name in names:
        array = np.stack([walk.at(name, t) for t in positions])
        stages[name] = {"axes": BY_NAME[name].axes.removeprefix("B "), "shape": list(array.shape),
                        "dtype": str(array.dtype), "values": array.tolist()}
    for key in walk.block or ():
        array = at_positions(key, walk.block[key], [walk.index(t) for t in positions])
        stages[key] = {"axes": BY_NAME[key.rsplit(".", 1)[-1]].axes, "shape": list(array.shape),
                       "dtype": str(array.dtype), "values": None if key == "logits" else array.tolist()}
    weights_of = "preset tiny" if walk.model is None else f"model {walk.model.name}"
    return {"preset": walk.config.name, "layer": walk.layer, "vocabulary": walk.config.vocabulary, "text": walk.text,
            "length": walk.length, "values_from": f"{weights_of}, seeded random weights", "tokens": tokens,
            "stages": stages}
