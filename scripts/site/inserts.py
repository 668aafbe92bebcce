"""`{{ figure: KEY }}` and `{{ diagram: NAME | alt text }}`: drawings inserted into a finished page.

They are inserted after the Markdown conversion, so that the parser need not read a hundred kilobytes
of SVG. They also work inside a fold.
"""

import html
import re

import diagrams

MARK = re.compile(r"<p>\s*\{\{ (figure|diagram): (.*?) \}\}\s*</p>", re.S)


class InsertError(ValueError):
    """A mark with an unknown name or without an alt text."""


def replace_inserts(page_html: str, figures: dict[str, dict]) -> str:
    """Replace each mark that is a whole paragraph with a <figure>."""
    def drawn(mark: re.Match) -> str:
        text = html.unescape(re.sub("<[^>]+>", "", mark[2]))       # Markdown may have added tags
        return _figure(mark[1], *_find(mark[1], text, figures))
    return MARK.sub(drawn, page_html)


def _find(kind: str, text: str, figures: dict[str, dict]) -> tuple[str, str]:
    """(svg, alt text)"""
    name, _, alt = (part.strip() for part in text.partition("|"))
    if kind == "figure":
        return figures[name]["svg"], figures[name]["alt"]
    if not alt:
        raise InsertError(f"diagram '{name}': expected an alt text: {{{{ diagram: {name} | alt text }}}}")
    try:
        return diagrams.draw(name), alt
    except ValueError as error:
        raise InsertError(str(error)) from None


def _figure(kind: str, svg: str, alt: str) -> str:
    label = html.escape(" ".join(alt.split()), quote=True)
    svg = svg.replace("<svg", f'<svg role="img" aria-label="{label}"', 1)
    return f'<figure class="drawing {kind}" data-search-exclude>{svg}</figure>'
