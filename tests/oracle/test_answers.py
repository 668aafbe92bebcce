"""Reading answers: every form, and every kind of bad input as one InputError."""

import io
import json
import os
import struct

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save

from engram_ref.errors import InputError
from engram_ref.oracle.check import answers as reading
from engram_ref.oracle.check.answers import read_answers


def write(path, data=b""):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("word", reading.DTYPES)
def test_raw_files_of_every_dtype(tmp_path, word):
    array = np.arange(6).astype(reading.DTYPES[word]).reshape(2, 3)
    write(tmp_path / "gate" / "edges" / f"layers.1.gate.{word}.2x3.bin", array.tobytes())
    write(tmp_path / "gate" / "edges" / f"scale.{word}.scalar.bin", array.tobytes()[: array.itemsize])
    write(tmp_path / "gate" / "edges" / f"nothing.{word}.0x3.bin")
    stages = read_answers(tmp_path).cases["gate/edges"]
    assert stages["layers.1.gate"].dtype == array.dtype and (stages["layers.1.gate"] == array).all()
    assert stages["scale"].shape == () and stages["nothing"].shape == (0, 3)


def test_npy_files(tmp_path):
    arrays = {"wide": np.ones((2, 1)), "narrow": np.ones(3, ml_dtypes.bfloat16), "none": np.ones((0, 2))}
    for name, array in arrays.items():
        (tmp_path / "silu" / "x").mkdir(parents=True, exist_ok=True)
        np.save(tmp_path / "silu" / "x" / f"{name}.npy", array)
    stages = read_answers(tmp_path).cases["silu/x"]
    assert stages["narrow"].dtype == ml_dtypes.bfloat16 and stages["wide"].shape == (2, 1) and stages["none"].size == 0


def test_safetensors_and_json(tmp_path):
    write(tmp_path / "a.safetensors", save({"silu/x=output": np.ones(2, np.float16)}))
    header = json.dumps({"silu/y=output": {"dtype": "BF16", "shape": [1], "data_offsets": [0, 2]}}).encode()
    write(tmp_path / "b.safetensors", struct.pack("<Q", len(header)) + header + b"\x80\x3f")
    entries = {"silu/z": {"output": {"dtype": "f32", "shape": [2], "values": [0.5, float("nan")]}},
               "normalise/z": {"output": {"dtype": "str", "shape": [], "values": "cafe"}}, "silu/no": {"refused": True}}
    write(tmp_path / "answers.json", json.dumps(entries).encode())
    write(tmp_path / "unsupported", b"plain/module\n\nforward \n")
    answers = read_answers(tmp_path)
    assert answers.cases["silu/x"]["output"].dtype == np.float16 and answers.unsupported == ("plain/module", "forward")
    assert answers.cases["silu/y"]["output"].astype(float).tolist() == [1.0] and "refused" in answers.cases["silu/no"]
    assert np.isnan(answers.cases["silu/z"]["output"][1]) and answers.cases["normalise/z"]["output"].item() == "cafe"


def test_a_refused_case(tmp_path):
    write(tmp_path / "silu" / "x" / "refused")
    assert list(read_answers(tmp_path).cases["silu/x"]) == ["refused"]


def npy(array):
    np.save(stream := io.BytesIO(), array)
    return stream.getvalue()


def entry(dtype, values, shape=(1,)):
    return json.dumps({"silu/x": {"output": {"dtype": dtype, "shape": shape, "values": values}}}).encode()


