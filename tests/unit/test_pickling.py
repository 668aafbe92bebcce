"""Every public object can be pickled and copied, with constants still read-only; errors reach the parent process."""

import copy
import importlib
import importlib.util
import pickle
import pkgutil
import subprocess
import sys
from dataclasses import fields, is_dataclass
from types import ModuleType

import numpy as np
import pytest

import engram_ref
from engram_ref import Addressing, EngramState, InputError, Trace, Vocabulary, backends, model_preset, preset
from engram_ref.checks import Range
from engram_ref.errors import check_name
from engram_ref.lab.controls import OneRow, OtherText
from engram_ref.lab.measures import Counts
from engram_ref.layout import layout
from engram_ref.model import declarations
from engram_ref.model.accounting import BUDGETS, count, summarise
from engram_ref.model.state import DecodeState
from engram_ref.model_config import YarnConfig
from engram_ref.ops.namespace import Ops
from engram_ref.ops.small import Small
from engram_ref.ops.vjp.tables import RowGradient
from engram_ref.oracle import vectors
from engram_ref.oracle.check.answers import Answers
from engram_ref.oracle.check.diagnose import Diagnosis
from engram_ref.oracle.check.judge import StageResult
from engram_ref.oracle.check.locate import Predicate
from engram_ref.oracle.check.report import Verdict
from engram_ref.oracle.kit.read import Kit
from engram_ref.oracle.kit.write import Written
from engram_ref.oracle.slow.pcg import Pcg64, WordHash
from engram_ref.oracle.verify import Result
from engram_ref.readonly import ReadOnlyArrays, read_only
from engram_ref.stages import STAGES
from engram_ref.testing import Divergence, PortCase
from engram_ref.testing.schedules import Schedule
from engram_ref.text.maps import KNOWN_VOCABULARIES
from engram_ref.trace import Stopped
from engram_ref.training.corpus import TextCorpus, WorldCorpus
from engram_ref.training.evaluation import Evaluation, Prediction
from engram_ref.training.groups import GroupedOptimiser
from engram_ref.training.loop import Progress
from engram_ref.training.optimisers import Adam, Muon
from engram_ref.training.presets import training_preset
from engram_ref.training.world import Piece
from engram_ref.unicode import load_tables
from tests.compare import Difference

TOOLS = ("backends", "bench", "cli", "pytest_plugin", "__main__")
HOLD_FUNCTIONS = ("Adapter", "Model", "Step", "Caches", "SnapshotStream", "RowStream", "ModuleStream", "ModelStream",
                  "StepStream", "Port", "Bug", "Candidate", "Comparison", "Reference", "Noise", "Setting",
                  "AddressingOfOps", "Run", "Store", "Tensors", "Text", "Optimiser", "Corpus", "Criterion", "Draws",
                  "Experiment", "Stages", "Trainer", "World", "WorldCorpus")
"""Classes that are not pickled, because they hold functions, a namespace or a computation that has not ended: an
adapter, the parts of a running model, the streams of golden cases, ports under test, bugs and what tries them."""

TINY, MODEL, WORLD = preset("tiny"), model_preset("tiny"), WorldCorpus(400)


def trained(optimiser):
    """Return an optimiser after one step."""
    optimiser.step({"w": np.ones((2, 3))}, {"w": np.ones((2, 3))})
    return optimiser


def loaded_vocabulary():
    vocabulary = Vocabulary.load("deepseek-v4")
    vocabulary.encode("the")
    return vocabulary


def recorded_trace():
    trace = Trace(stop="gate", prefix="layers.1")
    trace.record("mix", np.arange(3))
    return trace


def golden_case():
    return vectors.read().cases[0]


def unknown_name():
    with pytest.raises(InputError) as caught:
        check_name("preset", ["tiny"], ("tiny",))
    return caught.value


def kit_of_one_case():
    golden = vectors.read()
    return Kit(vectors.Vectors(golden.arrays, golden.configurations, golden.cases[:1]), "0" * 64, "")


