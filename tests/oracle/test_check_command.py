"""engram-ref check: exit codes, the report, the verdict, and bad usage."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from engram_ref.cli.main import main
from engram_ref.ops.namespace import NUMPY
from engram_ref.oracle.bugs import BUGS, namespace_with, streams_with
from engram_ref.oracle.kit.plain import DTYPES, shape_text
from engram_ref.oracle.kit.read import read_kit
from engram_ref.oracle.run import Adapter, run
from engram_ref.oracle.streams import STREAMS
from tests.kits import write_few


@pytest.fixture(scope="module")
def kit(tmp_path_factory):
    return write_few(tmp_path_factory.mktemp("kit") / "kit")


def write_answers(folder, kit, namespace=NUMPY, streams=STREAMS):
    """Write the answers of a namespace to every case of a kit, as raw files, and text as JSON."""
    vectors, text = read_kit(kit).vectors, {}
    for case in vectors.cases:
        place = folder / case.name
        place.mkdir(parents=True)
        with np.errstate(all="ignore"):
            stages = run(case, vectors, namespace, Adapter(), case.traced, streams)
        for stage, array in stages.items():
            if array.dtype.kind == "U":
                text[case.name] = {stage: {"dtype": "str", "shape": list(array.shape), "values": array.tolist()}}
            else:
                name = f"{stage}.{DTYPES[array.dtype.name]}.{shape_text(array.shape)}.bin"
                (place / name).write_bytes(array.tobytes())
    (folder / "answers.json").write_text(json.dumps(text), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def right(kit, tmp_path_factory):
    return write_answers(tmp_path_factory.mktemp("right") / "right", kit)


def copied(right, tmp_path):
    return Path(shutil.copytree(right, tmp_path / "answers"))


def test_right_answers(kit, right, capsys, tmp_path):
    file = tmp_path / "verdict.json"
    assert main(["check", str(kit), str(right), "--verdict", str(file)]) == 0
    lines, verdict = capsys.readouterr().out.splitlines(), json.loads(file.read_text(encoding="utf-8"))
    assert "cases agree (float32" in lines[0] and "all stages" in lines[2] and len(lines) < 6
    assert verdict["ok"] and not verdict["failures"] and verdict["kit"] == read_kit(kit).digest
    assert verdict["groups"]["plain/gate"] == {"ok": 1, "failed": 0, "skipped": 0}
    assert main(["check", str(kit), str(right), "--json"]) == 0
    assert capsys.readouterr().out == file.read_text(encoding="utf-8")


def test_a_wrong_port_is_located_and_named(kit, tmp_path, capsys):
    bug = "copysign-for-sign"
    answers = write_answers(tmp_path / "wrong", kit, namespace_with(bug), streams_with(bug))
    assert main(["check", str(kit), str(answers)]) == 1
    out = capsys.readouterr().out
    assert len(out.splitlines()) <= 24
    assert "First difference: case gate/signed_sqrt-edges, stage output" in " ".join(out.split())
    assert "copysign-for-sign" in out and "expected 0.5, found" in out and "inputs there: s 0.0" in out
    assert main(["check", str(kit), str(answers), "--json"]) == 1
    assert "copysign-for-sign" in json.loads(capsys.readouterr().out)["bugs"]


def test_missing_misshapen_and_unknown_answers(kit, right, tmp_path, capsys):
    answers = copied(right, tmp_path)
    shutil.rmtree(answers / "silu" / "edges")
    (answers / "cross_entropy" / "batch" / "output.f64.2x3.bin").unlink()
    (answers / "cross_entropy" / "batch" / "output.f64.1.bin").write_bytes(bytes(8))
    (answers / "silu" / "egdes").mkdir()
    (answers / "silu" / "egdes" / "output.f32.1.bin").write_bytes(bytes(4))
    (answers / "rms_norm" / "machine-eps" / "otput.f32.1.bin").write_bytes(bytes(4))
    assert main(["check", str(kit), str(answers), "--all"]) == 1
    out = " ".join(capsys.readouterr().out.split())
    assert "silu/edges (output: missing)" in out
    assert "Not in the kit: rms_norm/machine-eps=otput, silu/egdes" in out


def test_unsupported_groups_are_skipped_and_printed(kit, right, tmp_path, capsys):
    answers = copied(right, tmp_path)
    shutil.rmtree(answers / "silu")
    shutil.rmtree(answers / "addressing_stream")
    (answers / "unsupported").write_text("silu\naddressing_stream\nplain/adressing\n", encoding="utf-8")
    assert main(["check", str(kit), str(answers)]) == 0
    out = " ".join(capsys.readouterr().out.split())
    skipped = out.partition("Skipped as unsupported: ")[2]
    assert "plain/conv" in skipped and "/addressing" in skipped
    assert "Not in the kit: unsupported plain/adressing" in out


def test_a_port_that_supports_nothing_is_refused(kit, tmp_path, capsys):
    ops = {case.op for case in read_kit(kit).vectors.cases}
    (tmp_path / "unsupported").write_text("\n".join(ops), encoding="utf-8")
    with pytest.raises(SystemExit) as stop:
        main(["check", str(kit), str(tmp_path)])
    assert stop.value.code == 2 and "cases to judge: expected at least one" in capsys.readouterr().err


@pytest.mark.parametrize(("arguments", "said"), [
    (["check"], "two folders"), (["check", "{kit}"], "two folders"), (["check", "{kit}", "{kit}"], "outside the kit"),
    (["check", "nowhere", "{right}"], "nowhere"), (["check", "{kit}", "nowhere"], "nowhere"),
    (["check", "{right}", "{kit}"], "manifest.json"), (["check", "--explain", "windo-late"], "window-late"),
    (["check", "--list", "{kit}", "{right}"], "no other argument"), (["check", "--explain", "a", "--list"], "no other"),
    (["check", "{kit}", "{right}", "--verdict", "nowhere/verdict.json"], "existing folder"),
    (["check", "{kit}", "{right}", "--verdict", "{kit}/manifest.json"], "a file outside KIT and RESULTS"),
    (["check", "{kit}", "{right}", "--verdict", "{right}/silu/verdict.json"], "a file outside KIT and RESULTS"),
])
def test_bad_usage_is_one_line(kit, right, capsys, arguments, said):
    with pytest.raises(SystemExit) as stop:
        main([argument.format(kit=kit, right=right) for argument in arguments])
    error = capsys.readouterr().err
    assert stop.value.code == 2 and said in error and len(error.splitlines()) == 1


def test_control_characters_of_a_file_name_are_escaped(kit, tmp_path, capsys):
    (tmp_path / "silu\x1b[31m").write_bytes(b"")
    with pytest.raises(SystemExit):
        main(["check", str(kit), str(tmp_path)])
    assert "silu\\x1b[31m" in capsys.readouterr().err


def test_explain_and_list(capsys):
    assert main(["check", "--explain", "window-late"]) == 0
    assert BUGS["window-late"].symptom.split()[0] in capsys.readouterr().out
    assert main(["check", "--explain", "window-late", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["name"] == "window-late"
    assert main(["check", "--list"]) == 0
    assert len(capsys.readouterr().out.splitlines()) >= len(BUGS)
    assert main(["check", "--list", "--json"]) == 0
    assert sorted(json.loads(capsys.readouterr().out)) == ["bugs", "survivors"]
