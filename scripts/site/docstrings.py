"""Docstrings of this project are plain text for a terminal; here they become Markdown.

    scores        [..., S] any float dtype        a row of a table: name, shape, meaning
    returns       [..., S] same dtype             likewise; so are raises and source

    >>> softmax(np.zeros(2))                      a session: highlighted, with its output
    array([0.5, 0.5])

        p = exp(s) / sum(exp(s))                  indented: stays as it is, a code block

Everything else is prose. mkdocstrings loads this file as a Griffe extension.
"""

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
