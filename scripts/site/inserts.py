"""`{{ figure: KEY }}` and `{{ diagram: NAME | alt text }}`: drawings put into a finished page.

They wait until Markdown is done, for no parser should read through a hundred kilobytes of
SVG, and they work inside a fold as well.
"""

import html
import re

import diagrams

MARK = re.compile(r"<p>\s*\{\{ (figure|diagram): (.*?) \}\}\s*</p>", re.S)


class InsertError(ValueError):
    """A mark that names nothing, or says nothing to those who cannot see."""


def replace_inserts(page_html: str, figures: dict[str, dict]) -> str:
    """Each mark that stands alone in a paragraph becomes a <figure>."""
    def drawn(mark: re.Match) -> str:
        words = html.unescape(re.sub("<[^>]+>", "", mark[2]))      # Markdown may have marked them up
        return _figure(mark[1], *_find(mark[1], words, figures))
    return MARK.sub(drawn, page_html)


def _find(kind: str, text: str, figures: dict[str, dict]) -> tuple[str, str]:
    """(svg, alt text)"""
    name, _, alt = (part.strip() for part in text.partition("|"))
    if kind == "figure":
        return figures[name]["svg"], figures[name]["alt"]
    if not alt:
        raise InsertError(f"diagram '{name}': expected an alt text: {{{{ diagram: {name} | what it shows }}}}")
    try:
        return diagrams.draw(name), alt
    except ValueError as error:
        raise InsertError(str(error)) from None


def _figure(kind: str, svg: str, alt: str) -> str:
    label = html.escape(" ".join(alt.split()), quote=True)
    svg = svg.replace("<svg", f'<svg role="img" aria-label="{label}"', 1)
    return f'<figure class="drawing {kind}" data-search-exclude>{svg}</figure>'
