"""A stage that differs, as text: how many elements, which, and the worst one with its inputs."""

from collections.abc import Iterator

import numpy as np

from engram_ref.oracle.cases import Case, Vectors
from engram_ref.oracle.check.columns import axes_of, side_columns
from engram_ref.oracle.check.judge import StageResult
from engram_ref.oracle.check.locate import where
from engram_ref.oracle.compare import ulp_distance
from engram_ref.oracle.encoding import decode_all


def explained(vectors: Vectors, case: Case, result: StageResult) -> Iterator[str]:
    """Yield what is wrong with one stage."""
    if result.wrong is None:
        kind = f"{result.status} " if result.status in ("shape", "dtype") else ""
        yield f"{case.name}, stage {result.stage}: expected {kind}{result.expected}, found {result.found}"
    else:
        yield from difference(vectors, case, result)


def difference(vectors: Vectors, case: Case, result: StageResult) -> Iterator[str]:
    """Yield how many elements differ, where, and the worst one with its inputs."""
    arguments = decode_all(case.arguments, vectors.arrays, vectors.configurations)
    expected = {stage.name: stage.array for stage in case.stages}
    columns = side_columns(case, result.stage, arguments, expected)
    axes = axes_of(case, result.stage, result.wrong.ndim)
    count = f"{int(result.wrong.sum()):,} of {result.wrong.size:,} elements"
    yield f"First difference: case {case.name}, stage {result.stage}: {count}, {where(result.wrong, axes, columns)}"
    index = worst(result)
    y, found = result.expected[index], result.found[index]
    ulps = ulp_distance(y, found) if result.precision in ("float32", "float64") else None
    place = ", ".join(f"{axis} {i}" for axis, i in zip(axes, index, strict=True)) or "the only element"
    allowed = "" if result.allowed is None else f", allowed deviation {result.allowed[index]:.2g}"
    apart = "" if ulps is None else f", {ulps:,} ULP apart"
    yield f"  at {place}: expected {shown_number(y)}, found {shown_number(found)}{apart}{allowed}"
    inputs = {name: array for name, array in arguments.items()
              if isinstance(array, np.ndarray) and array.shape == result.wrong.shape} | columns
    values = {shown_number(np.broadcast_to(array, result.wrong.shape)[index]): name
              for name, array in reversed(inputs.items()) if array.dtype.kind != "b"}        # equal ones once
    if values:
        yield f"  inputs there: {', '.join(f'{name} {value}' for value, name in reversed(values.items()))}"


def worst(result: StageResult) -> tuple[int, ...]:
    """Return the index of the wrong element that exceeds its allowed deviation by the largest factor."""
    if result.allowed is None:
        return tuple(map(int, np.argwhere(result.wrong)[0]))
    with np.errstate(all="ignore"):
        error = np.abs(result.found.astype(np.float64) - result.expected.astype(np.float64))
        factor = np.where(result.wrong, np.nan_to_num(error / result.allowed, nan=np.inf, posinf=np.inf), -1.0)
    return tuple(map(int, np.unravel_index(np.argmax(factor), factor.shape)))


def shown_number(x: np.generic) -> str:
    """Format a number; bytes in hexadecimal too."""
    if x.dtype == np.uint8:
        return f"0x{int(x):02x}"
    return repr(x.item()) if x.dtype.itemsize == 8 or x.dtype.kind != "f" else f"{float(x):.9g}"
