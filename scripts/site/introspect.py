"""Print, as JSON, the reference pages that are generated from the imported package.

    python introspect.py        ->  {"reference/stages.md": "# Stages ...", ...}

Each page is one small function that reads the package. A missing module gives no page; a module
that exists but fails to import is an error.
"""

import argparse
import dataclasses
import importlib
import importlib.util
import inspect
import json
import re

PACKAGE = "engram_ref"


def stages_page() -> str | None:
    """Every intermediate result with a public name, in the order of computation."""
    module = load("stages")
    if module is None:
        return None
    tables = [f"## {title}\n\n{stage_table(stages)}"
              for title, stages in (("The Engram module", module.STAGES), ("The backbone", module.BACKBONE_STAGES))]
    return "\n\n".join(["# Stages", prose(module), *tables, axes_section()])


def stage_table(stages: tuple) -> str:
    rows = [[f"`{s.name}`<br>`[{', '.join(s.axes.split())}]`<br>{s.kind}", f"{plain(s.about)}<br>`{s.formula}`",
             f"[`{s.op}`][{address_of(s.op)}]"] for s in stages]
    return table(["stage", "meaning", "computed by"], rows)


def address_of(op: str) -> str:
    """Dotted name of an op as used by the API pages: a function of a file, or a method of its class."""
    function = getattr(load("ops"), op)
    return f"{function.__module__}.{function.__qualname__}"


def axes_section() -> str:
    module = load("axes")
    rows = [[f"`{letter}`", plain(meaning)] for letter, meaning in module.AXES.items()] if module else []
    return f"## Axis letters\n\n{table(['letter', 'meaning'], rows)}\n" if rows else ""


def dialects_page() -> str | None:
    """One column per preset: the differences in words, the sizes, then every field."""
    presets, dialects = load("presets"), load("dialects")
    if presets is None or dialects is None:
        return None
    configs = {name: presets.preset(name) for name in presets.presets()}
    head = ["", *(f"`{name}`" for name in configs)]
    differ = [[label, *(plain(value(c)) for c in configs.values())] for label, value in dialects.DIALECT_FIELDS]
    sources = ["source", *(plain(c.source) for c in configs.values())]
    parts = ["# Dialects and presets", prose(presets), "## Differences", table(head, [*differ, sources]),
             "## Sizes", table(head, size_rows(dialects, configs)),
             "The page [Constants](../specification/constants.md) lists the multipliers and primes of every layer.",
             "## Every field", table(head, field_rows(configs))]
    return "\n\n".join(parts) + "\n"


def models_page() -> str | None:
    """One column per model: source, size and published numbers, then every field, part by part."""
    presets, accounting = load("model_presets"), load("model") and load("model.accounting")
    if presets is None or accounting is None:
        return None
    configs = {name: presets.model_preset(name) for name in presets.model_presets()}
    head = ["", *(f"`{name}`" for name in configs)]
    sources = [["source", *(plain(c.source) for c in configs.values())],
               ["Engram", *("-" if c.engram is None else f"`{c.engram.name}`" for c in configs.values())]]
    parts = ["# Models", prose(presets), MODELS, "## Sizes", table(head, [*sources, *count_rows(accounting, configs)]),
             "## Comparison with the papers",
             table(["model", "published", "counted", "agreement", "quantity", "source"],
                   printed_rows(accounting, configs)),
             "## Every field", *part_sections({name: c.backbone for name, c in configs.items()})]
    return "\n\n".join(parts) + "\n"


MODELS = """\
All values marked "choice" are listed under [choices](choices.md). Engram modules that have their own preset are listed
with all fields under [dialects](dialects.md). [The tutorial on counting](../learn/13_counting.md) explains what a total
includes and which values follow from the published numbers.

[`model_preset`][engram_ref.model_presets.model_preset] returns a model by name; `engram-ref count NAME` counts its
parameters part by part."""


def count_rows(accounting, configs: dict) -> list[list[str]]:
    """The fields of Summary, one row each, with their comments."""
    meaning = {**field_comments(accounting.Summary), "total": "all parameters"}
    summaries = [accounting.summarise(config) for config in configs.values()]
    names = [field.name for field in dataclasses.fields(accounting.Summary)]
    return [[f"`{name}`{note(meaning, name)}", *(number(getattr(s, name)) for s in summaries)] for name in names]


def printed_rows(accounting, configs: dict) -> list[list[str]]:
    rows = []
    for name, figures in accounting.PRINTED.items():
        summary = accounting.summarise(configs[name])
        for field, figure, where in figures:
            counted = getattr(summary, field)
            rows.append([f"`{name}`", figure, number(counted), accounting.agreement(counted, figure), f"`{field}`",
                         plain(where)])
    return rows


