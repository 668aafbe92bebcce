"""The data flow through Engram, an overview for all tutorials: text, rows, tables, gate, residual stream.

The numbers belong to the token " Great" in tutorial 01, which asserts them.
"""

from diagrams import COLOURS, INK, PAPER, arrow, box, line, svg, text

BLUE, ORANGE, TEAL, VIOLET, _, GREY = COLOURS
WIDTH, SMALL = 672, 12.5
STEPS = [("text", "… the Great", None), ("raw ids", "9327", None), ("canonical\nids", "2049", 2),
         ("window", "2049, 237,\n15695, 1134", 3), ("mix", "one per order:\n2, 3, 4", 3),
         ("rows", "8 per order,\n24 in total", 3)]
# positions of the marked rows, in hundredths of their table
HEIGHTS = [67, 93, 14, 81, 35, 21, 64, 11, 11, 64, 43, 95, 99, 56, 46, 54, 11, 8, 42, 59, 71, 90, 22, 85]
LEFT, COLUMN, GROUP = 126, 20, 186                                   # the tables: first x, pitch, pitch of an order
STREAM, ADD = 446, 432                                               # y of the residual stream, x where Y is added


def draw() -> str:
    return svg(WIDTH, 500, *integers(), *tables(), *module(), *stream())


def badge(x: float, y: float, number: int) -> str:
    """The number of a tutorial in a circle."""
    disc = f'<circle cx="{x:g}" cy="{y:g}" r="10" fill="{PAPER}" stroke="{INK}" stroke-width="1.2"/>'
    return disc + text(x, y, str(number), size=SMALL)


def integers() -> list[str]:
    """Top row: the integers, which depend on the text alone."""
    parts = [text(1, 10, "Integers, from the text alone", "start", SMALL, BLUE)]
    width, gap, top, height = 93, 20, 30, 46
    for i, (label, example, tutorial) in enumerate(STEPS):
        x = 1 + i * (width + gap)
        parts.append(box(x, top, width, height, label, BLUE, fill=True))
        parts.append(text(x + width / 2, top + height + 13 + 8 * example.count("\n"), example, size=SMALL))
        if i:
            parts.append(arrow([(x - gap, top + height / 2), (x, top + height / 2)]))
        if tutorial:
            parts.append(badge(x + width - 4, top, tutorial))
    return parts


def tables() -> list[str]:
    """Middle: one row of each of the 24 tables, concatenated."""
    bus, top, height, strip = 134, 150, 66, 252
    centres = [LEFT + order * GROUP + 4 * COLUMN - 2 for order in range(3)]
    last = LEFT + 2 * GROUP + 8 * COLUMN - 4
    parts = [line([(612, 116), (612, bus), (centres[0], bus)]),
             *(arrow([(x, bus), (x, top - 2)]) for x in centres),
             text(1, top + 26, "24 tables of\n16 million rows", "start", SMALL, ORANGE), badge(last, top - 2, 4),
             text(1, strip + 12, "memory: 24 × 256\n= 6,144 numbers", "start", SMALL, ORANGE)]
    for column in range(24):
        order, head = divmod(column, 8)
        x = LEFT + order * GROUP + head * COLUMN
        y = top + (height - 5) * HEIGHTS[column] / 100
        parts.append(f'<rect x="{x}" y="{top}" width="16" height="{height}" fill="{ORANGE}" fill-opacity="0.14" '
                     f'stroke="{ORANGE}" stroke-width="1"/>')
        parts.append(f'<rect x="{x}" y="{y:.1f}" width="16" height="5" fill="{ORANGE}"/>')
        cell = LEFT + column * (last - LEFT) / 24
        parts.append(f'<rect x="{cell:.1f}" y="{strip}" width="{(last - LEFT) / 24:.1f}" height="24" fill="{ORANGE}" '
                     f'fill-opacity="0.45" stroke="{PAPER}" stroke-width="1"/>')
    for x, name in zip(centres, ("for 2-grams", "for 3-grams", "for 4-grams"), strict=True):
        parts += [text(x, top + height + 11, name, size=SMALL), arrow([(x, top + height + 20), (x, strip - 2)])]
    return parts


def module() -> list[str]:
    """The Engram module of one block: keys are compared with the state, the gate scales the value."""
    high, low = 330, 388                                             # centres of its two lanes
    frame = (f'<rect x="70" y="300" width="{ADD - 52}" height="120" rx="6" fill="none" stroke="{TEAL}" '
             f'stroke-width="1.4" stroke-dasharray="5 4"/>')
    times = f'<circle cx="248" cy="{high}" r="10" fill="{PAPER}" stroke="{INK}" stroke-width="1.4"/>'
    return [frame, times, text(248, high, "×", size=16),
            line([(138, 276), (138, 290), (88, 290), (88, low), (104, low)]),
            arrow([(88, high), (106, high)]), arrow([(88, low), (106, low)]),
            box(106, high - 17, 74, 34, "value", TEAL, fill=True), box(106, low - 17, 74, 34, "keys", TEAL, fill=True),
            arrow([(180, high), (238, high)]), arrow([(180, low), (212, low)]),
            box(212, low - 17, 72, 34, "gate", TEAL, fill=True), badge(284, low - 17, 5),
            arrow([(248, low - 17), (248, high + 10)]), arrow([(258, high), (296, high)]),
            box(296, high - 20, 92, 40, "short\nconvolution", TEAL, fill=True), badge(388, high - 20, 6),
            line([(388, high), (ADD, high)]), arrow([(ADD, high), (ADD, STREAM - 14)]), text(ADD - 10, 364, "Y"),
            text(458, 318, "The Engram module", "start", SMALL, TEAL),
            text(458, 345, "A circled number is the tutorial\nthat explains this step.", "start", SMALL),
            text(458, 387, "The numbers are DeepSeek-V4.1's,\nwhich has no convolution.", "start", SMALL)]


def stream() -> list[str]:
    """Bottom: the residual stream of one block, four branches wide."""
    ends = [(14, ADD - 12), (ADD + 12, 472), (556, 574), (650, 662)]
    lines = [line([(a, STREAM + y), (b, STREAM + y)], GREY) for a, b in ends for y in (-7.5, -2.5, 2.5, 7.5)]
    plus = f'<circle cx="{ADD}" cy="{STREAM}" r="12" fill="{PAPER}" stroke="{INK}" stroke-width="1.4"/>'
    return [*lines, plus, text(ADD, STREAM, "+", size=18), arrow([(248, STREAM - 8), (248, 407)]),
            text(256, 427, "H", "start"),
            box(472, STREAM - 22, 84, 44, "attention", VIOLET, fill=True),
            box(574, STREAM - 22, 76, 44, "experts", VIOLET, fill=True),
            text(14, STREAM + 26, "residual stream of one block, four branches", "start", SMALL, GREY)]
