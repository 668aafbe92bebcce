"""The texts of a kit: README.md, from the template in this folder, and the specification."""

import inspect
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from engram_ref.config import EngramConfig
from engram_ref.ops.namespace import Ops
from engram_ref.oracle.compare import CLASSES
from engram_ref.oracle.noise import CONFIDENCE
from engram_ref.oracle.run import RUNNERS
from engram_ref.oracle.specification import documents
from engram_ref.stages import BACKBONE_STAGES, STAGES

TEXTS = Path(__file__).parent
EXAMPLES = TEXTS / "examples"
README, HEADER = "README.md", "kit.h"
RESULTS = {
    "valid": "the answers must agree with the expected arrays",
    "acceptable": "they must agree with the expected arrays, or with all arrays of one `accept`",
    "invalid": "the port must refuse the input, for example by raising an error; any answer fails",
}
"""Result of a case -> what a port must do."""

TOLERANCE = {
    "exact": CLASSES["exact"],
    "rule": "An answer y' to the expected y agrees if it lies between RN(y - d) and RN(y + d), where d = C * u * noise "
            "+ the smallest positive normal number (2^-1022 for f64, 2^-126 otherwise), and RN rounds to the dtype of "
            "the answer.",
    "C": CONFIDENCE,
    "u": {"f64": 2.0**-53, "f32": 2.0**-24, "bf16": 2.0**-24, "f16": 2.0**-24},
}
"""How answers are compared; docs/oracle/tolerances.md derives the rule."""

DOCUMENTS = {"demo.md": lambda c: c.rounding == "none" and c.gain_form == "plain",
             "v4.1.md": lambda c: c.score_form == "factored", "qwen.md": lambda c: c.gain_form == "zero_centred"}
"""Document -> whether it concerns a dialect; all others concern every dialect."""


def readme(manifest: Mapping[str, Any]) -> bytes:
    """Return README.md of a kit with this manifest."""
    rows = lambda entries: "\n".join(f"| `{name}` | {value} |" for name, value in entries.items())
    values = {
        "scope": f"the dialect `{manifest['dialect']}`" if manifest["dialect"] else "every dialect",
        "cases": f"{len(manifest['cases']):,}", "version": manifest["engram_ref"],
        "results": rows(manifest["results"]), "flags": rows(manifest["flags"]), "groups": rows(manifest["groups"]),
        "rule": f"{TOLERANCE['rule']} C = {TOLERANCE['C']:g}.",
        "roundoffs": rows({dtype: f"2^{int(f'{u.hex()}'.split('p')[1])}" for dtype, u in TOLERANCE["u"].items()}),
        "example.py": (EXAMPLES / "example.txt").read_text(encoding="utf-8"),
        "example.c": (EXAMPLES / "example.c").read_text(encoding="utf-8"),
        "generated": re.search(r"^uint64_t generated.*?^}\n", header().decode(), re.M | re.S)[0],
        "refusals": rows(refusals()),
    }
    template = (TEXTS / README).read_text(encoding="utf-8")
    return re.sub(r"\{\{([\w.]+)\}\}", lambda mark: values[mark[1]], template).encode()


def header() -> bytes:
    """Return kit.h."""
    return (EXAMPLES / HEADER).read_bytes()


def refusals() -> dict[str, str]:
    """Return {op: what it must refuse}, from the `raises` of the docstrings."""
    parts = {op: (inspect.getdoc(function) or "").partition("raises   InputError for ")[2]
             for op, function in RUNNERS.items()}
    return {op: " ".join(part.split()) for op, part in parts.items() if part}


def document_files(config: EngramConfig | None, ops: list[str]) -> dict[str, bytes]:
    """Return {path: content} of the specification: the documents that concern a dialect, and a list of ops."""
    chosen = {name: text for name, text in documents().items()
              if config is None or name not in DOCUMENTS or DOCUMENTS[name](config)}
    return {f"specification/{name}": text.encode() for name, text in (chosen | {"ops.md": ops_page(ops)}).items()}


def ops_page(ops: list[str]) -> str:
    """Return a page with the description of each op, and of each stage by name."""
    formulas = dict.fromkeys(inspect.getdoc(inspect.getmodule(getattr(Ops, op))) for op in ops if op.endswith("_vjp"))
    described = [f"## {op}\n\n```text\n{op}({', '.join(arguments_of(function))})\n\n{inspect.getdoc(function)}\n```\n"
                 for op, function in ((op, RUNNERS.get(op) or getattr(Ops, op)) for op in ops)]
    stages = [f"| `{s.name}` | `[{', '.join(s.axes.split())}]` | {s.about} | `{s.formula}` |"
              for s in (*STAGES, *BACKBONE_STAGES)]
    gradients = ["## Formulas of the gradients", "", *(f"```text\n{text}\n```\n" for text in formulas)] * bool(formulas)
    return "\n".join(["# Ops and stages", "", *described, *gradients, "## Stages", "",
                      "| stage | shape | meaning | formula |", "|---|---|---|---|", *stages, ""])


def arguments_of(function: Callable) -> list[str]:
    """Return the names of the arguments that a case gives."""
    return [name for name in inspect.signature(function).parameters if name not in ("self", "setting", "record")]
