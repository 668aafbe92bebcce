"""The page of what no source decides: values marked "choice", and places marked `Deviation:`.

Both are written where they matter, in the source of the package. This file only collects them:

    table_codec="fp32",        # choice: the paper states no storage format         in presets.py
    q_lora_rank=None,          # choice: the printed active counts rule out ...     in model_presets.py
    Deviation: the demo does ... Here ...                                           in any module
"""

import ast
import io
import re
import tokenize
from pathlib import Path

from introspect import plain, table

PACKAGE = "engram_ref"
MARK = re.compile(r"#\s*choice\b:?\s*(.*)")
DEVIATION = re.compile(r"^[ \t#]*Deviation:[ \t]*((?:.+\n?)+)", re.M)


INTRODUCTION = """\
What this project decided by itself. All lists are read from the package's source when the site is built.

## Values that no source publishes: Engram

Each stands in `engram_ref/presets.py`. Published means: by the source itself, in code of its authors, or in HF
transformers, whose classes the tests compare with the presets.
"""

MODELS = """\
## Values that no source publishes: the backbone

Each stands in `engram_ref/model_presets.py`, beside the published value that it was tried against, where there is one.
A name that begins with an underscore is a part that several [models](models.md) are made from; those that are made from
another model take its values over.
"""


def page(root: Path) -> dict[str, str]:
    """{path of the page: Markdown}; empty where there is no package."""
    presets, models = (root / PACKAGE / name for name in ("presets.py", "model_presets.py"))
    if not presets.exists():
        return {}
    places = [f"- {_link(file, root)}: {plain(text)}" for file in sorted((root / PACKAGE).rglob("*.py"))
              for text in deviations(file.read_text(encoding="utf-8"))]
    parts = ["# Choices and deviations", INTRODUCTION, _values_table(presets, "preset")]
    parts += [MODELS, _values_table(models, "part or model")] if models.exists() else []
    parts += ["## Where the code departs from a source", "\n".join(places)]
    return {"reference/choices.md": "\n\n".join(parts) + "\n"}


def _values_table(file: Path, owners: str) -> str:
    found = choices(file.read_text(encoding="utf-8"))
    return table([owners, "field", "value", "why"],
                 [[f"`{owner}`", f"`{field}`", f"`{value}`", plain(why)] for owner, field, value, why in found])


def choices(source: str) -> list[tuple[str, str, str, str]]:
    """(preset, gate or part, field, value, why) of each value whose line ends in a comment that says "choice".

    >>> choices('P = Config(\\n  name="p",\\n  eps=1e-6,  # choice: usual\\n             # in ports\\n)\\n')
    [('p', 'eps', '1e-06', 'usual in ports')]
    """
    notes = _notes(source)
    return [(owner, field, ast.unparse(value), notes[value.end_lineno])
            for owner, field, value in _values(ast.parse(source)) if value.end_lineno in notes]


def _notes(source: str) -> dict[int, str]:
    """{line: what its comment says after "choice"}; comments alone on the next lines go on with it."""
    notes: dict[int, str] = {}
    last = 0                                       # the line whose note may still go on
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            found = MARK.match(token.string)
            if found:
                last = token.start[0]
                notes[last] = found[1]
            elif last and token.line.lstrip().startswith("#"):
                notes[last] += " " + token.string.lstrip("# ")
        elif token.type != tokenize.NL or not token.line.strip():
            last = 0
    return notes


def _values(tree: ast.Module) -> list[tuple[str, str, ast.expr]]:
    """(owner, field, value) of every preset, a call with `name=`, of every other call that a name is given to,
    and of every named dictionary of fields."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            fields = {k.arg: k.value for k in node.keywords if k.arg}
            if isinstance(fields.get("name"), ast.Constant):
                found += [(fields["name"].value, field, value) for field, value in fields.items()]
        elif isinstance(node, ast.Assign) and isinstance(node.value, ast.Call):
            fields = {k.arg: k.value for k in node.value.keywords if k.arg}
            if "name" not in fields:
                found += [(ast.unparse(node.targets[0]), field, value) for field, value in fields.items()]
        elif isinstance(node, (ast.Assign, ast.AnnAssign)) and isinstance(node.value, ast.Dict):
            label = ast.unparse(node.targets[0] if isinstance(node, ast.Assign) else node.target)
            for key, inner in zip(node.value.keys, node.value.values, strict=True):
                if isinstance(inner, ast.Dict):
                    found += [(f"{label}[{ast.unparse(key)}]", field.value, value)
                              for field, value in zip(inner.keys, inner.values, strict=True)]
    return found


def deviations(source: str) -> list[str]:
    """The paragraph after each `Deviation:`, in a docstring or in comments, on one line.

    >>> deviations('# Deviation: the demo counts\\n# from 0.\\nx = 1\\n')
    ['the demo counts from 0.']
    """
    return [" ".join(_paragraph(found[1]).split()) for found in DEVIATION.finditer(source)]


def _paragraph(text: str) -> str:
    """Up to the end of the docstring, or of the comment."""
    lines = text.split('"""')[0].split("\n")
    first, *rest = lines
    comment = bool(rest) and rest[0].lstrip().startswith("#")
    if comment:
        rest = rest[:next((i for i, line in enumerate(rest) if not line.lstrip().startswith("#")), len(rest))]
    return "\n".join([first, *(line.lstrip(" \t#") for line in rest)])


def _link(file: Path, root: Path) -> str:
    """The module's name, linked to its page."""
    parts = file.relative_to(root / PACKAGE).with_suffix("").parts
    parts = parts[:-1] if parts[-1] == "__init__" else parts
    return f"[`{'.'.join([PACKAGE, *parts])}`](api/{'/'.join(parts or [PACKAGE])}.md)"