def part_sections(configs: dict) -> list[str]:
    """A heading and a table for a configuration, then the same for each nested configuration."""
    kind = next(type(c) for c in configs.values() if c is not None)
    names = [field.name for field in dataclasses.fields(kind)]
    inner = [n for n in names if any(dataclasses.is_dataclass(getattr(c, n, None)) for c in configs.values())]
    with_it = {name: c for name, c in configs.items() if c is not None}
    head = ["", *(f"`{name}`" for name in with_it)]
    parts = [f"### {kind.__name__}", f"[`{kind.__name__}`][{kind.__module__}.{kind.__name__}]: "
             f"{plain(inspect.getdoc(kind))}", table(head, field_rows(with_it, leave_out=inner))]
    for name in inner:
        parts += part_sections({model: getattr(c, name) for model, c in with_it.items()})
    return parts


def number(value: float | None) -> str:
    """A count with commas, a fraction as a percentage, or a dash for None."""
    if isinstance(value, float):
        return f"{value:.2%}"
    return "-" if value is None else f"{value:,}"


def size_rows(dialects, configs: dict) -> list[list[str]]:
    sizes = [dialects.sizes(config) for config in configs.values()]
    return [["layers", *(", ".join(map(str, size["layers"])) for size in sizes)],
            ["rows of each layer", *("<br>".join(f"{rows:,}" for rows in size["rows"]) for size in sizes)],
            ["numbers in all tables", *(f"{size['parameters']:,}" for size in sizes)],
            ["bytes as stored", *(f"{size['bytes']:,}" for size in sizes)]]


def field_rows(configs: dict, leave_out: list[str] | tuple = ("name", "source")) -> list[list[str]]:
    """Each field of the configuration with its comment."""
    kind = type(next(iter(configs.values())))
    meaning = field_comments(kind)
    names = [field.name for field in dataclasses.fields(kind) if field.name not in leave_out]
    return [[f"`{name}`{note(meaning, name)}", *(cell(getattr(c, name)) for c in configs.values())] for name in names]


def note(meaning: dict[str, str], name: str) -> str:
    """The comment of a field, in small print under its name, or "" if it has none."""
    return f"<br><small>{plain(meaning[name])}</small>" if name in meaning else ""


def field_comments(kind: type) -> dict[str, str]:
    """{field: the comment at the end of its line in the source}."""
    lines = inspect.getsource(kind).splitlines()
    matches = (re.match(r"\s+(\w+)\s*:[^#]*#\s*(.+)$", line) for line in lines)
    return {match[1]: match[2] for match in matches if match}


def cli_page() -> str | None:
    """The help text of every command, formatted for a terminal of 80 columns."""
    module = load("cli") and load("cli.commands")
    if module is None or not hasattr(module, "parser"):
        return None
    parser = module.parser()
    subs = [a for a in parser._actions if isinstance(a, argparse._SubParsersAction)]
    commands = [item for action in subs for item in action.choices.items()]
    parts = [f"# Command line\n\n{fenced(parser.format_help())}"]
    parts += [f"## {parser.prog} {name}\n\n{fenced(command.format_help())}" for name, command in commands]
    return "\n\n".join(parts) + "\n"


def load(name: str):
    """The module, or None if the package does not contain it."""
    if importlib.util.find_spec(PACKAGE) is None or importlib.util.find_spec(f"{PACKAGE}.{name}") is None:
        return None
    return importlib.import_module(f"{PACKAGE}.{name}")


def prose(module) -> str:
    """The module's docstring without its indented blocks."""
    paragraphs = (module.__doc__ or "").strip().split("\n\n")
    return "\n\n".join(p for p in paragraphs if not p.startswith("    "))


def cell(value) -> str:
    """A value as a table cell; a long sequence as its length, first and last value."""
    if isinstance(value, str):
        return plain(value)
    text = repr(value)
    if len(text) > 60 and isinstance(value, (tuple, list)):
        first, last = (repr(v) if len(repr(v)) < 20 else "..." for v in (value[0], value[-1]))
        return f"{len(value)} values, `{first}` to `{last}`" if first != "..." else f"{len(value)} sequences"
    return f"`{text}`"


def plain(text: str) -> str:
    """Text with Markdown's special characters escaped."""
    return re.sub(r"([\\`*_{}\[\]<>$|#])", r"\\\1", text.replace("\n", " "))


def table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def fenced(text: str) -> str:
    return f"```text\n{text.rstrip()}\n```"


def main() -> None:
    pages = {"reference/stages.md": stages_page(), "reference/dialects.md": dialects_page(),
             "reference/models.md": models_page(), "reference/cli.md": cli_page()}
    print(json.dumps({path: text for path, text in pages.items() if text}))


if __name__ == "__main__":
    main()
