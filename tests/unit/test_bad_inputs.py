"""Bad values for every argument of every public function raise a one-line InputError.

Each entry of CALLS is a valid call. Each of its arguments is replaced by every value of BAD; for the values that GOOD
lists as valid for this argument, the call must succeed.
"""

import math
from pathlib import Path

import numpy as np
import pytest

import engram_ref
from engram_ref import (
    Addressing,
    EngramState,
    InputError,
    Trace,
    Vocabulary,
    backends,
    engram,
    model_preset,
    preset,
    residual,
    start_state,
)
from engram_ref.layout import layout
from engram_ref.model import engram_parameters, parameters
from engram_ref.model.generate import generate
from engram_ref.model.state import DecodeState
from engram_ref.model.transformer import forward
from scripts.builders.small_models import FULL, random_ids, random_model
from scripts.builders.small_modules import DEMO, random_inputs, random_parameters

BAD = {
    "None": None, "True": True, "0": 0, "-1": -1, "1.5": 1.5, "nan": math.nan, "inf": math.inf, "1j": 1j,
    "10**30": 10**30, "text": "3", "empty text": "", "zero byte": "\0", "long text": "x" * 5000, "bytes": b"3",
    "[]": [], "ragged": [[1], [2, 3]], "[None]": [None], "{}": {}, "object": object(), "class": Trace,
    "array of text": np.array(["a"]), "array of nan": np.full((2, 3), np.nan), "function": lambda: None,
}
TINY, ADDRESSING, V4 = preset("tiny"), Addressing(preset("tiny")), Vocabulary.load("deepseek-v4")
MODULE, MODEL, IDS = random_parameters(DEMO, np.random.default_rng(3)), random_model(FULL), random_ids(FULL)
HIDDEN, ROWS = random_inputs(DEMO, np.random.default_rng(4))
EMPTY = {"[]"}                                               # no ids or rows: an empty stream
TEXT = {"text", "empty text", "zero byte", "long text"}
PATH = Path("/nowhere/at/all.safetensors")


def decode_state():
    """A state of three rows with two tokens each."""
    return DecodeState(np.array([2, 2, 2]))


CALLS = {
    "Addressing": (Addressing, {"config": TINY, "vocabulary": V4, "ops": engram_ref.ops}),
    "Addressing.start": (ADDRESSING.start, {"batch": 2}),
    "Addressing.rows": (ADDRESSING.rows, {"canonical_ids": [[1, 2]], "layer_id": 1, "history": [[3, 4]], "flat": True,
                                          "trace": Trace()}),
    "Addressing.rows_of_tokens": (ADDRESSING.rows_of_tokens, {"ids": [[1, 2]], "history": [[3, 4]], "flat": False}),
    "Addressing.advance": (ADDRESSING.advance, {"history": [[3, 4]], "canonical_ids": [[1, 2]]}),
    "Addressing.stepper": (ADDRESSING.stepper, {"layer_id": 1}),
    "Addressing.stepper's step": (ADDRESSING.stepper(1), {"ids": [1], "history": [[3, 4]]}),
    "DecodeState": (DecodeState, {"lengths": np.array([2, 2]), "caches": {}}),
    "DecodeState.start": (DecodeState.start, {"batch": 2}),
    "DecodeState.rollback": (lambda tokens: decode_state().rollback(tokens), {"tokens": 1}),
    "DecodeState.reorder": (lambda rows: decode_state().reorder(rows), {"rows": [1, 0]}),
    "EngramState": (lambda taps: engram(MODULE, HIDDEN, ROWS, DEMO, state=EngramState(taps)),
                    {"taps": np.zeros((2, DEMO.conv_span, 3, 10))}),
    "Trace": (Trace, {"stop": "gate", "check_finite": True, "prefix": "layers.1"}),
    "Trace.at": (Trace().at, {"prefix": "layers.1"}),
    "Trace.record": (lambda name, array: Trace().record(name, array), {"name": "gate", "array": np.ones(2)}),
    "Vocabulary": (Vocabulary, {"name": "own", "canonical": np.array([0, 1, 1]), "file": Path("own.json")}),
    "Vocabulary.load": (Vocabulary.load, {"name": "deepseek-v4"}),
    "Vocabulary.encode": (V4.encode, {"text": "the"}),
    "Vocabulary.spelling": (V4.spelling, {"token": 5}),
    "Vocabulary.text": (V4.text, {"token": 5}),
    "Vocabulary.members": (V4.members, {"canonical_id": 5}),
    "Vocabulary.configure": (V4.configure, {"config": TINY, "pad_id": 5}),
    "backends.load": (backends.load, {"name": "numpy"}),
    "engram": (engram, {"parameters": MODULE, "hidden": HIDDEN, "rows": ROWS, "config": DEMO, "layer_id": 1,
                        "state": start_state(DEMO, 2), "dead": np.zeros((2, 5), bool), "flat_rows": False,
                        "ops": engram_ref.ops, "trace": Trace(), "check": True}),
    "forward": (forward, {"parameters": MODEL, "ids": IDS, "config": FULL, "state": DecodeState.start(2),
                          "counts": [7, 6], "dead": np.zeros((2, 7), bool), "absorbed": False,
                          "addressing": Addressing(FULL.engram), "ops": engram_ref.ops, "trace": Trace(),
                          "check_values": True}),
    "generate": (generate, {"parameters": MODEL, "prompt": IDS, "config": FULL, "new_tokens": 1, "temperature": 0.5,
                            "rng": np.random.default_rng(0), "addressing": Addressing(FULL.engram),
                            "ops": engram_ref.ops}),
    "initialise a module": (engram_parameters.initialise, {"config": DEMO, "layer_id": 1,
                                                           "rng": np.random.default_rng(0), "dtype": np.float32}),
    "initialise a model": (parameters.initialise, {"config": FULL, "rng": np.random.default_rng(0),
                                                   "dtype": np.float32}),
    "layout": (layout, {"config": TINY, "layer_id": 1}),
    "model_preset": (model_preset, {"name": "tiny"}),
    "parameters.check": (parameters.check, {"parameters": MODEL, "config": FULL, "ops": engram_ref.ops,
                                            "tables": False}),
    "preset": (preset, {"name": "tiny"}),
    "residual": (residual, {"hidden": HIDDEN, "update": HIDDEN, "config": DEMO, "ops": engram_ref.ops,
                            "trace": Trace()}),
    "start_state": (start_state, {"config": DEMO, "batch": 2, "dtype": np.float64, "like": HIDDEN,
                                  "ops": engram_ref.ops}),
}
"""Valid calls: name -> (function, arguments)."""

