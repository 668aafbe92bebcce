"""The record function: a composition calls record(stage, array) for each stage that it computes."""

from collections.abc import Callable

import numpy as np

Record = Callable[[str, np.ndarray], None]


def ignore(stage: str, array: np.ndarray) -> None:
    """Record nothing; this is the default."""
