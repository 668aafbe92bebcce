"""Convert the open matplotlib figures to inline SVG.

Matplotlib's SVG files are made to be used alone: white background, black text, a style sheet that
would affect the whole page, ids that clash. Here black becomes `currentColor`, the palette becomes
CSS variables (with light and dark values in site.css), and every id gets a prefix. The colours are
defined in `matplotlibrc` in this folder.
"""

import hashlib
import io
import re
import sys

INK = ("#16191d", "#000000")                       # the text colour of matplotlibrc, and black
PAPER = "#ffffff"
PALETTE = ("#0b4f8a", "#c8500a", "#1f9483", "#8e2a7e", "#a67c00", "#6b7280")   # C0 ... C5 of matplotlibrc


def figures_as_svg() -> list[dict]:
    """[{"svg", "alt"}, ...] of every open figure; closes all of them."""
    pyplot = sys.modules.get("matplotlib.pyplot")  # not imported for scripts without figures
    if pyplot is None:
        return []
    figures = [pyplot.figure(number) for number in pyplot.get_fignums()]
    try:
        return [describe(figure) for figure in figures]
    finally:
        pyplot.close("all")


def describe(figure) -> dict:
    """The SVG and alt text of a figure; ValueError if the title is missing or too wide, or the alt text is missing."""
    titles = [figure.get_suptitle()]
    titles += [ax.get_title(loc=side) for ax in figure.axes for side in ("left", "center", "right")]
    titles = [title for title in titles if title.strip()]
    if not titles:
        raise ValueError("figure: expected a title that states the finding; use axes.set_title or figure.suptitle")
    figure.draw_without_rendering()
    for text in figure.findobj(lambda artist: getattr(artist, "get_text", str)() in titles):
        if text.get_window_extent().x1 > figure.bbox.x1:
            raise ValueError(f"figure: the title '{text.get_text()}' is wider than the figure; shorten or break it")
    alt = figure.get_label().strip()
    if not alt:
        raise ValueError("figure: expected an alt text; use figure.set_label('a description of the figure')")
    return {"svg": to_svg(figure), "alt": " ".join(alt.split())}


def to_svg(figure) -> str:
    """One <svg> element without date, metadata and style sheet, with themed colours and unique ids."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg"):].strip()
    svg = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>|<defs>\s*</defs>|<!--.*?-->", "", svg, flags=re.S)
    svg = re.sub(r">\s+<", "><", svg).replace("\n", " ")
    return unique_ids(themed(sized(svg)))


def sized(svg: str) -> str:
    """Convert points to CSS pixels, and let the default fill, black, be the page's text colour."""
    width = float(re.search(r'width="([\d.]+)pt"', svg)[1]) * 4 / 3
    head, rest = svg.split(">", 1)
    head = re.sub(r' (width|height|version|xmlns:xlink)="[^"]*"', "", head)
    return f'{head} width="{width:.0f}" fill="currentColor">{rest}'.replace("xlink:href", "href")


def themed(svg: str) -> str:
    for colour in INK:
        svg = svg.replace(colour, "currentColor")
    for i, colour in enumerate(PALETTE):
        svg = svg.replace(colour, f"var(--figure-{i}, {colour})")
    return svg.replace(f": {PAPER}", f": var(--figure-paper, {PAPER})")


def unique_ids(svg: str) -> str:
    """Prefix ids with a digest of the drawing, so that figures on one page do not clash."""
    prefix = "f" + hashlib.sha256(svg.encode()).hexdigest()[:8] + "-"
    svg = re.sub(r'\bid="', f'id="{prefix}', svg)
    return re.sub(r'(href="|url\()#', rf"\1#{prefix}", svg)