OBJECTS = {
    **{f"Addressing on {name}": lambda name=name: Addressing(TINY, ops=backends.load(name))
       for name in backends.BACKENDS if importlib.util.find_spec(name)},
    "Addressing of raw ids": lambda: Addressing(preset("qwen4exp-ple")),
    "Budget": lambda: BUDGETS[0],
    "Answers": lambda: Answers({"silu/edges": {"output": np.zeros(2)}}, ("model",)),
    "Case": golden_case,
    "Diagnosis": lambda: Diagnosis(("no known bug",), ()),
    "Kit": kit_of_one_case,
    "Predicate": lambda: Predicate(1.0, "only t = 0", 3.0, np.array([True]), 1, 1),
    "StageResult": lambda: StageResult("gate", "ok", np.array([False]), np.ones(1), np.ones(1), np.zeros(1), "float64"),
    "Verdict": lambda: Verdict(kit_of_one_case(), {}, (), (), Diagnosis((), ())),
    "Written": lambda: Written("0" * 64, {"plain/gate": 1}, 2, 3),
    "DecodeState": lambda: DecodeState(np.array([1, 2]), {"canonical_ids": np.array([[1, 0], [2, 3]])}),
    "Divergence": lambda: Divergence("gate", "stage gate"),
    "Difference": lambda: Difference((0, 1), 1.0, 2.0, 0.5, 3),
    "EngramConfig": lambda: TINY,
    "EngramState": lambda: EngramState(np.arange(4.0)),
    "InputError": lambda: InputError("ids", "integers", object(), hint="a\nhint"),
    "InputError for an unknown name": unknown_name,
    "InputError with a long value": lambda: InputError("ids", "few", list(range(10**4))),
    "KnownVocabulary": lambda: KNOWN_VOCABULARIES["deepseek-v4"],
    "Layout": lambda: layout(TINY, 1),
    "ModelConfig": lambda: MODEL,
    "Alternative": lambda: next(case.accept[0] for case in vectors.read().cases if case.accept),
    "AttentionConfig": lambda: MODEL.backbone.attention,
    "BackboneConfig": lambda: MODEL.backbone,
    "ExpertsConfig": lambda: MODEL.backbone.experts,
    "HyperConfig": lambda: MODEL.backbone.hyper,
    "WordHash": lambda: WordHash(1, 3),
    "YarnConfig": lambda: YarnConfig(4.0, 1.0),
    "Parameter": lambda: next(declarations.model(MODEL)),
    "Pcg64": lambda: Pcg64(7),
    "PortCase": lambda: PortCase(golden_case(), vectors.read()),
    "Part": lambda: count(MODEL)["attention"],
    "Range": lambda: Range(0, 1),
    "ReadOnlyArrays": ReadOnlyArrays,
    "Result": lambda: Result(golden_case(), True, "mix", Difference(None, "float32", "float64")),
    "Adam": lambda: trained(Adam(0.1)),
    "GroupedOptimiser": lambda: trained(GroupedOptimiser({"matrix": (Muon(0.1), ["w"])})),
    "Muon": lambda: trained(Muon(0.1)),
    "RowGradient": lambda: RowGradient(np.array([1]), np.ones((1, 2)), (3, 2)),
    **{kind.__name__: lambda kind=kind: kind(TINY) for kind in (OneRow, OtherText)},
    "Batch": lambda: WORLD.batch(0, 1, 2),
    "Counts": lambda: Counts(np.array([3]), np.array([5]), np.ones(1)),
    "Evaluation": lambda: Evaluation(1, 0.5, {"fact": 0.5}, {"fact": 1.0}, None),
    "Piece": lambda: Piece(" a", 1),
    "Prediction": lambda: Prediction(WORLD.batch(0, 1, 2), np.ones((1, 2)), np.zeros((1, 2), int), None),
    "Progress": lambda: Progress(1, 0.5, {"fact": 0.5}, None, 1.5, 2.0),
    "TextCorpus": lambda: TextCorpus("text", "a few words\n" * 40, 257),
    "Trained": engram_ref.load_trained,
    "TrainingConfig": lambda: training_preset("seconds"),
    "Schedule": lambda: Schedule(1, (("main", "feed", 1),)),
    "Stage": lambda: STAGES[0],
    "Stage of a case": lambda: golden_case().stages[0],
    "Stopped": lambda: Stopped("gate"),
    "Summary": lambda: summarise(MODEL),
    "Trace": recorded_trace,
    "UnicodeTables": load_tables,
    "Vectors": vectors.read,
    "Vocabulary": lambda: Vocabulary.load("deepseek-v3"),
    "Vocabulary with its tokenizer": loaded_vocabulary,
}


