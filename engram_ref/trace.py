"""Trace: record every stage of a computation, save it, or stop at a stage.

    with Trace(stop="gate") as trace:
        engram(parameters, hidden, rows, config, trace=trace)
    trace["gate"]
"""

from collections.abc import Iterator
from pathlib import Path
from types import NoneType
from typing import Any

import numpy as np

from engram_ref.axes import describe_shape
from engram_ref.checks import check_is_file, check_kind, check_kinds
from engram_ref.errors import InputError, described
from engram_ref.files import check_file, write_whole
from engram_ref.packages import require
from engram_ref.stages import stage_of


class Stopped(Exception):
    """Raised in a traced computation at the stage named by `stop`; the `with` block suppresses it."""


def copied(array: Any) -> np.ndarray:
    """Return a copy as a NumPy array; tensors are detached and moved to the CPU, bfloat16 becomes float32."""
    if hasattr(array, "detach"):
        array = array.detach().cpu()
        array = (array.float() if str(array.dtype) == "torch.bfloat16" else array).numpy()
    try:
        return np.array(array)
    except ValueError as error:                              # rows of different lengths
        raise InputError("array", "an array of numbers", described(array)) from error


class Trace:
    """A dictionary of stages, filled while a computation runs.

    stop           the key or stage name after which the computation ends; leaving the `with` block raises
                   InputError if the computation never reached it
    check_finite   raise InputError at the first stage that contains NaN or infinity
    prefix         prepended to every name, such as "layers.1.engram"

    >>> trace = Trace()
    >>> trace.record("gate", np.array([[[0.5, 0.25]]]))
    >>> print(trace)
    gate [B=1, T=1, M=2] float64
    """

    def __init__(self, stop: str | None = None, check_finite: bool = False, prefix: str = ""):
        check_kinds(stop=(stop, str, NoneType), check_finite=(check_finite, bool), prefix=(prefix, str))
        self.stop, self.check_finite, self.prefix = stop, check_finite, prefix
        self.arrays: dict[str, np.ndarray] = {}

    def at(self, prefix: str) -> "Trace":
        """Return a trace that stores into this one, with names below a path: trace.at("layers.1.engram")."""
        nested = Trace(self.stop, self.check_finite, self._path(prefix))
        nested.arrays = self.arrays
        return nested

    def record(self, name: str, array: np.ndarray) -> None:
        """Store a copy of one stage; raise InputError if it is not finite and `check_finite` is set."""
        check_kind("name", name, str)
        key, stored = self._path(name), copied(array)
        if stored.dtype.kind in "OSU":
            raise InputError("array", "an array of numbers", described(array))
        self.arrays[key] = stored
        if self.check_finite and not np.isfinite(stored).all():
            position = tuple(int(i) for i in np.argwhere(~np.isfinite(stored))[0])
            raise InputError(key, "finite values", f"{stored[position]} at position {position}",
                             "no earlier stage contains NaN or infinity")
        if self.stop in (key, name):
            raise Stopped(key)

    def first_non_finite(self) -> str | None:
        """Return the key of the first stage that contains NaN or infinity, or None."""
        return next((key for key, array in self.arrays.items() if not np.isfinite(array).all()), None)

    def describe(self, key: str) -> str:
        """Return one line with key, shape in axis letters, and dtype."""
        array, stage = self[key], stage_of(key)
        shape = describe_shape(stage.axes, array.shape) if stage else str(list(array.shape))
        return f"{key} {shape} {array.dtype}"

    def save(self, path: str | Path) -> None:
        """Write all stages to a safetensors file, completely or not at all; see engram_ref.files."""
        check_file(path)
        data = require("safetensors.numpy", f"trace file {path}").save(
            {key: np.array(array, order="C") for key, array in self.arrays.items()},
            metadata={"order": "\n".join(self.arrays)})
        write_whole(path, data)

    @classmethod
    def load(cls, path: str | Path) -> "Trace":
        """Read a saved trace, stages in order; raise InputError if the file is missing or damaged."""
        check_is_file(f"trace file {path}", path, "a safetensors file")
        trace, safe_open = cls(), require("safetensors", f"trace file {path}").safe_open
        try:
            with safe_open(path, framework="numpy") as stored:
                order = (stored.metadata() or {})["order"]
                trace.arrays = {key: stored.get_tensor(key) for key in order.split("\n") if key}
        except Exception as error:  # the library has its own exception types
            raise InputError(f"trace file {path}", "a safetensors file written by Trace.save", f"an error: {error}",
                             "is it truncated, or not a trace?") from error
        return trace

    def _path(self, name: str) -> str:
        return f"{self.prefix}.{name}" if self.prefix else name

    def __getitem__(self, key: str) -> np.ndarray:
        return self.arrays[self._path(key)] if self._path(key) in self.arrays else self.arrays[key]

    def __contains__(self, key: str) -> bool:
        return key in self.arrays or self._path(key) in self.arrays

    def __iter__(self) -> Iterator[str]:
        return iter(self.arrays)

    def __len__(self) -> int:
        return len(self.arrays)

    def __str__(self) -> str:
        return "\n".join(self.describe(key) for key in self.arrays)

    def __enter__(self) -> "Trace":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, _: object) -> bool:
        if kind is None and self.stop is not None:
            raise InputError("stop", f"one of the computed stages, {', '.join(self.arrays)}", repr(self.stop))
        return kind is Stopped
