"""What is in a folder of checkpoints, and what is refused: other runs, damaged files, folders that cannot be used."""

import json
import os
import shutil
from dataclasses import replace

import numpy as np
import pytest

from engram_ref.errors import InputError
from engram_ref.training import checkpoint
from engram_ref.training.corpus import TextCorpus
from engram_ref.training.loop import Trainer
from tests.training import CONTROL, PLAIN, assert_same, losses, names, resumed, trainer


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """The folder of a run with a checkpoint after step 2."""
    run, folder = trainer(), tmp_path_factory.mktemp("run")
    losses(run, 2)
    checkpoint.save(run, folder)
    return folder


@pytest.fixture
def saved(original, tmp_path):
    """A copy of that folder."""
    return shutil.copytree(original, tmp_path, dirs_exist_ok=True)


# the folder ------------------------------------------------------------------------------------------------


def test_old_checkpoints_and_leftovers_are_removed_and_nothing_else(tmp_path):
    run = trainer()
    kept = [".0123456789abcde.part", ".part", "step-1", "step-000001x", "notes"]
    for name in [".0123456789abcdef.part", *kept]:
        (tmp_path / name).mkdir()
    (tmp_path / "step-000009").touch()                      # a file
    for _ in range(4):
        losses(run, 1)
        checkpoint.save(run, tmp_path)
    assert names(tmp_path) == sorted([*kept, "step-000003", "step-000004", "step-000009"])


def test_a_state_that_was_saved_is_not_written_again(saved):
    before = (saved / "step-000002").stat()
    assert checkpoint.save(resumed(saved), saved) == saved / "step-000002"
    assert (saved / "step-000002").stat() == before


def test_a_file_with_the_name_of_a_checkpoint(saved):
    run = resumed(saved)
    losses(run, 1)
    (saved / "step-000003").touch()
    with pytest.raises(InputError, match="step-000003: expected a new or empty folder, found a file"):
        checkpoint.save(run, saved)


OTHERS = {
    "learning rate": (replace(PLAIN, lr=0.004), r"config\.lr 0\.004, as in this run, found 0\.005"),
    "width": (replace(PLAIN, model=replace(PLAIN.model, engram=replace(PLAIN.model.engram, row_width=8))),
              r"config\.model\.engram\.row_width 8, as in this run, found 4"),
    "no Engram": (CONTROL, r"config\.name control, as in this run, found plain"),
    "no module": (replace(CONTROL, name="plain"), r"config\.model\.engram None, as in this run, found "),
    "seed": (replace(PLAIN, seed=1), r"config\.seed 1, as in this run, found 0"),
}


@pytest.mark.parametrize("config, message", OTHERS.values(), ids=OTHERS)
def test_a_checkpoint_of_other_settings(saved, config, message):
    run = trainer(config)
    losses(run, 3)
    for use in (lambda: checkpoint.restore(run, checkpoint.newest(saved)), lambda: checkpoint.save(run, saved)):
        with pytest.raises(InputError, match=message):
            use()
    assert run.done == 3 and names(saved) == ["step-000002"]


def test_a_checkpoint_of_another_dtype(saved):
    with pytest.raises(InputError, match="expected dtype float32, as in this run, found float64"):
        resumed(saved, dtype=np.float32)


CHANGES = {"longer": lambda text: text + " more", "one word": lambda text: text.replace("which", "whose", 1),
           "two words swapped": lambda text: text.replace("was not", "not was", 1)}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_checkpoint_of_another_text(tmp_path, change):
    text = "\n".join(["in the beginning was the word which said that it was not in the end"] * 99)
    made = lambda text: Trainer(PLAIN, TextCorpus("rhymes", text, 270), dtype=np.float64)
    run = made(text)
    losses(run, 1)
    checkpoint.save(run, tmp_path)
    checkpoint.restore(made(text), checkpoint.newest(tmp_path))
    with pytest.raises(InputError, match=r"a corpus with sha256 .* found sha256 .*was the text changed"):
        checkpoint.restore(made(change(text)), checkpoint.newest(tmp_path))


def test_a_text_that_is_just_long_enough(tmp_path):
    """Nothing that a checkpoint needs is longer than a step."""
    run = Trainer(replace(PLAIN, length=3), TextCorpus("short", "abc\n" * 20, 257), dtype=np.float64)
    losses(run, 1)
    checkpoint.restore(run, checkpoint.save(run, tmp_path))