def public_classes():
    names = (m.name for m in pkgutil.walk_packages(engram_ref.__path__, "engram_ref.", onerror=lambda name: None)
             if m.name.split(".")[1] not in TOOLS)
    return {value for name in names for key, value in vars(importlib.import_module(name)).items()
            if isinstance(value, type) and value.__module__ == name and not key.startswith("_")
            and not issubclass(value, Small)}                 # tests/unit/test_namespace.py copies namespaces


def test_every_public_class_is_covered():
    tried = {type(make()) for make in OBJECTS.values()}
    exported = {value for value in map(engram_ref.__dict__.get, engram_ref.__all__) if isinstance(value, type)}
    assert {kind.__name__ for kind in public_classes() | exported} - {kind.__name__ for kind in tried} == {
        *HOLD_FUNCTIONS}


def same(a, b):
    """Compare all parts, including the dtype and the writeable flag of arrays."""
    if isinstance(a, np.ndarray):
        return (a.dtype, a.flags.writeable, a.tobytes()) == (b.dtype, b.flags.writeable, b.tobytes())
    if type(a) is not type(b):
        return False
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, tuple | list):
        return len(a) == len(b) and all(map(same, a, b))
    if is_dataclass(a):
        return all(same(getattr(a, field.name), getattr(b, field.name)) for field in fields(a))
    if isinstance(a, ModuleType | Ops):
        return a is b
    if type(a).__module__.startswith("tokenizers"):
        return a.to_str() == b.to_str()
    if isinstance(a, Exception):
        return (a.args, vars(a)) == (b.args, vars(b))
    return same(vars(a), vars(b)) if type(a).__module__.startswith("engram_ref") else a == b


METHODS = {"pickle": lambda value: pickle.loads(pickle.dumps(value)), "copy": copy.copy, "deepcopy": copy.deepcopy}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", OBJECTS)
def test_copies_are_equal(name, method):
    original = OBJECTS[name]()
    assert same(original, METHODS[method](original))


def test_same_compares_flags_dtypes_and_values():
    assert same(np.arange(2), np.arange(2))
    for other in (read_only(np.arange(2)), np.arange(2.0), np.array([0, 2])):
        assert not same({"a": (np.arange(2),)}, {"a": (other,)})


def test_a_copied_addressing_works():
    addressing = METHODS["pickle"](Addressing(TINY))
    assert addressing.rows([1, 2], 1).tolist() == Addressing(TINY).rows([1, 2], 1).tolist()
    with pytest.raises(ValueError, match="read-only"):
        addressing.canonical[0] = 1


def test_a_vocabulary_from_a_file_keeps_its_tokenizer(tmp_path):
    from tokenizers import Tokenizer, models

    path = tmp_path / "own.json"
    Tokenizer(models.BPE({"a": 0, "b": 1, "ab": 2}, [("a", "b")])).save(str(path))
    vocabulary = Vocabulary.from_file(path)
    path.unlink()
    for method in METHODS.values():
        assert method(vocabulary).encode("abba").tolist() == vocabulary.encode("abba").tolist() == [2, 1, 0]


POOLS = """
import concurrent.futures, multiprocessing, sys
from engram_ref import Addressing, preset
from engram_ref.errors import InputError

ADDRESSING = Addressing(preset("tiny"))

def rows(addressing, token):
    return addressing.rows([token], 1).shape

if __name__ == "__main__":
    for method in ("fork", "spawn"):
        context = multiprocessing.get_context(method)
        with concurrent.futures.ProcessPoolExecutor(1, context) as executor, context.Pool(1) as pool:
            for call in (lambda *a: executor.submit(rows, *a).result(30), lambda *a: pool.apply_async(rows, a).get(30)):
                try:
                    print(call(ADDRESSING, 5), call(ADDRESSING, -5))
                except InputError as error:
                    print(method, error.argument, error)
"""


def test_errors_in_worker_processes_reach_the_parent(tmp_path):
    (tmp_path / "pools.py").write_text(POOLS, encoding="utf-8")
    done = subprocess.run([sys.executable, "pools.py"], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    message = "canonical_ids canonical_ids: expected values in [0, 99092), found -5 at position 0"
    assert done.stdout.splitlines() == [f"fork {message}"] * 2 + [f"spawn {message}"] * 2, done.stderr
