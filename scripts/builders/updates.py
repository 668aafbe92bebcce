"""Update rules of the optimisers, and three steps of a module and of tiny models."""

import numpy as np

from engram_ref.model.declarations import engram_module
from engram_ref.training.groups import names_by_group, paper_optimiser
from scripts.builders.models import shared_with_full
from scripts.builders.modules import module_arguments
from scripts.builders.planned import case, rng_of
from scripts.builders.small_models import PLAIN, VOCABULARY, random_model
from scripts.builders.whole_gradients import TRAINED, WITH_MODULE

STEPS = 3
LR, DECAY = 2.0**-6, 0.125
ADAM = {"lr": LR, "beta1": 0.875, "beta2": 0.9375, "eps": 2.0**-27, "weight_decay": DECAY}
MUON = {"lr": LR, "weight_decay": DECAY, "beta": 0.9375, "nesterov": True, "form": "sum", "scale": "rms",
        "steps": "classic"}


def update(name, flags="", outputs=("output",), **arguments):
    return case(name, outputs=outputs, flags=flags, kind_of_case="gradients", **arguments)


def adam():
    """Yield first and later steps, gradients that are 0 or far below eps, and rows of a table."""
    kept = ("parameter", "mean", "square")
    for title, step, size, eps, flags in (("first", 1, 1.0, ADAM["eps"], ""), ("third", 3, 1.0, ADAM["eps"], ""),
                                          ("tiny-gradient", 2, 1e-12, ADAM["eps"], "eps"),
                                          ("eps-1e-20", 2, 1e-12, 1e-20, "eps")):
        rng = rng_of(f"adam_update/{title}")
        parameter, gradient, mean = rng.standard_normal((3, 2, 5))
        gradient[0, 0] = 0.0
        square = rng.random((2, 5))
        yield update(f"adam_update/{title}", flags, kept, parameter=parameter, gradient=size * gradient,
                     mean=size * mean * (step > 1), square=size**2 * square * (step > 1), step=step,
                     **ADAM | {"eps": eps})
    rng = rng_of("lazy_adam_update/rows")
    table, mean = rng.standard_normal((2, 7, 3))
    yield update("replace_rows/three", "stale-rows", table=table, rows=np.array([6, 0, 3]), values=mean[:3],
                 exact=("output",))
    yield update("lazy_adam_update/rows", "stale-rows", ("table", "mean", "square"), table=table,
                 rows=np.array([1, 2, 5]), values=rng.standard_normal((3, 3)), mean=mean, square=rng.random((7, 3)),
                 step=2, **ADAM)


def muon():
    """Yield wide, tall, square and stacked matrices, with every form of the momentum and of the scale."""
    for title, shape, changed in (
            ("wide", (3, 7), {}), ("tall", (6, 4), {"form": "ema"}), ("square", (4, 4), {"nesterov": False}),
            ("stack", (3, 5, 2), {"scale": "keller"}), ("hybrid", (3, 4), {"steps": "hybrid"})):
        rng = rng_of(f"muon_update/{title}")
        parameter, gradient, momentum = rng.standard_normal((3, *shape))
        yield update(f"muon_update/{title}", "stacked" if len(shape) == 3 else "", ("parameter", "momentum"),
                     parameter=parameter, gradient=gradient, momentum=momentum, **MUON | changed)
        yield update(f"newton_schulz/{title}", "stacked" if len(shape) == 3 else "", matrix=gradient,
                     steps=changed.get("steps", "classic"))


def biases():
    """Yield biases of experts that got exactly the mean number of tokens, fewer, more, or none."""
    bias = rng_of("bias_update/ties").standard_normal(5)
    for title, centred in (("ties", False), ("centred", True)):
        yield update(f"bias_update/{title}", "ties unchosen bias", bias=bias, counts=np.array([4, 0, 4, 7, 5]),
                     rate=2.0**-10, centred=centred)


def batches():
    """Yield the weights of batches with different numbers of tokens."""
    yield update("batch_weights/unequal", tokens=np.array([7.0, 1.0, 4.0]))


def steps():
    """Yield three steps of a module, whose batches read different rows, and of models with and without a module."""
    for label in ("demo-like", "paper-like"):
        name, config = f"engram_steps/{label}", TRAINED[label]
        batches = [module_arguments(f"{name} {i}", config, 1, 3) for i in range(STEPS)]
        a, rows = batches[0], np.stack([batch["rows"] for batch in batches])
        rows[:, :, 1] = rows[:, :, 0]
        upstream = rng_of(f"{name} upstream").standard_normal((STEPS, *a["hidden"].shape))
        trained = [n for names in names_by_group(engram_module(config, config.layer_ids[0])).values() for n in names]
        yield update(name, "dialect duplicates stale-rows", tuple(trained), dialect=label, parameters=a["parameters"],
                     hidden=a["hidden"], rows=rows, config=config, upstream=upstream, lr=LR, weight_decay=DECAY)
    for config in (PLAIN, WITH_MODULE):
        name, parameters = f"forward_steps/{config.name}", shared_with_full(random_model(config))
        rng = rng_of(name)
        ids, targets = rng.integers(0, VOCABULARY, (2, STEPS, 1, 4))
        ids[..., -1] = ids[..., 0]
        outputs = (*(f"{i}.loss" for i in range(STEPS)), *paper_optimiser(config, LR).group_of)
        yield update(name, "duplicates stale-rows unchosen", outputs, parameters=parameters, ids=ids, targets=targets,
                     config=config, lr=LR, weight_decay=DECAY, dialect=config.engram.name if config.engram else "")


AREA = (adam, muon, biases, batches, steps)
