"""Bad values for every argument of every command: exit code 2 and one line on standard error."""

import argparse
import io
import sys

import pytest

from engram_ref.cli.commands import COMMANDS, parser
from engram_ref.cli.main import main

BAD = {
    "empty": "", "space": " ", "negative": "-1", "fraction": "1.5", "nan": "nan", "inf": "inf", "exponent": "1e3",
    "10**30": str(10**30), "5000 digits": "9" * 5000, "word": "nosuch", "long word": "x" * 5000,
    "snowman": "\N{SNOWMAN}", "line end": "a\nb", "half a surrogate pair": "\ud800", "None": "None", "comma": ",",
    "list": "[1]", "range": "1-3", "dashes only": "--", "folder": "/", "below a device": "/dev/null/x.npy",
    "no such folder": "nowhere/x.json", "quotes": "'1'", "hexadecimal": "0x1",
}
VALID = {"walk": ["the fox"], "ids": ["--tokens=1,2"], "presets": [], "count": [], "verify": [], "kit": ["new"],
         "check": [], "bench": ["--quick"], "doctor": [], "train": ["--steps=1"], "sample": []}
"""Valid arguments of each command."""

TEXTS = set(BAD) - {"empty", "half a surrogate pair", "dashes only"}
FOLDERS = set(BAD) - {"empty", "long word", "half a surrogate pair", "below a device"}
GOOD = {("walk", "text"): TEXTS | {"dashes only"}, ("sample", "text"): TEXTS | {"dashes only"}, ("ids", "text"): TEXTS,
        ("count", "preset"): {"dashes only"}, ("kit", "folder"): FOLDERS - {"folder", "no such folder"},
        ("train", "out"): FOLDERS - {"dashes only"}, ("sample", "temperature"): {"fraction", "exponent", "10**30"}}
"""Values that are valid: any string is valid text, and "--" alone is not an argument. Almost any
string is the name of a folder."""


def arguments(command):
    """Arguments of a command that take a value: name -> [option string], or [] if positional."""
    commands = next(action for action in parser()._actions if isinstance(action, argparse._SubParsersAction))
    return {action.dest: action.option_strings[:1] for action in commands.choices[command]._actions
            if action.nargs != 0}


def argv_with(command, name, option, value):
    """argv of a command with one value, as --option=value, so that the value is never read as an option."""
    if option:
        return [command, *VALID[command], f"{option[0]}={value}"]
    others = [] if name in ("text", "action") else VALID[command]
    return [command, *others, value]


CASES = [(command, name) for command in COMMANDS for name in arguments(command)]


@pytest.fixture(autouse=True)
def isolated(tmp_path, monkeypatch):
    """Use an empty folder and an empty standard input; check that no file is written."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO()))
    yield
    assert list(tmp_path.iterdir()) == []


def test_every_command_and_its_options_are_covered():
    assert set(VALID) == set(COMMANDS) and len(BAD) >= 20
    assert {("walk", "layer"), ("ids", "history"), ("kit", "dialect"), ("bench", "rounds")} <= set(CASES)


@pytest.mark.parametrize(("command", "name"), CASES)
def test_bad_values_print_one_line_and_exit_2(capsys, command, name):
    for bad, value in BAD.items():
        if bad in GOOD.get((command, name), ()):
            continue
        argv = argv_with(command, name, arguments(command)[name], value)
        with pytest.raises(SystemExit) as stop:
            code = main(argv)
            pytest.fail(f"{bad} was accepted, exit code {code}")
        out, err = capsys.readouterr()
        assert (stop.value.code, out, err.count("\n")) == (2, "", 1), f"{bad}: {err}"
        assert err.startswith("engram-ref: ") and "Traceback" not in err, f"{bad}: {err}"
