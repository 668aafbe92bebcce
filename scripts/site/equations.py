"""Formulas, converted to inline SVG when the site is built, so that pages need no script and no font file.

The Markdown extension pymdownx.arithmatex finds `$...$` and `$$...$$` outside of code and marks them
in the HTML; this file draws each of them with ziamath. The colour is `currentColor` and lengths are in
em. The LaTeX precedes the drawing as text that only the style sheet hides: screen readers, search and
programs that extract a page's text read it.
"""

import html
import re
import warnings
from functools import cache

with warnings.catch_warnings():                    # ziamath loads its font with a deprecated function
    warnings.simplefilter("ignore", DeprecationWarning)
    import ziamath
    from ziamath.tex import tex2mml

ziamath.config.svg2 = False                        # paths only, without ids that could clash on a page
SIZE = 20.0                                        # drawn at 20 units per em
REWRITES = [(r"\\bmod(?![A-Za-z])", r"\\;\\mathrm{mod}\\;"),          # ziamath omits its spaces
            (r"\\operatorname\*?\{", r"\\mathrm{")]                 # ziamath draws names with digits in italics
MARK = re.compile(r'<(span|div) class="arithmatex">\\([(\[])(.*?)\\[)\]]</\1>', re.S)


class FormulaError(ValueError):
    """A formula cannot be drawn; `latex` is the formula as written."""

    def __init__(self, latex: str, reason: str):
        super().__init__(f"formula '{latex}' does not convert: {reason}")
        self.latex = latex


def replace_formulas(page_html: str) -> str:
    """Replace every marked formula of a page with SVG; FormulaError at the first that fails."""
    return MARK.sub(lambda m: draw(html.unescape(m[3]).strip(), inline=m[2] == "("), page_html)


@cache
def draw(latex: str, inline: bool) -> str:
    """One formula: <span class="formula"> if inline, else <div class="equation">."""
    text = f'<span class="latex">{html.escape(" ".join(latex.split()))}</span>'
    drawing = text + _sized(*_svg(latex, inline))
    return f'<span class="formula">{drawing}</span>' if inline else f'<div class="equation">{drawing}</div>'


def _svg(latex: str, inline: bool) -> tuple[str, float]:
    """(svg, depth): depth is the extent below the baseline in em, as a negative number."""
    written = latex
    for pattern, plain in REWRITES:
        latex = re.sub(pattern, plain, latex)
    try:
        _check_supported(latex, inline)
        drawn = ziamath.Latex(latex, size=SIZE, inline=inline, color="currentColor", margin=0.0)
        svg = drawn.svg().replace('fill="black"', 'fill="currentColor"')     # ziamath draws overlines in black
        return svg, drawn.getyofst() / SIZE
    except Exception as error:                     # the libraries raise many classes
        raise FormulaError(written, str(error) or type(error).__name__) from None


def _check_supported(latex: str, inline: bool) -> None:
    """Raise for LaTeX that the libraries draw wrongly without an error."""
    if r"\begin{aligned}" in latex:
        raise ValueError("aligned loses its columns; use align*")
    if len(re.findall(r"(?<!\\)\{", latex)) != len(re.findall(r"(?<!\\)\}", latex)):
        raise ValueError("braces do not match")
    unknown = re.search(r">\s*(\\[A-Za-z]+)", tex2mml(latex, inline=inline))
    if unknown:
        raise ValueError(f"unknown command {unknown[1]}")


def _sized(svg: str, depth: float) -> str:
    head, body = svg.split(">", 1)
    width, height = (float(re.search(rf' {side}="([\d.]+)"', head)[1]) / SIZE for side in ("width", "height"))
    box = re.search(r'viewBox="[^"]*"', head)[0]
    body = re.sub(r"-?\d+\.\d{3,}", lambda m: f"{float(m[0]):.2f}", body)     # reduces the size to a third
    return (f'<svg aria-hidden="true" {box} fill="currentColor" '
            f'style="width:{width:.3f}em;height:{height:.3f}em;vertical-align:{depth:.3f}em">{body}')
