"""The modules of the package in layers, ordered by their imports."""

from diagrams import COLOURS, arrow, box, svg, text
from structure import PACKAGE, ROOT, layers

BLUE, ORANGE = COLOURS[:2]
LEFT, STEP, HEIGHT, GAP = 40, 38, 28, 10


def draw() -> str:
    rows = layers()
    bottom, right = STEP * len(rows), 0.0
    parts = [arrow([(18, bottom - STEP + HEIGHT), (18, 4)]),
             box(LEFT, bottom + 8, 16, 16, "", ORANGE, fill=True), text(LEFT + 24, bottom + 16, "folder", "start", 13),
             box(LEFT + 84, bottom + 8, 16, 16, "", BLUE), text(LEFT + 108, bottom + 16, "single file", "start", 13)]
    for level, names in enumerate(rows):
        x = LEFT
        for name in names:
            folder = (ROOT / PACKAGE / name).is_dir()
            width = 8.2 * len(name) + 20
            parts.append(box(x, STEP * level + 2, width, HEIGHT, name, ORANGE if folder else BLUE, fill=folder))
            x += width + GAP
        right = max(right, x)
    return svg(right, bottom + 30, *parts)
