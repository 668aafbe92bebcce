"""Convert the project's docstrings, which are plain text for a terminal, to Markdown.

    scores        [..., S] any float dtype        a row of a table: name, shape, meaning
    returns       [..., S] same dtype             likewise; also raises and source

    >>> softmax(np.zeros(2))                      a session: highlighted, with its output
    array([0.5, 0.5])

        p = exp(s) / sum(exp(s))                  indented: unchanged, a code block

Everything else is prose. A module constant without a docstring, such as BLOCK = 32, is listed with its value and the
comment at the end of its line. mkdocstrings loads this file as a Griffe extension.
"""

import ast
import html
import re

import griffe

ROW = re.compile(r"^(\S+(?: \S+)*?)\s{2,}(\S.*)$")             # name, two spaces or more, meaning
WORDS = {"returns", "raises", "source", "warns", "yields", "units", "deviation", "example"}


class PlainDocstrings(griffe.Extension):
    """Rewrite every docstring after its object is loaded."""

    def on_object(self, *, obj, loader, **kwargs):
        if obj.docstring:
            obj.docstring.value = to_markdown(obj.docstring.value)
        elif obj.is_attribute and obj.parent.is_module and obj.name.isupper():
            words = constant_words(obj.source)
            obj.docstring = griffe.Docstring(words, parent=obj) if words else None


def constant_words(source: str) -> str:
    """Text for a constant without a docstring; "" if the page omits it, as for strings and computed values.

    >>> constant_words("BLOCK = 32          # channels that share one scale")
    'channels that share one scale'
    >>> constant_words("INT64_MAX = 2**63 - 1"), constant_words('HELP = "a command"'), constant_words("A = f()")
    ('<!-- no words -->', '', '')
    """
    comment = re.search(r"#\s*(.+)$", source) if "\n" not in source else None
    if comment:
        return comment[1]
    value = ast.parse(source).body[0].value
    listed = isinstance(value, (ast.Dict, ast.Tuple, ast.List, ast.Set))
    number = not any(isinstance(node, (ast.Call, ast.Name, ast.JoinedStr, ast.DictComp)) or
                     (isinstance(node, ast.Constant) and isinstance(node.value, str)) for node in ast.walk(value))
    return "<!-- no words -->" if listed or number else ""


def to_markdown(text: str) -> str:
    """Convert tables and sessions, paragraph by paragraph; leave the first paragraph and all prose unchanged."""
    first, *others = re.split(r"\n[ \t]*\n", text.strip("\n"))
    return "\n\n".join([first, *map(_paragraph, others)])


def _paragraph(text: str) -> str:
    lines = text.split("\n")
    if lines[0].lstrip().startswith(">>>"):
        depth = len(lines[0]) - len(lines[0].lstrip())
        return "```pycon\n" + "\n".join(line[depth:] for line in lines) + "\n```"
    rows = _rows(lines)
    return _table(rows) if rows else text


def _rows(lines: list[str]) -> list[list[str]]:
    """[[name, meaning], ...], or [] if any line is neither a row nor the continuation of one."""
    rows: list[list[str]] = []
    for line in lines:
        match = ROW.match(line)
        if match:
            rows.append([match[1], match[2]])
        elif rows and line.startswith("    "):
            rows[-1][1] += " " + line.strip()
        else:
            return []
    return rows


def _table(rows: list[list[str]]) -> str:
    """An HTML table, since Markdown would read a shape such as [B, T] as a link and a star as emphasis."""
    body = "".join(f"<tr><th scope=\"row\">{_name(name)}</th><td>{_meaning(text)}</td></tr>" for name, text in rows)
    return f'<table class="signature"><tbody>{body}</tbody></table>'


def _name(name: str) -> str:
    text = html.escape(name, quote=False)
    return text if name in WORDS else f"<code>{text}</code>"


def _meaning(text: str) -> str:
    """A leading shape, such as [B, T, C], as code; the rest as text."""
    text = html.escape(text, quote=False)
    return re.sub(r"^\[[^\]]*\]", lambda m: f"<code>{m[0]}</code>", text)
