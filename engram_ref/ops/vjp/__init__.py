"""Gradients of the ops: one vector-Jacobian product per op, named after it and in a file of the same name.

    d loss / d x = sum over results y of  upstream[y] * dy / dx

`NAME_vjp(upstream, *inputs)` receives the gradient of the loss with respect to the op's result, and the op's inputs. It
returns one gradient per input: None for an input without one, such as a configuration or integers. It recomputes what
it needs from the inputs; the definition stores nothing for it.

A composition needs no VJP of its own: engram_ref.backends.tape records the ops that it calls, and applies their VJPs in
reverse order. WITHOUT lists the ops whose results have no gradient.
"""

WITHOUT = frozenset((
    "adam_update", "angles", "append", "batch_weights", "bias_update", "canonicalise", "dequantise", "join", "last",
    "lazy_adam_update", "mark_dead", "mix", "muon_update", "newton_schulz", "next_history", "place",
    "positions_after", "quantise", "replace_rows", "sample", "select_experts", "table_rows", "visible", "windows",
))
"""Ops whose results are integers, choices, positions, the state of a stream, which is constant for the next call, or
the result of an optimiser's step."""
