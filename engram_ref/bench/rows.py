"""P1 to P4: rows, in bulk, in a batch, beside a C loop, and one decode step."""

from collections.abc import Iterator
from functools import partial

import numpy as np

from engram_ref.addressing import Addressing
from engram_ref.bench import limits
from engram_ref.bench.judge import OURS, Case, Comparison
from engram_ref.bench.setting import Setting, Sides, aligned
from engram_ref.presets import preset

FRESH = f"{OURS}, fresh output"
DEMO = "the demo's way"
MEMSET = "memset of the output"
DIVIDE = "a 64-bit divide for each row"
LOOP = "a C loop with %"
DISPATCH = "calling a compiled function"


def bulk(setting: Setting) -> Iterator[Case]:
    """P1: rows of a corpus, on one thread and on several."""
    yield from beside_demo(setting, "rows, bulk", setting.size((8, 65_536), (2, 700)), (20.0, 30.0))


def batch(setting: Setting) -> Iterator[Case]:
    """P2: rows of a batch, on one thread and on several."""
    yield from beside_demo(setting, "rows, a batch", setting.size((8, 4096), (3, 301)), (12.0, 16.0))


def beside_demo(setting: Setting, what: str, shape: tuple[int, int], goals: tuple[float, float]) -> Iterator[Case]:
    """Rows of both layers of the paper's preset beside the demo's way, on one thread, then on the setting's."""
    config = preset("engram-27b")
    constants = Constants(config.name)
    ids = np.random.default_rng(1).integers(0, config.vocab_size, shape)
    out = aligned((len(config.layer_ids), *shape, config.columns), np.int64)
    sizes = {"preset": config.name, "tokens": ids.size, "sequences": shape[0], "layers": len(config.layer_ids),
             "columns": config.columns}
    for threads, goal in zip(dict.fromkeys((1, setting.threads)), goals, strict=False):
        sides = Sides(setting)
        sides.add(OURS, partial(constants.rows, setting, ids, out=out))
        sides.add(FRESH, partial(constants.rows, setting, ids))
        sides.rival(DEMO, lambda rivals: partial(rivals.demo_rows, ids, constants.canonical, constants.multipliers,
                                                 constants.primes, constants.pad))
        sides.add(MEMSET, limits.memset(aligned(out.shape, np.int64), threads))
        yield Case(what, sizes, threads, sides.there, [
            Comparison("faster", DEMO, goal), Comparison("faster", DEMO, of=FRESH), Comparison("limit", MEMSET),
        ], sides.missing)


class Constants:
    """What rows of a preset follow from, layers stacked: the arguments of address_layers."""

    def __init__(self, name: str):
        self.addressing = addressing = Addressing(preset(name))
        self.canonical, self.pad = addressing.canonical, addressing.pad_id
        self.multipliers = np.stack(list(addressing.multipliers.values()))
        self.primes = np.stack(list(addressing.primes.values()))

    def rows(self, setting: Setting, ids: np.ndarray, **keywords: np.ndarray) -> np.ndarray:
        """Rows of every layer from raw ids [B, T], by the backend: [Y, B, T, C]."""
        return setting.ops.address_layers(ids, self.canonical, self.addressing.start(len(ids)), self.multipliers,
                                          self.primes, None, self.pad, **keywords)


def beside_c(setting: Setting) -> Iterator[Case]:
    """P3: rows of the released model's layout beside a C loop, on one thread."""
    config = preset("deepseek-v4.1-flash")
    constants = Constants(config.name)
    rng = np.random.default_rng(3)
    ids = rng.integers(0, config.vocab_size, (1, setting.size(131_072, 517)))
    out = aligned((len(config.layer_ids), *ids.shape, config.columns), np.int64)
    sides = Sides(setting)
    sides.add(OURS, partial(constants.rows, setting, ids, out=out))
    sides.rival(LOOP, lambda rivals: rivals.c_rows(ids, constants.canonical, constants.multipliers, constants.primes,
                                                   constants.pad), "gcc")
    mixes = rng.integers(0, 2**62, ids.size)
    sides.add(DIVIDE, limits.divides(mixes, constants.primes.reshape(-1)))
    sizes = {"preset": config.name, "tokens": ids.size, "layers": len(config.layer_ids), "columns": config.columns}
    yield Case("rows, the released layout", sizes, 1, sides.there,
               [Comparison("faster", LOOP, 5.0), Comparison("limit", DIVIDE)], sides.missing,
               note="a row without a division can pass the limit of one divide a row")


def step(setting: Setting) -> Iterator[Case]:
    """P4: the rows of one new token after a history, through a stepper made once."""
    config = preset("engram-27b")
    constants = Constants(config.name)
    layer = config.layer_ids[0]
    ids, history = np.array([1234]), np.array([[77, 4321]])
    multipliers, primes = constants.addressing.multipliers[layer], constants.addressing.primes[layer]
    stepper = setting.ops.stepper(multipliers, primes, constants.pad, None)
    sides = Sides(setting)
    sides.add(OURS, partial(stepper, ids, history))
    sides.rival(DEMO, lambda rivals: partial(rivals.demo_step, ids, history, multipliers, primes, constants.pad))
    sides.add(DISPATCH, limits.dispatch(ids, history))
    yield Case("rows, one decode step", {"preset": config.name, "sequences": 1, "columns": config.columns}, 1,
               sides.there, [Comparison("faster", DEMO, 60.0), Comparison("limit", DISPATCH)], sides.missing)
