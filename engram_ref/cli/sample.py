"""engram-ref sample: continue a text with a trained model, and show its gates."""

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from engram_ref.checks import NonNegative, checked, integer
from engram_ref.cli.source import model_line, read_text, trained_model
from engram_ref.cli.terminal import BOLD, DIM, columns, escaped, fit, shade, style, width, wrap
from engram_ref.errors import InputError
from engram_ref.model.generate import generate
from engram_ref.text.pieces import show_bytes, token_bytes
from engram_ref.training.checkpoint import Trained
from engram_ref.training.corpus import Batch
from engram_ref.training.evaluation import predictions
from engram_ref.training.tokens import LINE_END

HELP = "continue a text with a trained model, and show its gates"
DESCRIPTION = """Continue a text with a trained model. Below each gap between two tokens is the gate at the token before
it, darker for larger values: how much of its memory the model adds before it predicts the next token. The text given is
bold. Without TEXT, a new line is written."""

MAX_TOKENS = 1000


def arguments(command: argparse.ArgumentParser) -> None:
    """Add the options of `sample`."""
    command.add_argument("text", nargs="*", metavar="TEXT", help="the text to continue; - means UTF-8 from "
                         "standard input")
    command.add_argument("--checkpoint", metavar="FOLDER", help="a model trained with engram-ref train --out FOLDER; "
                         "FOLDER/control is the control (default: the model that is part of this package)")
    command.add_argument("--tokens", type=int, default=40, metavar="N",
                         help=f"number of tokens to write, at most {MAX_TOKENS} (default: 40)")
    command.add_argument("--temperature", type=float, default=0.7, metavar="T",
                         help="0: always the most likely token; larger: more varied (default: 0.7)")
    command.add_argument("--seed", type=int, default=0, metavar="N", help="seed of the random choices (default: 0)")


@dataclass(frozen=True)
class Sample:
    """A text: T0 given tokens, and those that the model wrote.

    ids             int64 [T]
    given           T0
    gates           float [T], mean over branches at each token; None without Engram
    probabilities   float [T - 1] of each token but the first
    """

    ids: np.ndarray
    given: int
    gates: np.ndarray | None
    probabilities: np.ndarray


def run(options: argparse.Namespace) -> int:
    """Write a text and print it with its gates."""
    tokens = integer("--tokens", options.tokens, 1, MAX_TOKENS)
    temperature = checked("--temperature", options.temperature, NonNegative)
    seed = integer("--seed", options.seed)
    trained = trained_model(options.checkpoint)
    prompt = np.array([LINE_END])
    if options.text:
        prompt = np.concatenate([prompt, trained.vocabulary.encode(read_text(options.text))])
    if len(prompt) > (most := trained.config.length):
        raise InputError("TEXT", f"at most {most - 1} tokens: the model was trained on texts of {most}",
                         f"{len(prompt) - 1} tokens")
    sample = written(trained, prompt, tokens, temperature, seed)
    print(json.dumps(as_json(trained, sample, temperature, seed)) if options.json else
          "\n".join(lines(trained, sample, temperature, seed)))
    return 0


def written(trained: Trained, prompt: np.ndarray, tokens: int, temperature: float, seed: int) -> Sample:
    """Continue a prompt, int64 [T0], and compute the gates and probabilities of the whole text."""
    new = generate(trained.parameters, prompt, trained.model, tokens, temperature=temperature,
                   rng=np.random.default_rng(seed), addressing=trained.addressing)
    ids = np.concatenate([prompt, new])
    inputs = np.append(ids, LINE_END)[None]             # a prediction reads all tokens of a text but the last
    zeros = np.zeros(inputs.shape)
    prediction, = predictions(trained.parameters, trained.model, trained.addressing,
                              [Batch(inputs, zeros.astype(np.uint8), zeros.astype(bool), zeros)])
    gates = None if prediction.gates is None else prediction.gates[0].mean(axis=-1)
    return Sample(ids, len(prompt), gates, np.exp(-prediction.losses[0, :-1]))


def spellings(trained: Trained, sample: Sample) -> list[str]:
    """Return the text of each token; bytes of partial characters are shown in angle brackets."""
    return [show_bytes(token_bytes(trained.vocabulary.spelling(i)) or trained.vocabulary.text(i).encode())
            for i in sample.ids.tolist()]


def lines(trained: Trained, sample: Sample, temperature: float, seed: int) -> Iterator[str]:
    """The text with its gates, after a line that describes the model."""
    yield from wrap(f"{model_line(trained)}; temperature {temperature:g}, seed {seed}", DIM)
    yield ""
    yield from with_gates(spellings(trained, sample)[1:], sample.gates, sample.given - 1)
    if sample.gates is not None:
        scale = " ".join(f"{shade(value)} {value:g}" for value in (0.1, 0.3, 0.5, 0.7, 0.9))
        yield from ["", *wrap(f"gate before the next token: {scale}", DIM)]


def with_gates(words: list[str], gates: np.ndarray | None, given: int) -> Iterator[str]:
    """Wrap a text, and print each gate below the first column after its token.

    words   T tokens
    gates   [T + 1]: at the line end before the text, and at each token; None: no gates
    given   number of leading tokens in bold
    """
    marks = " " * (len(words) + 1) if gates is None else [shade(gate) for gate in gates]
    text, below, used, mark = "", "", 0, marks[0]
    for t, word in enumerate(map(escaped, words)):
        if words[t] == "\n" or used + columns(word) >= width():
            yield from (text, f"{below}{mark}".rstrip())[: 1 if gates is None else 2]
            text, below, used, mark = "", "", 0, " "                # drawn at the end of the line before
        if words[t] != "\n":
            word = word if used else word.lstrip(" ")
            text, used = text + style(word, BOLD if t < given else ""), used + columns(word)
            below += fit(mark, columns(word))
        mark = marks[t + 1]
    yield from (text, f"{below}{mark}".rstrip())[: 1 if gates is None else 2]


def as_json(trained: Trained, sample: Sample, temperature: float, seed: int) -> dict[str, object]:
    """The model, the whole text, and every token with its gate and probability."""
    words = spellings(trained, sample)
    gates = [None] * len(words) if sample.gates is None else sample.gates.tolist()
    tokens = zip(sample.ids.tolist(), words, gates, [None, *sample.probabilities.tolist()], strict=True)
    return {"model": trained.config.name, "corpus": trained.config.corpus, "step": trained.about["step"],
            "temperature": temperature, "seed": seed, "given": sample.given, "text": "".join(words),
            "tokens": [dict(zip(("id", "text", "gate", "probability"), token, strict=True)) for token in tokens]}
