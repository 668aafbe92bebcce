"""Judge one case of a port: every stage against the tolerance that the precision of its answer allows.

Integers must be equal. A float answer y' to the number y must satisfy

    RN(y - d) <= y' <= RN(y + d),     d = C u noise + the smallest normal number

where RN rounds to the format of the answer, and the noise is that of oracle/noise.py. The unit roundoff u is 2^-53 for
float64, and 2^-24 for float32 and for bfloat16 and float16, which are only storage formats. NaN equals NaN, an infinity
equals itself. Answers of class `exact` must be RN(y), with the sign of a zero. Answers of class `bf16` must be bfloat16
numbers, in any format that holds them; y is the number before this rounding.

If the answers include the inputs of a stage, its expected numbers and its noise are computed from these inputs, so
that only the stage that differs is reported, at its own tolerance.
"""

import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass

import numpy as np

from engram_ref.ops.namespace import NUMPY, Ops
from engram_ref.oracle.cases import Case, Stage, Vectors
from engram_ref.oracle.check.pieces import kind, pieces_of
from engram_ref.oracle.compare import same, to_bf16
from engram_ref.oracle.encoding import decode_all
from engram_ref.oracle.noise import CONFIDENCE, FLOAT64, SAMPLES, measure
from engram_ref.oracle.run import Stages, run
from engram_ref.oracle.streams import STREAMS

ROUNDOFF = {"float64": 2.0**-53, "float32": 2.0**-24, "bfloat16": 2.0**-24, "float16": 2.0**-24}
"""Unit roundoff of the computation, by the format of its answer."""

MACHINE_EPS = {"float64": (2.0**-52,), "float32": (2.0**-23,), "bfloat16": (2.0**-23, 2.0**-7),
               "float16": (2.0**-23, 2.0**-10)}
"""Acceptable values of eps = None, by the format of the answer: its machine epsilon, or that of the float32 inside."""

REFUSED = "refused"
GOOD = ("ok", "accepted")


@dataclass(frozen=True)
class StageResult:
    """The result of one stage.

    status      "ok"; "accepted": another acceptable answer; or "differs", "missing", "shape", "dtype", "non-finite"
                (NaN or infinity for a number), "refused" (valid inputs)
    wrong       bool [...], the elements that differ; None if the arrays cannot be compared
    expected    [...], or the expected shape or dtype, or the name of the accepted answer
    found       likewise
    allowed     [...] largest deviation before rounding to the format; None for integers
    precision   name of the answer's dtype
    """

    stage: str
    status: str
    wrong: np.ndarray | None = None
    expected: object = None
    found: object = None
    allowed: np.ndarray | None = None
    precision: str = ""

    @property
    def ok(self) -> bool:
        """True for right and for acceptable answers."""
        return self.status in GOOD


def judge(case: Case, vectors: Vectors, answers: Mapping[str, np.ndarray], ops: Ops = NUMPY,
          streams: Mapping[str, type] = STREAMS) -> list[StageResult]:
    """Judge the answers to one case, in order of computation.

    answers   stage -> array, of any dtype in ROUNDOFF or integers; the outputs are required, other stages optional. An
              answer "refused" states that the port refused the inputs
    ops       the namespace that computes expected numbers from a port's own answers; the definition, unless a
              diagnosis compares the answers with those of a known bug
    streams   likewise, the classes that keep state between calls
    returns   one result per stage that is required or answered; for an invalid case, one named "refused"
    """
    if case.result == "invalid":
        return [StageResult(REFUSED, "ok" if REFUSED in answers else "missing", expected="refused inputs",
                            found=f"{len(answers)} answers")]
    if REFUSED in answers:
        return [StageResult(case.outputs[0], REFUSED, expected="answers", found="refused inputs")]
    stages = [stage for stage in case.stages if stage.name in answers or stage.name in case.outputs]
    reference = Reference(case, vectors, answers, ops, streams)
    results = [judge_stage(stage, answers.get(stage.name), reference) for stage in stages]
    if all(result.ok for result in results):
        return results
    for other in case.accept:
        named = {stage.name: stage for stage in other.stages}
        again = [result if result.ok and result.stage in reference.pieces else      # agrees with the port's own inputs
                 judge_stage(named[result.stage], answers.get(result.stage), reference, True) for result in results]
        if all(result.ok for result in again):
            return [StageResult(result.stage, "accepted", None, other.name, precision=result.precision)
                    for result in again]
    return results


