"""The modules of the package in layers, as their imports order them."""

from diagrams import COLOURS, INK, arrow, box, svg, text
from structure import PACKAGE, ROOT, layers

BLUE, ORANGE = COLOURS[:2]
LEFT, STEP, HEIGHT, GAP = 40, 38, 28, 10


def draw() -> str:
    rows = layers()
    bottom = STEP * len(rows)
    parts = [arrow([(18, bottom - STEP + HEIGHT), (18, 4)]),
             box(LEFT, bottom + 8, 16, 16, "", ORANGE, fill=True), text(LEFT + 24, bottom + 16, "folder", "start", 13),
             box(LEFT + 84, bottom + 8, 16, 16, "", BLUE), text(LEFT + 108, bottom + 16, "single file", "start", 13),
             text(LEFT + 200, bottom + 16, "a module imports only from rows above its own", "start", 13, INK)]
    for level, names in enumerate(rows):
        x = LEFT
        for name in names:
            folder = (ROOT / PACKAGE / name).is_dir()
            width = 8.2 * len(name) + 20
            parts.append(box(x, STEP * level + 2, width, HEIGHT, name, ORANGE if folder else BLUE, fill=folder))
            x += width + GAP
    return svg(560, bottom + 30, *parts)
