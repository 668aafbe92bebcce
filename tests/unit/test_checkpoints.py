"""A run continues from a checkpoint as if it had not been interrupted, and nothing else passes for a checkpoint."""

import json
import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from engram_ref.backends import load as backend
from engram_ref.errors import InputError
from engram_ref.model.transformer import forward
from engram_ref.training import checkpoint
from engram_ref.training.presets import training_preset, training_presets, without_engram
from tests.training import ALL, CONTROL, COST, PLAIN, assert_same, corpus, losses, names, resumed, trainer


def ops_of(name):
    if name != "numpy":
        pytest.importorskip(name, reason=f"{name} is not installed")
    return backend(name)


@pytest.fixture
def saved(tmp_path):
    """The folder of a run with a checkpoint after step 2."""
    run = trainer()
    losses(run, 2)
    checkpoint.save(run, tmp_path)
    return tmp_path


# continuing ------------------------------------------------------------------------------------------------

RUNS = [("numpy", ALL, np.float32), ("numpy", ALL, np.float64), ("numpy", CONTROL, np.float32),
        ("numba", COST, np.float64), pytest.param("numba", ALL, np.float32, marks=pytest.mark.thorough)]


@pytest.mark.parametrize("name, config, dtype", RUNS, ids=lambda x: getattr(x, "__name__", getattr(x, "name", x)))
def test_a_resumed_run_has_the_same_bits(tmp_path, name, config, dtype):
    options = {"ops": ops_of(name), "dtype": dtype}
    whole, first = trainer(config, **options), trainer(config, **options)
    expected = losses(whole, 6)
    losses(first, 3)
    checkpoint.save(first, tmp_path)
    second = resumed(tmp_path, config, **options)
    assert_same(first, second)
    np.testing.assert_array_equal(losses(second, 3), expected[3:])
    assert_same(whole, second)


def test_a_run_is_saved_before_its_first_step(tmp_path):
    assert checkpoint.save(trainer(), tmp_path).name == "step-000000"
    whole, run = trainer(), resumed(tmp_path)
    losses(whole, 1), losses(run, 1)
    assert_same(whole, run)


CONTINUE = """
import sys
from engram_ref.backends import load
from engram_ref.training import checkpoint
from tests.training import COST, losses, trainer
run = trainer(COST, ops=load(sys.argv[2]))
checkpoint.restore(run, checkpoint.newest(sys.argv[1]))
losses(run, 3)
checkpoint.save(run, sys.argv[1])
"""


def in_new_process(code, *arguments):
    done = subprocess.run([sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True,
                          env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))})
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("name", ["numpy", pytest.param("numba", marks=pytest.mark.thorough)])
def test_a_new_process_continues_with_the_same_bits(tmp_path, name):
    whole, first = trainer(COST, ops=ops_of(name)), trainer(COST, ops=ops_of(name))
    losses(whole, 6)
    losses(first, 3)
    checkpoint.save(first, tmp_path)
    in_new_process(CONTINUE, tmp_path, name)
    assert_same(whole, resumed(tmp_path, COST, ops=ops_of(name)))


def test_a_run_may_get_more_steps(saved):
    longer = replace(PLAIN, steps=2 * PLAIN.steps)
    whole = trainer(longer)
    losses(whole, 5)
    run = resumed(saved, longer)
    losses(run, 3)
    assert_same(whole, run)             # the learning rate of these steps does not depend on their number
    with pytest.raises(InputError, match=r"config\.steps 40, as in this run, found 50"):
        resumed(saved, replace(PLAIN, steps=40))


@pytest.mark.parametrize("first, second", [("numpy", "torch"), ("torch", "numpy")])
def test_a_run_continues_on_another_backend(tmp_path, first, second):
    run = trainer(ops=ops_of(first))
    losses(run, 2)
    checkpoint.save(run, tmp_path)
    continued = resumed(tmp_path, ops=ops_of(second))
    assert_same(run, continued)
    losses(continued, 1)
    assert checkpoint.newest(tmp_path) != checkpoint.save(continued, tmp_path) == checkpoint.newest(tmp_path)


def test_a_checkpoint_loads_as_a_model(saved):
    run, trained = resumed(saved), checkpoint.load(checkpoint.newest(saved))
    assert trained.config == run.config
    np.testing.assert_array_equal(trained.vocabulary.canonical, corpus().vocabulary.canonical)
    ids = corpus().held_out(0, 2, 9).ids
    expected = forward(run.parameters, ids, run.model, addressing=run.addressing)
    found = forward(trained.parameters, ids, trained.model, addressing=trained.addressing)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("name", training_presets())