FILES = {
    "Trace.load": (Trace.load, {"path": PATH}),
    "Trace.save": (Trace().save, {"path": PATH}),
    "Vocabulary.from_file": (Vocabulary.from_file, {"path": PATH}),
    "parameters.load": (lambda path: parameters.load(path, FULL), {"path": PATH}),
    "parameters.save": (lambda path: parameters.save(MODEL, path), {"path": PATH}),
}
"""Calls with a path whose file or folder does not exist."""

GOOD = {
    ("Addressing", "vocabulary"): {"None"},
    ("Addressing.start", "batch"): {"0"},
    ("Addressing.rows", "history"): {"None"},
    ("Addressing.rows", "flat"): {"True"},
    ("Addressing.rows", "trace"): {"None"},
    ("Addressing.rows_of_tokens", "history"): {"None"},
    ("Addressing.rows_of_tokens", "flat"): {"True"},
    ("Addressing.advance", "history"): {"None"},
    ("DecodeState", "lengths"): EMPTY,
    ("DecodeState", "caches"): {"None", "{}"},
    ("DecodeState.start", "batch"): {"0"},
    ("DecodeState.rollback", "tokens"): {"0"},
    ("DecodeState.reorder", "rows"): EMPTY,
    ("Trace", "stop"): {"None", *TEXT},
    ("Trace", "check_finite"): {"True"},
    ("Trace", "prefix"): TEXT,
    ("Trace.at", "prefix"): TEXT,
    ("Trace.record", "name"): TEXT,
    ("Trace.record", "array"): {"True", "0", "-1", "1.5", "nan", "inf", "1j", "[]", "array of nan"},
    ("Vocabulary", "name"): TEXT,
    ("Vocabulary", "file"): {"None"},
    ("Vocabulary.encode", "text"): TEXT,
    ("Vocabulary.spelling", "token"): {"0"},
    ("Vocabulary.text", "token"): {"0"},
    ("Vocabulary.members", "canonical_id"): {"0"},
    ("Vocabulary.configure", "pad_id"): {"None", "0"},
    ("engram", "layer_id"): {"None"},
    ("engram", "state"): {"None"},
    ("engram", "dead"): {"None"},
    ("engram", "trace"): {"None"},
    ("engram", "check"): {"True"},
    ("forward", "state"): {"None"},
    ("forward", "counts"): {"None"},
    ("forward", "dead"): {"None"},
    ("forward", "absorbed"): {"True"},
    ("forward", "addressing"): {"None"},
    ("forward", "trace"): {"None"},
    ("forward", "check_values"): {"True"},
    ("generate", "new_tokens"): {"0"},
    ("generate", "temperature"): {"0", "1.5"},
    ("generate", "addressing"): {"None"},
    ("initialise a module", "dtype"): {"None"},
    ("initialise a model", "dtype"): {"None"},
    ("parameters.check", "tables"): {"True"},
    ("residual", "trace"): {"None"},
    ("Trace.save", "path"): {"text"},
    ("parameters.save", "path"): {"text"},
    ("start_state", "batch"): {"0"},
    ("start_state", "like"): set(BAD),                       # NumPy ignores it
}

ELSEWHERE = {
    "EngramConfig": "tests/unit/test_config_fields.py", "ModelConfig": "tests/unit/test_config_fields.py",
    "InputError": "raised by this package only", "__version__": "not a function", "presets": "no arguments",
    "model_presets": "no arguments", "load_trained": "no arguments",
}


def test_every_public_name_is_covered():
    tried = {name.split(".")[0] for name in CALLS}
    assert set(engram_ref.__all__) - tried == set(ELSEWHERE)
    assert {name for name, _ in GOOD} <= {*CALLS, *FILES} and len(BAD) >= 20


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path, monkeypatch):
    """Change to an empty folder, because some bad values are valid file names."""
    monkeypatch.chdir(tmp_path)


ARGUMENTS = [(name, argument) for name, (_, valid) in (CALLS | FILES).items() for argument in valid]


@pytest.mark.parametrize(("name", "argument"), ARGUMENTS)
def test_bad_values_raise_input_error(name, argument):
    call, valid = (CALLS | FILES)[name]
    for bad, value in BAD.items():
        if bad in GOOD.get((name, argument), ()):
            call(**valid | {argument: value})
            continue
        try:
            call(**valid | {argument: value})
        except InputError as error:
            assert "\n" not in str(error) and len(str(error)) < 1000, f"{argument}={bad}: {error}"
        except Exception as error:
            pytest.fail(f"{argument}={bad}: {type(error).__name__}: {error}")
        else:
            pytest.fail(f"{argument}={bad} was accepted")


@pytest.mark.parametrize("name", CALLS)
def test_valid_calls_succeed(name):
    call, valid = CALLS[name]
    call(**valid)
