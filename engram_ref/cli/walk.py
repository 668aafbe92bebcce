"""engram-ref walk: follow a sentence through Engram, stage by stage."""

import argparse
import json
import sys

from engram_ref.cli.source import add_preset, add_text, chosen, output_path, read_text
from engram_ref.cli.terminal import style
from engram_ref.cli.walk_block import BLOCK_PAGES, block_heading
from engram_ref.cli.walk_data import DEFAULT_TEXT, Walk, follow
from engram_ref.cli.walk_text import PAGES, heading, source_lines, title, values_notice
from engram_ref.config import EngramConfig
from engram_ref.errors import InputError, unknown_name
from engram_ref.files import write_whole
from engram_ref.model.accounting import summarise
from engram_ref.model_config import ModelConfig
from engram_ref.model_presets import model_preset
from engram_ref.stages import BY_NAME

HELP = "follow a sentence through Engram, stage by stage"
DESCRIPTION = f"""Follow a sentence through Engram, stage by stage.

With no text it takes {DEFAULT_TEXT!r}
Tokens, n-grams and row numbers are those of the preset; the values after them come from the preset
tiny on seeded random weights."""

MOST_PARAMETERS = 100_000_000
MOST_POSITIONS = 32      # longer texts are shown up to here; --position shows any one
BRIEF = ("canonical_ids", "windows", "rows", "memory", "key", "gate", "conv", "output")
"""The stages shown unless --step or --stage asks for others."""


def arguments(command: argparse.ArgumentParser) -> None:
    """The options of `walk`."""
    add_text(command)
    add_preset(command)
    command.add_argument("--layer", type=int, metavar="ID", help="which Engram layer (default: the preset's first)")
    command.add_argument("--model", metavar="NAME", help="go on through the whole block of a model: tiny or small")
    command.add_argument("--position", type=int, metavar="P", help="show one position only, from 0")
    command.add_argument("--stage", metavar="NAME", help="show one stage only: " + ", ".join(PAGES))
    command.add_argument("--step", action="store_true",
                         help="every stage with its formula and place in the source; Enter goes on")
    command.add_argument("--plot", metavar="FILE.svg", help="write a figure: tokens, n-grams, gates")


def run(options: argparse.Namespace) -> int:
    """Follow the text and show what the options ask for."""
    config, layer = chosen(options)
    if config.vocabulary is None:
        raise InputError("--preset", "one with a vocabulary", config.name,
                         "it hashes raw ids of a tokenizer that is not shipped: engram-ref ids --tokens")
    path = None if options.plot is None else output_path(options.plot, ".svg", "--plot")
    names = stage_names(options)
    model = None if options.model is None else walkable(options.model, config)
    text = DEFAULT_TEXT if not options.text else read_text(options.text)
    walk = follow(text, config, layer, model)
    positions = shown_positions(walk, options.position)
    if path is not None:
        from engram_ref.cli.walk_figure import figure_svg

        write_whole(path, figure_svg(walk, positions))
        if not options.json:
            print(f"wrote {path}")
    if options.json:
        every = list(range(walk.length)) if options.position is None else positions
        print(json.dumps(as_json(walk, every, names)))
    elif path is None or options.step or options.stage:
        show(walk, positions, names, options)
    return 0


def walkable(name: str, config: EngramConfig) -> ModelConfig:
    """A model that can run here: it has Engram, the preset's vocabulary, and fits into memory."""
    model = model_preset(name)
    if model.engram is None or model.engram.vocabulary != config.vocabulary:
        raise InputError("--model", f"one with Engram and the vocabulary {config.vocabulary}", name)
    if summarise(model).total > MOST_PARAMETERS:
        raise InputError("--model", "one that runs on a desk: tiny or small", name,
                         f"engram-ref count {name} shows its sizes")
    return model


def stage_names(options: argparse.Namespace) -> list[str]:
    """The stages that the options ask for, in their order."""
    if options.stage is None:
        return [name for name in PAGES if options.step or options.json or name in BRIEF]
    if options.stage not in PAGES:
        raise unknown_name("--stage", options.stage, PAGES)
    return [options.stage]


def shown_positions(walk: Walk, position: int | None) -> list[int]:
    """Every position of a short text, the first of a long one, or the one asked for."""
    if position is None:
        return list(range(min(walk.length, MOST_POSITIONS)))
    if not 0 <= position < walk.length:
        raise InputError("--position", f"a position in [0, {walk.length})", position,
                         f"the text has {walk.length} tokens")
    return [position]


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
    if sys.stdin is None or not sys.stdin.isatty():
        return True
    print(style("-- Enter for the next stage, Ctrl-C to stop --", "2"), end="", flush=True)
    return sys.stdin.readline() != ""


def as_json(walk: Walk, positions: list[int], names: list[str]) -> dict[str, object]:
    """Everything `walk` shows, and every stage in full."""
    tokens = [
        {"position": t, "text": walk.token(t), "raw_id": int(walk.raw_ids[t]),
         "canonical_id": int(walk.addressing["canonical_ids"][t]), "shares_its_id_with": walk.mates(t),
         "ngrams": {str(n): walk.ngram(t, n) for n in walk.config.orders}}
        for t in positions
    ]
    stages = {}
    for name in names:
        trace = walk.addressing if name in walk.addressing else walk.values
        array = trace[name][positions]
        stages[name] = {"axes": BY_NAME[name].axes.removeprefix("B "), "shape": list(array.shape),
                        "dtype": str(array.dtype), "values": array.tolist()}
    if walk.block is not None:
        for key in walk.block:
            array = walk.block[key]
            stages[key] = {"axes": BY_NAME[key.rsplit(".", 1)[-1]].axes, "shape": list(array.shape),
                           "dtype": str(array.dtype), "values": None if key == "logits" else array.tolist()}
    return {"preset": walk.config.name, "layer": walk.layer, "vocabulary": walk.config.vocabulary, "text": walk.text,
            "values_from": "preset tiny, seeded random weights", "tokens": tokens, "stages": stages}


