"""Docstrings of this project are plain text for a terminal; here they become Markdown.

    scores        [..., S] any float dtype        a row of a table: name, shape, meaning
    returns       [..., S] same dtype             likewise; so are raises and source

    >>> softmax(np.zeros(2))                      a session: highlighted, with its output
    array([0.5, 0.5])

        p = exp(s) / sum(exp(s))                  indented: stays as it is, a code block

Everything else is prose. A constant of a module, such as BLOCK = 32, gets its page entry with its value even if it
has no docstring: the comment that trails its line explains it. mkdocstrings loads this file as a Griffe extension.
"""

import ast
import html
import re

import griffe

ROW = re.compile(r"^(\S+(?: \S+)*?)\s{2,}(\S.*)$")             # name, two spaces or more, meaning
WORDS = {"returns", "raises", "source", "warns", "yields", "units", "deviation", "example"}


class PlainDocstrings(griffe.Extension):
    """Rewrites every docstring once its object is loaded."""

    def on_object(self, *, obj, loader, **kwargs):
        if obj.docstring:
            obj.docstring.value = to_markdown(obj.docstring.value)
        elif obj.is_attribute and obj.parent.is_module and obj.name.isupper():
            words = constant_words(obj.source)
            obj.docstring = griffe.Docstring(words, parent=obj) if words else None


def constant_words(source: str) -> str:
    """What explains a constant without a docstring; "" if it stays off the page, as a word or a computed value does.

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
    """Paragraph by paragraph; what is neither table nor session passes unchanged, as does the first."""
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
    """[[name, meaning], ...], or nothing where one line is not a row or the rest of one."""
    rows: list[list[str]] = []
    for line in lines:
        found = ROW.match(line)
        if found:
            rows.append([found[1], found[2]])
        elif rows and line.startswith("    "):
            rows[-1][1] += " " + line.strip()
        else:
            return []
    return rows


def _table(rows: list[list[str]]) -> str:
    """HTML, not Markdown: a shape such as [B, T] or a star must not turn into a link or a slant."""
    body = "".join(f"<tr><th scope=\"row\">{_name(name)}</th><td>{_meaning(text)}</td></tr>" for name, text in rows)
    return f'<table class="signature"><tbody>{body}</tbody></table>'


def _name(name: str) -> str:
    text = html.escape(name, quote=False)
    return text if name in WORDS else f"<code>{text}</code>"


def _meaning(text: str) -> str:
    """The leading shapes, [B, T, C], in code; the rest as words."""
    text = html.escape(text, quote=False)
    return re.sub(r"^\[[^\]]*\]", lambda m: f"<code>{m[0]}</code>", text)