@pytest.mark.parametrize("change", [lambda config: config, without_engram], ids=["", "without Engram"])
def test_settings_are_read_as_they_were_written(name, change):
    config = change(training_preset(name))
    written = json.loads(json.dumps(checkpoint.dataclasses.asdict(config)))
    assert checkpoint.config_of(type(config), written) == config


# kill and interruption -------------------------------------------------------------------------------------

KILLED = """
import os, random, signal, sys, time
from engram_ref.training import checkpoint
from tests.training import COST, losses, trainer
folder, draws = sys.argv[1], random.Random(1)

def train():
    run = trainer(COST)
    if checkpoint.checkpoints(folder):
        checkpoint.restore(run, checkpoint.newest(folder))
    while run.done < COST.steps:
        losses(run, 1)
        checkpoint.save(run, folder)

trainer(COST)                            # import and compile everything before the first fork
kills = 0
while True:
    child = os.fork()
    if not child:
        train()
        os._exit(0)
    if kills == 12:
        assert os.waitpid(child, 0)[1] == 0
        break
    found = checkpoint.checkpoints(folder)
    while checkpoint.checkpoints(folder) == found:          # a few steps of 50, so it does not end before the signal
        time.sleep(0.001)
    time.sleep(0.04 * draws.random())
    os.kill(child, signal.SIGKILL)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL
    kills += 1
    for path in checkpoint.checkpoints(folder)[-checkpoint.KEPT:]:
        checkpoint.load(path)
"""


def test_a_run_that_is_killed_again_and_again_ends_with_the_same_bits(tmp_path):
    in_new_process(KILLED, tmp_path)
    whole = trainer(COST)
    losses(whole, COST.steps)
    assert_same(whole, resumed(tmp_path, COST))
    assert names(tmp_path) == ["step-000049", "step-000050"]


DIES = """
import os, sys
from engram_ref.training import checkpoint
from tests.training import losses, trainer

EVENTS = ("open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.scandir", "shutil.rmtree")
folder, run, seen = sys.argv[1], trainer(), 0

def die(event, arguments):
    global seen
    seen += event in EVENTS
    if seen > count:
        os._exit(9)

for _ in range(checkpoint.KEPT + 1):
    losses(run, 1)
    checkpoint.save(run, folder)
losses(run, 1)
for count in range(1000):
    child = os.fork()
    if not child:
        sys.addaudithook(die)
        checkpoint.save(run, folder)
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    found = checkpoint.newest(folder)
    checkpoint.load(found)
    print(count, code, found.name)
    if found.name == f"step-{run.done:06d}":
        os.rename(found, folder + "/../" + str(count))
    if not code:
        break
print(*sorted(os.listdir(folder)))
"""


def test_a_process_that_dies_at_any_point_of_a_save(tmp_path):
    """At every access to a file: the folder then has the new checkpoint or the old ones, never a part of one."""
    (tmp_path / "run").mkdir()
    *lines, left = in_new_process(DIES, tmp_path / "run").splitlines()
    assert len(lines) > 12
    assert {line.split()[2] for line in lines if line.split()[1] == "9"} == {"step-000003", "step-000004"}
    assert lines[-1].split()[1:] == ["0", "step-000004"] and left == "step-000003"


def test_an_interrupted_save_leaves_the_earlier_checkpoint(saved, monkeypatch):
    run, opened, original = resumed(saved), [], open

    def interrupted(path, *arguments):
        opened.append(path)
        if len(opened) == 3:
            raise KeyboardInterrupt
        return original(path, *arguments)

    losses(run, 1)
    monkeypatch.setattr("engram_ref.files.open", interrupted, raising=False)
    with pytest.raises(KeyboardInterrupt):
        checkpoint.save(run, saved)
    assert names(saved) == ["step-000002"]
    checkpoint.save(run, saved)
    assert names(saved) == ["step-000002", "step-000003"]


FULL = """
import resource, sys
from engram_ref.training import checkpoint
from tests.training import losses, trainer
run = trainer()
checkpoint.restore(run, checkpoint.newest(sys.argv[1]))
losses(run, 1)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    checkpoint.save(run, sys.argv[1])
except ValueError as error:
    print(error)
"""


def test_a_full_disk_leaves_the_earlier_checkpoint(saved):
    message = "step-000003: expected a writable folder, found an error: File too large\n"
    assert in_new_process(FULL, saved).endswith(message)
    assert names(saved) == ["step-000002"]
