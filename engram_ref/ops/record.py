"""Types of a composition's arguments. It calls record(stage, array) for each stage that it computes."""

from collections.abc import Callable, Mapping

import numpy as np

Parameters = Mapping[str, np.ndarray]
Record = Callable[[str, np.ndarray], None]


def ignore(stage: str, array: np.ndarray) -> None:
    """Record nothing; this is the default."""
