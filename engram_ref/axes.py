"""Axis letters: all shapes in this package are written with these letters only.

A shape such as [B, T, M, D] means the same in a comment, a docstring, an error message and a trace.
"""

AXES: dict[str, str] = {
    "B": "batch: independent sequences (inputs without this axis give an output without it)",
    "T": "new tokens of this call",
    "S": "all tokens of the stream so far, cached and new",
    "D": "width of one residual branch",
    "M": "residual branches (1 without hyper-connections)",
    "N": "largest n-gram order",
    "H": "hash heads per order",
    "C": "columns: one table per order and head, (N-1)*H, order-major",
    "W": "width of one table row",
    "R": "rows of a table",
    "L": "taps of the short convolution",
    "A": "attention heads",
    "r": "width of the attention latent (kv_lora_rank)",
    "dn": "channels per attention head without position; dr: rotary channels; dv: value channels",
    "E": "routed experts",
    "K": "experts chosen per token",
    "V": "raw token ids in the vocabulary",
}
"""Letter -> meaning."""


def describe_shape(axes: str, shape: tuple[int, ...]) -> str:
    """Format a shape with its axis letters, as the trace prints it.

    axes     letters or expressions separated by spaces; `shape` may lack a leading B
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
