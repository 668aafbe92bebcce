"""The page of choices and deviations: values marked "choice", and paragraphs marked `Deviation:`.

Both kinds of mark are comments in the source of the package. This file collects them:

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
This page lists the decisions made by this project. The lists are generated from the package's source when the site is
built.

## Values that no source publishes: Engram

These values are set in `engram_ref/presets.py`. A value counts as published if it is in the source itself, in its
authors' code, or in HF transformers, whose classes the tests compare with the presets.
"""

MODELS = """\
## Values that no source publishes: the backbone

These values are set in `engram_ref/model_presets.py`, with the published number that each was tested against, if there
is one. A name that begins with an underscore is a part that several [models](models.md) share; a model derived from
another model inherits its values.
"""


def page(root: Path) -> dict[str, str]:
    """{path of the page: Markdown}; empty if there is no package."""
    presets, models = (root / PACKAGE / name for name in ("presets.py", "model_presets.py"))
    if not presets.exists():
        return {}
    entries = [f"- {_link(file, root)}: {plain(text)}" for file in sorted((root / PACKAGE).rglob("*.py"))
               for text in deviations(file.read_text(encoding="utf-8"))]
    parts = ["# Choices and deviations", INTRODUCTION, _values_table(presets, "preset")]
    parts += [MODELS, _values_table(models, "part or model")] if models.exists() else []
    parts += ["## Where the code departs from a source", "\n".join(entries)]
    return {"reference/choices.md": "\n\n".join(parts) + "\n"}


def _values_table(file: Path, owners: str) -> str:
    rows = choices(file.read_text(encoding="utf-8"))
    return table([owners, "field", "value", "reason"],
                 [[f"`{owner}`", f"`{field}`", f"`{value}`", plain(reason)] for owner, field, value, reason in rows])


def choices(source: str) -> list[tuple[str, str, str, str]]:
    """(preset, gate or part; field; value; reason) of each value whose line ends with a "choice" comment.

    >>> choices('P = Config(\\n  name="p",\\n  eps=1e-6,  # choice: usual\\n             # in ports\\n)\\n')
    [('p', 'eps', '1e-06', 'usual in ports')]
    """
    notes = _notes(source)
    return [(owner, field, ast.unparse(value), notes[value.end_lineno])
            for owner, field, value in _values(ast.parse(source)) if value.end_lineno in notes]


def _notes(source: str) -> dict[int, str]:
    """{line: the text after "choice" in its comment}; comment-only lines after it continue the text."""
    notes: dict[int, str] = {}
    last = 0                                       # the line whose note may still continue
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            match = MARK.match(token.string)
            if match:
                last = token.start[0]
                notes[last] = match[1]
            elif last and token.line.lstrip().startswith("#"):
                notes[last] += " " + token.string.lstrip("# ")
        elif token.type != tokenize.NL or not token.line.strip():
            last = 0
    return notes


def _values(tree: ast.Module) -> list[tuple[str, str, ast.expr]]:
    """(owner, field, value) of every preset, that is, a call with `name=`; of every other call assigned to a name;
    and of every named dictionary of fields."""
    values = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):                                  # a preset
            fields = {k.arg: k.value for k in node.keywords if k.arg}
            if isinstance(fields.get("name"), ast.Constant):
                values += [(fields["name"].value, field, value) for field, value in fields.items()]
        elif isinstance(node, ast.Assign) and isinstance(node.value, ast.Call):         # another named call
            fields = {k.arg: k.value for k in node.value.keywords if k.arg}
            if "name" not in fields:
                values += [(ast.unparse(node.targets[0]), field, value) for field, value in fields.items()]
        elif isinstance(node, (ast.Assign, ast.AnnAssign)) and isinstance(node.value, ast.Dict):     # a dictionary
            label = ast.unparse(node.targets[0] if isinstance(node, ast.Assign) else node.target)
            for key, inner in zip(node.value.keys, node.value.values, strict=True):
                if isinstance(inner, ast.Dict):
                    values += [(f"{label}[{ast.unparse(key)}]", field.value, value)
                              for field, value in zip(inner.keys, inner.values, strict=True)]
    return values


def deviations(source: str) -> list[str]:
    """The paragraph after each `Deviation:` in a docstring or comment, joined to one line.

    >>> deviations('# Deviation: the demo counts\\n# from 0.\\nx = 1\\n')
    ['the demo counts from 0.']
    """
    return [" ".join(_paragraph(match[1]).split()) for match in DEVIATION.finditer(source)]


def _paragraph(text: str) -> str:
    """The text up to the end of the docstring or comment."""
    lines = text.split('"""')[0].split("\n")
    first, *rest = lines
    comment = bool(rest) and rest[0].lstrip().startswith("#")
    if comment:
        rest = rest[:next((i for i, line in enumerate(rest) if not line.lstrip().startswith("#")), len(rest))]
    return "\n".join([first, *(line.lstrip(" \t#") for line in rest)])


def _link(file: Path, root: Path) -> str:
    """The name of the module, linked to its page."""
    parts = file.relative_to(root / PACKAGE).with_suffix("").parts
    parts = parts[:-1] if parts[-1] == "__init__" else parts
    return f"[`{'.'.join([PACKAGE, *parts])}`](api/{'/'.join(parts or [PACKAGE])}.md)"