class Reference:
    """The expected numbers of one case, and their noise: those of the kit, or computed from the port's own answers."""

    def __init__(self, case: Case, vectors: Vectors, answers: Mapping[str, np.ndarray], ops: Ops = NUMPY,
                 streams: Mapping[str, type] = STREAMS):
        self.case, self.vectors, self.ops, self.streams = case, vectors, ops, streams
        arguments = decode_all(case.arguments, vectors.arrays, vectors.configurations)
        self.machine_eps = any(has_machine_eps(name, value) for name, value in arguments.items())
        self.pieces = pieces_of(case, arguments, answers)
        self.measured: dict[float, tuple[Stages, Stages]] = {}

    def end_to_end(self, stage: Stage, precision: str) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield the expected numbers from the inputs of the case, and their noise: a pair per acceptable eps."""
        for eps in MACHINE_EPS[precision] if self.machine_eps else (2.0**-52,):
            if stage.noise is not None and eps == 2.0**-52:
                yield stage.array, stage.noise
                continue
            if eps not in self.measured:
                call = lambda ops: run(self.case, self.vectors, ops, FLOAT64, self.case.traced, self.streams)
                samples = SAMPLES if stage.noise is None else 0
                self.measured[eps] = measure(call, zlib.crc32(self.case.name.encode()), self.ops, eps=eps,
                                              samples=samples)
            exact, noise = self.measured[eps]
            yield (exact[stage.name] if self.machine_eps else stage.array,
                   noise[stage.name] if stage.noise is None else stage.noise)

    def from_answers(self, name: str, precision: str) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield the same, computed from the port's answers to the stages that this one reads; nothing if some miss."""
        piece = self.pieces.get(name)
        if piece is None:
            return
        for eps in MACHINE_EPS[precision] if self.machine_eps else (2.0**-52,):
            exact, noise = measure(lambda ops: {name: piece(ops)}, zlib.crc32(name.encode()), self.ops, eps=eps)
            yield exact[name], noise.get(name, np.zeros(0))


def has_machine_eps(name: str, value: object) -> bool:
    """Return whether an argument is eps = None, or a configuration that contains it."""
    if name in ("eps", "norm_eps", "conv_norm_eps"):
        return value is None
    return is_dataclass(value) and any(has_machine_eps(field.name, getattr(value, field.name))
                                       for field in fields(value))


def judge_stage(stage: Stage, found: np.ndarray | None, reference: Reference, alternative: bool = False) -> StageResult:
    """Judge the answer to one stage; numbers of an alternative, another acceptable answer, are not computed again."""
    expected, name = stage.array, stage.name
    if found is None:
        return StageResult(name, "missing", expected="an answer", found="none")
    if found.shape != expected.shape:
        return StageResult(name, "shape", expected=list(expected.shape), found=list(found.shape))
    precision = found.dtype.name
    text = expected.dtype.kind == found.dtype.kind == "U"
    if not text and (kind(expected) != kind(found) or (kind(expected) == "float" and precision not in ROUNDOFF)):
        return StageResult(name, "dtype", expected=kind(expected), found=precision)
    if kind(expected) != "float":
        if not alternative:
            expected = next((numbers for numbers, _ in reference.from_answers(name, "float64")), expected)
        wrong = np.asarray(found != expected)
        return StageResult(name, "differs" if wrong.any() else "ok", wrong, expected, found, None, precision)
    exact = stage.tolerance_class == "exact"
    if exact or alternative:
        noise = stage.noise if stage.noise is not None else np.zeros(expected.shape)
        return judge_floats(stage, expected, None if exact else noise, found)
    own = list(reference.from_answers(name, precision))
    fused = [] if own and precision in ("float64", "float32") else reference.end_to_end(stage, precision)
    results = []
    for candidate, noise in (*own, *fused):         # a narrow answer may be a copy of a wider number that the port used
        results.append(judge_floats(stage, candidate, noise, found))
        if results[-1].ok:
            return results[-1]
    return results[0]


def judge_floats(stage: Stage, expected: np.ndarray, noise: np.ndarray | None, found: np.ndarray) -> StageResult:
    """Compare floats; noise None: exactly."""
    precision, y, answer = found.dtype.name, expected.astype(np.float64), found.astype(np.float64)
    rounded = stage.tolerance_class == "bf16"
    computed = "float32" if rounded else precision

    def stored(x: np.ndarray) -> np.ndarray:
        """Round to the format of the answer, and first to bfloat16 if the dialect does; float64 [...]."""
        return nearest(to_bf16(x) if rounded else x, found.dtype).astype(np.float64)

    with np.errstate(all="ignore"):
        if noise is None:
            allowed = np.zeros(y.shape)
            right = same(stored(y), answer)
        else:
            tiny = 2.0**-1022 if computed == "float64" else 2.0**-126
            allowed = CONFIDENCE * ROUNDOFF[computed] * noise.astype(np.float64) + tiny
            inside = (stored(y - allowed) <= answer) & (answer <= stored(y + allowed))
            right = inside | (np.isnan(y) & np.isnan(answer))
            right &= same(stored(answer), answer)                       # a number of bfloat16, if it must be one
    non_finite = (~right & ~np.isfinite(answer) & np.isfinite(y)).any()
    status = "ok" if right.all() else "non-finite" if non_finite else "differs"
    return StageResult(stage.name, status, ~right, expected, found, allowed, precision)


def nearest(x: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Round float64 numbers to a format, ties to even; ml_dtypes alone would round to float32 first."""
    return (to_bf16(x) if dtype.name == "bfloat16" else x).astype(dtype)