BAD = {
    "truncated": ("silu/x/output.f32.2x3.bin", b"\0" * 23),
    "a blob that announces 10 GB": ("silu/x/output.f64.1250000000.bin", b"\0" * 8),
    "an unknown dtype": ("silu/x/output.f8.2.bin", b"\0" * 2),
    "no shape": ("silu/x/output.bin", b""),
    "a file at the wrong depth": ("silu/output.f32.1.bin", b"\0" * 4),
    "a deep folder": ("silu/x/y/output.f32.1.bin", b"\0" * 4),
    "a truncated npy": ("silu/x/output.npy", b"\x93NUMPY\x01\x00v\x00{'descr': '<f8', 'fortran_order': False, 'shape': "
                        b"(1250000000,), }" + b" " * 44 + b"\n" + b"\0" * 8),
    "a pickle": ("silu/x/output.npy", b"\x80\x04N."),
    "a truncated safetensors file": ("a.safetensors", b"\xff" * 8),
    "a key without a stage": ("a.safetensors", save({"silu/x": np.ones(1)})),
    "broken JSON": ("answers.json", b"{"),
    "JSON of a different form": ("answers.json", b"[1]"),
    "JSON with too few values": ("answers.json",
                                 b'{"silu/x": {"output": {"dtype": "f32", "shape": [3], "values": [1]}}}'),
    "deep JSON": ("answers.json", b"[" * 100_000),
    "an npy with more data": ("silu/x/output.npy", npy(np.ones(2)) + bytes(8)),
    "an npz": ("silu/x/output.npy", b"PK\x03\x04"),
    "a case twice": ("answers.json", b'{"silu/x": {}, "silu/x": {}}'),
    "a stage twice": ("answers.json", b'{"silu/x": {"output": {}, "output": {}}}'),
    "a fraction for an integer": ("answers.json", entry("i64", [1.5])),
    "a large integer as a fraction": ("answers.json", entry("i64", [2.0**53])),
    "a number as text": ("answers.json", entry("f32", ["1"])),
    "null for a number": ("answers.json", entry("f32", [None])),
    "a boolean as text": ("answers.json", entry("bool", ["false"])),
    "a number for text": ("answers.json", entry("str", [1])),
    "a shape to be guessed": ("answers.json", entry("f32", [1], [-1])),
    "no shape in JSON": ("answers.json", entry("f32", [1], None)),
    "no fields": ("answers.json", b'{"silu/x": {"output": {}}}'),
    "not refused": ("answers.json", b'{"silu/x": {"refused": false}}'),
    "answered and refused": ("answers.json",
                             entry("f32", [1]).replace(b'"silu/x": {', b'"silu/x": {"refused": true, ')),
}


@pytest.mark.parametrize("bad", BAD)
def test_bad_files(tmp_path, bad):
    name, data = BAD[bad]
    write(tmp_path / name, data)
    with pytest.raises(InputError, match=name.rpartition("/")[2].split(".")[0]):
        read_answers(tmp_path)


def test_a_number_out_of_range_is_infinite(tmp_path):
    write(tmp_path / "answers.json", entry("f32", [1e300]))
    assert read_answers(tmp_path).cases["silu/x"]["output"].tolist() == [np.inf]


def test_an_editor_may_start_the_list_with_a_byte_order_mark(tmp_path):
    write(tmp_path / "unsupported", b"\xef\xbb\xbfplain/module\r\nforward\r\n")
    assert read_answers(tmp_path).unsupported == ("plain/module", "forward")


def test_a_file_is_no_folder(tmp_path):
    with pytest.raises(InputError, match="found a file"):
        read_answers(write(tmp_path / "answers"))


def test_two_answers_to_one_stage(tmp_path):
    write(tmp_path / "silu" / "x" / "output.f32.1.bin", b"\0" * 4)
    write(tmp_path / "silu" / "x" / "output.f64.1.bin", b"\0" * 8)
    with pytest.raises(InputError, match="second"):
        read_answers(tmp_path)


def test_links_and_special_files_are_not_opened(tmp_path):
    secret = write(tmp_path / "outside", b"\0" * 4)
    for link, target in ((tmp_path / "a" / "x" / "y" / "output.f32.1.bin", secret), (tmp_path / "b" / "x", tmp_path)):
        link.parent.mkdir(parents=True)
        link.symlink_to(target)
        with pytest.raises(InputError, match="link"):
            read_answers(tmp_path / link.relative_to(tmp_path).parts[0])
    (tmp_path / "c" / "x" / "y").mkdir(parents=True)
    os.mkfifo(tmp_path / "c" / "x" / "y" / "output.f32.1.bin")
    with pytest.raises(InputError, match="special"):
        read_answers(tmp_path / "c")


def test_limits_are_checked_before_reading(tmp_path, monkeypatch):
    with open(write(tmp_path / "silu" / "x" / "output.f64.1250000000.bin"), "r+b") as file:
        file.truncate(10**10)
    with pytest.raises(InputError, match="10,000,000,000 bytes"):
        read_answers(tmp_path)
    monkeypatch.setattr(reading, "MAX_FILES", 2)
    for i in range(3):
        write(tmp_path / "many" / "silu" / f"{i}" / "refused")
    with pytest.raises(InputError, match="files"):
        read_answers(tmp_path / "many")


def test_results_and_kit_must_be_apart(tmp_path):
    (tmp_path / "kit" / "results").mkdir(parents=True)
    for results, kit in (("kit/results", "kit"), ("kit", "kit"), ("kit", "kit/results")):
        with pytest.raises(InputError, match="outside the kit"):
            read_answers(tmp_path / results, tmp_path / kit)
    with pytest.raises(InputError, match="existing folder"):
        read_answers(tmp_path / "nowhere")
