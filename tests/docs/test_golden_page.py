"""The pages about golden vectors: their code runs, and their tables match the package."""

import hashlib
import json
import re
from pathlib import Path

import numpy as np
import pytest

from engram_ref.backends import load, replace
from engram_ref.ops import silu
from engram_ref.oracle.compare import CLASSES
from engram_ref.oracle.flags import FLAGS
from engram_ref.oracle.folder import INTEGERS, MANIFEST, SUMS
from engram_ref.oracle.run import RUNNERS, adapter_of
from engram_ref.oracle.vectors import GOLDEN, read
from engram_ref.oracle.verify import verify_case
from scripts.builders.planned import NOT_BF16

DOCS = Path(__file__).parents[2] / "docs"
FORMAT = (DOCS / "reference" / "golden.md").read_text(encoding="utf-8")
PORT = (DOCS / "oracle" / "test-your-port.md").read_text(encoding="utf-8")


def manifest():
    return json.loads((GOLDEN / MANIFEST).read_bytes())


def table_after(heading):
    """The rows of the first table below a line, as {first cell: second cell}."""
    below = FORMAT.split(heading, 1)[1]
    lines = re.search(r"(?:^\|.*\n?)+", below, re.M)[0].splitlines()[2:]
    cells = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]
    return {row[0].strip("` "): row[1] for row in cells}


def run_block(text, my_silu):
    [block] = re.findall(r"```python\n(.*?)```", text, re.S)
    exec(compile(block, "page", "exec"), {"my_silu": my_silu})


def test_the_python_port_example_works(capsys):
    run_block(PORT, silu)
    assert capsys.readouterr().out == ""
    run_block(PORT, lambda x: np.maximum(x, 0))
    wrong = capsys.readouterr().out
    assert wrong.startswith("First difference: case silu/edges, stage output: ")
    assert {"silu", "conv_silu", "engram", "forward"} <= set(re.findall(r"^First difference: case (\w+)/", wrong, re.M))


def test_the_tensor_port_example_works():
    torch, vectors = pytest.importorskip("torch"), read()
    mine = replace(load("torch"), silu=lambda x: torch.nn.functional.silu(x))
    results = [verify_case(case, vectors, mine, adapter_of(mine), traced=False) for case in vectors.cases
               if case.op in ("silu", "conv_silu")]
    assert results and [str(result) for result in results if not result.ok] == []


def test_a_replaced_composition_must_record_its_stages():
    numpy, vectors = load("numpy"), read()

    def gated_conv(parameters, gated, taps, config, record=None):
        return numpy.gated_conv(parameters, gated, taps, config)

    mine = replace(numpy, gated_conv=gated_conv)
    case = next(case for case in vectors.cases if case.op == "engram")
    plain, traced = (verify_case(case, vectors, mine, adapter_of(mine), traced) for traced in (False, True))
    assert plain.ok and traced.stage == "conv_norm" and "found none" in str(traced)


def test_every_flag_is_on_the_page_with_its_meaning():
    assert table_after("## Flags") == FLAGS
    assert set(re.findall(r"`([a-z-]+)`:", PORT.split("**The flags")[1])) <= set(FLAGS)


def test_every_field_of_a_case_is_described():
    cases = manifest()["cases"]
    assert set(table_after("## A case")) == {field for case in cases for field in case}
    assert set(table_after("Some ops are not plain functions")) == set(RUNNERS) & {case["op"] for case in cases}


def test_every_tolerance_class_in_use_is_described():
    used = {stage.tolerance_class for case in read().cases for stage in case.stages}
    assert table_after("## Tolerances") == CLASSES == manifest()["classes"] and set(CLASSES) == used


def test_every_null_field_of_a_configuration_is_explained():
    def nulls(entry):
        for field, value in entry["values"].items():
            yield from nulls(value) if isinstance(value, dict) else ([field] if value is None else [])

    explained = {field.strip("` ") for row in table_after("`null` means") for field in row.split(",")}
    found = {field for entry in manifest()["configurations"].values() for field in nulls(entry)}
    assert found <= explained


def test_every_step_is_described():
    written = {step for case in read().cases if case.op.endswith("_stream") for _, step, *_ in case.arguments["steps"]}
    assert set(re.findall(r'\[stream, "(\w+)"', " ".join(table_after("## Streams")))) == written


def test_every_state_and_dtype_is_described():
    outputs = table_after("The stages of a step")
    assert {op: name.strip("` ").split(".")[1] for op, name in outputs.items()} == {
        case.op: case.outputs[0].split(".", 1)[1] for case in read().cases if "one-by-one" in case.name}
    states = {word for case in read().cases for word in re.findall(r"(history|taps)$", "\n".join(case.outputs), re.M)}
    assert all(f"`3.{state}`" in FORMAT and f"`3.layers.1.{state}`" in FORMAT for state in states) and len(states) == 2
    entries = json.loads((GOLDEN / INTEGERS).read_text(encoding="utf-8")).values()
    dtypes = {word.strip("` ") for cell in table_after("In `integers.json`") for word in cell.split(",")}
    assert dtypes == {entry["dtype"] for entry in entries}


def test_the_exceptions_from_bfloat16_are_listed():
    rows = table_after("**Numbers of bfloat16.**")
    assert {name.strip("` ") for cell in rows for name in cell.split(",")} == set(NOT_BF16)


def test_the_digests_cover_all_files():
    lines = (GOLDEN / SUMS).read_text(encoding="utf-8").splitlines()
    assert {line[66:]: line[:64] for line in lines} == {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in GOLDEN.iterdir() if path.name != SUMS}


def test_every_kind_of_argument_is_described():
    kinds = set(table_after("An argument is"))
    assert {re.match(r'\{?"?(\w+)', kind)[1] for kind in kinds} == {
        "array", "parameters", "tuple", "dtype", "configuration"}
