"""Turn the open matplotlib figures into SVG that lives inside a page.

The files of matplotlib are made for standing alone: white paper, black ink, a style sheet
that would leak into the page, ids that clash. Here ink becomes `currentColor`, the palette
becomes CSS variables (site.css gives them a light and a dark value), and every id gets a
prefix. The colours themselves stand in the file `matplotlibrc` beside this one.
"""

import hashlib
import io
import re
import sys

INK = ("#16191d", "#000000")                       # the ink of matplotlibrc, and plain black
PAPER = "#ffffff"
PALETTE = ("#0b4f8a", "#c8500a", "#1f9483", "#8e2a7e", "#a67c00", "#6b7280")   # C0 ... C5 of matplotlibrc


def figures_as_svg() -> list[dict]:
    """[{"svg", "alt"}, ...] of every open figure; closes them all."""
    pyplot = sys.modules.get("matplotlib.pyplot")  # a script without figures pays nothing
    if pyplot is None:
        return []
    figures = [pyplot.figure(number) for number in pyplot.get_fignums()]
    try:
        return [describe(figure) for figure in figures]
    finally:
        pyplot.close("all")


def describe(figure) -> dict:
    """The drawing and its alt text; ValueError if the title is missing or cut off, or the alt text is missing."""
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
        raise ValueError("figure: expected an alt text; use figure.set_label('what the figure shows, in words')")
    return {"svg": to_svg(figure), "alt": " ".join(alt.split())}


def to_svg(figure) -> str:
    """One <svg> element: no date, no metadata, no style sheet, themed colours, own ids."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg"):].strip()
    svg = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>|<defs>\s*</defs>|<!--.*?-->", "", svg, flags=re.S)
    svg = re.sub(r">\s+<", "><", svg).replace("\n", " ")
    return unique_ids(themed(sized(svg)))


def sized(svg: str) -> str:
    """Points to CSS pixels; the page's style sheet may shrink it. Black is the default fill: inherit ink."""
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
    """Prefix ids with a digest of the drawing, so that two figures on one page never clash."""
    prefix = "f" + hashlib.sha256(svg.encode()).hexdigest()[:8] + "-"
    svg = re.sub(r'\bid="', f'id="{prefix}', svg)
    return re.sub(r'(href="|url\()#', rf"\1#{prefix}", svg)
