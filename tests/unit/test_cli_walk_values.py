"""walk of a trained model: its values are those of the model, and `off` is the model without its memory."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from engram_ref import Trace, engram, load_trained, ops
from engram_ref.cli.walk_data import TRAINED_TEXT
from engram_ref.model.transformer import forward
from engram_ref.model_config import HyperConfig
from engram_ref.training import checkpoint
from engram_ref.training.corpus import load_corpus
from engram_ref.training.loop import Trainer
from engram_ref.training.presets import training_preset, without_engram
from tests.unit.test_cli import run

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def walked():
    """The trained model, the default text's ids, and what forward records."""
    trained = load_trained()
    ids, trace = trained.vocabulary.encode(TRAINED_TEXT), Trace()
    forward(trained.parameters, ids, trained.model, addressing=trained.addressing, trace=trace)
    return trained, ids, trace


def without_memory(trained, ids):
    """Logits with a mask that closes all gates."""
    return forward(trained.parameters, ids, trained.model, addressing=trained.addressing, dead=np.ones(len(ids), bool))


def shown_gates(capsys, text):
    """The tokens that walk describes, and their gates."""
    shown = json.loads(run(capsys, "walk", text, "--json")[1])
    return shown["tokens"], np.array(shown["stages"]["gate"]["values"])[:, 0]


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Write the untrained model of some settings as a checkpoint; return its folder."""
    corpus = load_corpus("world", 300)

    def write(config):
        folder = tmp_path_factory.mktemp("runs")
        checkpoint.save(Trainer(config, corpus), folder)
        return str(folder)

    return write


def test_gates_equal_those_of_the_module_alone(capsys, walked):
    trained, ids, trace = walked
    layer = trained.model.engram.layer_ids[0]
    index = next(i for i in range(trained.model.backbone.n_layers) if trained.model.engram_layer(i) == layer)
    prefix, module = f"layers.{index}.engram.", Trace()
    parameters = {name.removeprefix(prefix): x for name, x in trained.parameters.items() if name.startswith(prefix)}
    rows = trained.addressing.rows(trained.vocabulary.canonical[ids], layer)
    hidden = trace[f"layers.{index - 1}.ffn_branches.branches"]
    engram(parameters, hidden, rows[None], trained.model.engram, trace=module)
    shown = json.loads(run(capsys, "walk", "--json")[1])
    assert shown["stages"]["rows"]["values"] == rows.tolist()
    assert shown["stages"]["gate"]["values"] == module["gate"][0].tolist()
    out = run(capsys, "walk", "--stage", "gate")[1]
    assert [line.split()[-1] for line in out.splitlines()[-len(ids):]] == [f"{x:.3f}" for x in module["gate"][0, :, 0]]


def test_probabilities_equal_those_of_forward_with_and_without_memory(capsys, walked):
    trained, ids, trace = walked
    on, off = (ops.softmax(x.astype(np.float64)) for x in (trace["logits"][0], without_memory(trained, ids)))
    shown = json.loads(run(capsys, "walk", "--json")[1])["tokens"]
    for t, token in enumerate(shown):
        ranked = [{int(i) for i in np.argsort(-p[t], kind="stable")[:3]} for p in (on, off)]
        assert {entry["raw_id"] for entry in token["next"]} == ranked[0] | ranked[1]
        assert token["next"][0]["raw_id"] == on[t].argmax()
        assert [(e["probability"], e["without_memory"]) for e in token["next"]] == [
            (on[t, e["raw_id"]], off[t, e["raw_id"]]) for e in token["next"]]
    last = run(capsys, "walk")[1].splitlines()[-len(ids):]
    best, other = on.argmax(axis=1), off.argmax(axis=1)
    assert [line.split()[-1] for line in last] == [f"{off[t, i]:.2f}" for t, i in enumerate(other)]
    assert all(f" {on[t, i]:.2f}   {off[t, i]:.2f}  " in line
               for line, (t, i) in zip(last, enumerate(best), strict=True))


def test_the_readme_says_what_the_default_sentence_shows(capsys):
    tokens, gates = shown_gates(capsys, TRAINED_TEXT)
    of = [token["text"] for token in tokens].index(" of")
    first = tokens[of]["next"][0]
    claim = (f"After *the LORD of*, the model predicts *{first['text'].strip()}* with a probability of "
             f"{first['probability']:.2f}, and with {first['without_memory']:.2f} without its memory.")
    for page in ("README.md", "docs/index.md"):
        text = " ".join((ROOT / page).read_text(encoding="utf-8").split())
        assert claim in text and TRAINED_TEXT in text
    assert sum(gates > 0.5) >= 4 and gates[of] > 0.5
    assert max(gate for token, gate in zip(tokens, gates, strict=True) if token["text"] in (" hosts", " Israel")) < 0.1
    assert shown_gates(capsys, "The computer sends a message to the server every morning")[1].max() < 0.5


def test_the_first_lines_state_model_and_training(capsys, walked):
    trained, _, _ = walked
    out = " ".join(run(capsys, "walk")[1].split())
    measured = trained.about["float16"]
    losses = f"{measured['held_out']:.2f} nats per token, {measured['held_out_memory_off']:.2f} without memory"
    for text in ("model readable: 1.1M parameters", f"held-out loss {losses}",
                 f"trained for {trained.about['step']} steps on the King James Bible",
                 "How often their rows were trained is not known", "added the mean gate to the loss"):
        assert text in out


def test_a_checkpoint_with_experts_and_branches_shows_their_pages(capsys, written, tmp_path):
    config = training_preset("seconds")
    model = replace(config.model, engram=replace(config.model.engram, n_branches=4),
                    backbone=replace(config.model.backbone, hyper=HyperConfig()))
    folder = written(replace(config, model=model))
    out = run(capsys, "walk", "--checkpoint", folder, "the horse", "--step")[1]
    for text in ("attention.attention_weights", "experts.experts", "logits", "branch 3"):
        assert text in out
    assert "trained for 0 steps on text about an invented world; layer" in " ".join(out.split())
    assert "added the mean gate" not in out
    stages = json.loads(run(capsys, "walk", "--checkpoint", folder, "the horse", "--json")[1])["stages"]
    assert all(f"{e}: " in out for token in stages["experts.experts"]["values"] for e in token)
    assert np.shape(stages["attn_branches.branch_residual"]["values"])[1:] == (4, 4)
    run(capsys, "walk", "--checkpoint", folder, "the horse", "--plot", str(tmp_path / "walk.svg"))
    figure = (tmp_path / "walk.svg").read_text(encoding="utf-8")
    assert all(f">{np.mean(gates):.2f}<" in figure for gates in stages["gate"]["values"])


def test_a_checkpoint_without_engram_exits_2(capsys, written):
    code, out, err = run(capsys, "walk", "--checkpoint", written(without_engram(training_preset("seconds"))))
    assert (code, out, err.count("\n")) == (2, "", 1) and "a model with Engram, found seconds-moe" in err


DAMAGE = {
    "missing": (checkpoint.ABOUT, None, "reinstall engram_ref"),
    "no vocabulary": (checkpoint.TOKENIZER, None, "No such file"),
    "weights changed": (checkpoint.MODEL, lambda data: data[:-1] + bytes([data[-1] ^ 1]), "changed or truncated"),
    "weights truncated": (checkpoint.MODEL, lambda data: data[:1000], "changed or truncated"),
    "step changed": (checkpoint.ABOUT, lambda data: data.replace(b'"step": ', b'"step": 1'), "changed or truncated"),
    "not JSON": (checkpoint.ABOUT, lambda data: data[:99], "is it truncated?"),
}


@pytest.mark.parametrize("name, change, message", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_model_exits_2(capsys, monkeypatch, tmp_path, name, change, message):
    folder = tmp_path / "trained"
    shutil.copytree(checkpoint.SHIPPED, folder)
    data = (folder / name).read_bytes()
    (folder / name).unlink()
    if change is not None:
        (folder / name).write_bytes(change(data))
    monkeypatch.setattr(checkpoint, "SHIPPED", folder)
    code, out, err = run(capsys, "walk")
    assert (code, out, err.count("\n")) == (2, "", 1) and message in err
