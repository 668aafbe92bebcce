"""The axis letters: every shape in this package is written with these, and only these.

A shape such as [B, T, M, D] means the same thing in a comment, a docstring, an error and the trace.
"""

AXES: dict[str, str] = {
    "B": "batch: independent sequences (inputs may come without it; the output then has none)",
    "T": "new tokens of this call",
    "S": "tokens seen so far, cached and new",
    "D": "width of one residual branch",
    "M": "residual branches (1 without hyper-connections)",
    "N": "largest n-gram order",
    "H": "hash heads per order",
    "C": "columns of a row read: one per order and head, (N-1)*H, order-major",
    "W": "width of one table row",
    "R": "rows of a table",
    "L": "taps of the short convolution",
    "A": "attention heads",
    "r": "width of the attention latent (kv_lora_rank)",
    "dn": "channels of a head without position, dr: with, dv: of its value",
    "E": "routed experts",
    "K": "experts that serve one token",
    "V": "vocabulary: raw token ids",
}
"""Letter -> what it counts."""


def describe_shape(axes: str, shape: tuple[int, ...]) -> str:
    """Axis letters beside their sizes, as the trace prints them.

    axes     letters or expressions separated by blanks; a leading B may be missing from `shape`
    shape    the sizes
    returns  for example "[B=1, T=14, M=4]"

    >>> describe_shape("B T M", (14, 4))
    '[T=14, M=4]'
    """
    letters = axes.split()
    if len(letters) == len(shape) + 1 and letters[0] == "B":
        letters = letters[1:]
    if len(letters) != len(shape):
        return str(list(shape))
    return "[" + ", ".join(f"{letter}={size}" for letter, size in zip(letters, shape, strict=True)) + "]"