def test_an_earlier_step_is_not_saved_beside_later_ones(saved):
    before = names(saved)
    run = trainer()
    losses(run, 1)
    with pytest.raises(InputError, match=r"no checkpoint after step 1, found step-000002 .*or use a new folder"):
        checkpoint.save(run, saved)
    assert names(saved) == before


def test_folders_without_a_checkpoint(tmp_path, saved):
    (tmp_path / "empty").mkdir()
    for folder in ("empty", "missing", "step-000002/model.safetensors", "x" * 300, "a\0b"):
        with pytest.raises(InputError, match="expected a folder with a checkpoint, found none"):
            checkpoint.newest(tmp_path / folder)
    for path in (saved, saved / "step-000002", str(saved / "step-000002")):
        assert checkpoint.newest(path) == saved / "step-000002"


@pytest.mark.parametrize("name", ["file", "file/below", "x" * 300, "a\0b"])
def test_folders_that_cannot_be_created(tmp_path, name):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="a folder that can be created, found an error"):
        checkpoint.save(trainer(), tmp_path / name)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write to any folder")
def test_a_read_only_folder(saved):
    run = resumed(saved)
    losses(run, 1)
    saved.chmod(0o555)
    with pytest.raises(InputError, match="a writable folder"):
        checkpoint.save(run, saved)
    assert names(saved) == ["step-000002"]


# damaged files ---------------------------------------------------------------------------------------------


def rewritten(path, change):
    described = json.loads(path.read_bytes())
    change(described)
    path.write_text(json.dumps(described), encoding="utf-8")


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


FILES = ("model.safetensors", "optimiser.safetensors", "tokenizer.json", "training.json")
DAMAGE = {
    "missing": lambda path: path.unlink(),
    "empty": lambda path: path.write_bytes(b""),
    "truncated": lambda path: path.write_bytes(path.read_bytes()[:-1]),
    "one bit": flip,
    "a folder": lambda path: (path.unlink(), path.mkdir()),
}


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("name", FILES)
def test_a_damaged_file(saved, name, damage):
    DAMAGE[damage](saved / "step-000002" / name)
    run = trainer()
    expected = r"is it truncated|the file was changed or truncated"
    if name != "tokenizer.json":
        with pytest.raises(InputError, match=expected):
            checkpoint.restore(run, saved / "step-000002")
    if name != "optimiser.safetensors":
        with pytest.raises(InputError, match=expected):
            checkpoint.load(saved / "step-000002")
    assert_same(trainer(), run)


DESCRIPTIONS = {
    "newer": (lambda d: (d.update(format=2, engram_ref="9.0"), d.pop("config"), d.pop("sha256")),
              r"expected format 1, found 2 \(written by engram_ref 9\.0\)"),
    "step": (lambda d: d.update(step=7), "the file was changed"),
    "settings": (lambda d: d["config"].update(lr=1.0), "the file was changed"),
    "no digests": (lambda d: d.pop("sha256"), "training.json and the files that it lists"),
    "digest of a file": (lambda d: d["sha256"].pop("model.safetensors"), "training.json and the files that it lists"),
    "digests": (lambda d: d.update(sha256=[1]), "training.json and the files that it lists"),
}


@pytest.mark.parametrize("change, message", DESCRIPTIONS.values(), ids=DESCRIPTIONS)
def test_a_changed_description(saved, change, message):
    rewritten(saved / "step-000002" / "training.json", change)
    for use in (lambda: checkpoint.restore(trainer(), saved / "step-000002"),
                lambda: checkpoint.load(saved / "step-000002")):
        with pytest.raises(InputError, match=message):
            use()


@pytest.mark.parametrize("text", ["[]", "null", "1", "{}", '"x"', "\xff"])
def test_a_description_that_is_none(saved, text):
    (saved / "step-000002" / "training.json").write_text(text, encoding="latin-1")
    with pytest.raises(InputError, match=r"training\.json and the files that it lists"):
        checkpoint.load(saved / "step-000002")


def test_a_file_of_another_checkpoint(saved):
    run = resumed(saved)
    losses(run, 1)
    path = checkpoint.save(run, saved)
    shutil.copy(saved / "step-000002" / "optimiser.safetensors", path)
    with pytest.raises(InputError, match=r"step-000003/optimiser\.safetensors: expected sha256"):
        resumed(saved)
