"""A port in C that reads the plain form of a kit: it agrees with every case, and seven mistakes in it are named."""

import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from unittest import mock

import pytest

from engram_ref.oracle.check.answers import read_answers
from engram_ref.oracle.check.report import verdict_of
from engram_ref.oracle.kit.read import read_kit
from engram_ref.oracle.kit.write import write_kit
from engram_ref.oracle.vectors import read

SOURCES = Path(__file__).parent / "c"
OPS = re.findall(r'\{"(\w+)", run_', (SOURCES / "port.c").read_text(encoding="utf-8"))
COMPILER = shutil.which("cc") or shutil.which("gcc")
FLAGS = ("-std=c99", "-Wall", "-Wextra", "-pedantic", "-Werror")

BUGS = {1: "window-one-back", 2: "lt-for-copysign", 3: "e8m0-zero", 4: "eps-1e-5", 5: "history-lost-T1",
        6: "taps-ignored-T1", 7: "taps-reversed"}
"""Value of the macro BUG -> name in the catalogue."""

pytestmark = pytest.mark.skipif(COMPILER is None, reason="no C compiler")


@pytest.fixture(scope="module")
def kit(tmp_path_factory):
    """A kit with the golden cases of the port's ops, and of one op that it does not have."""
    vectors, folder = read(), tmp_path_factory.mktemp("kit") / "kit"
    few = replace(vectors, cases=tuple(case for case in vectors.cases if case.op in (*OPS, "silu")))
    with mock.patch("engram_ref.oracle.kit.write.kit_cases", lambda *_: few):
        write_kit(folder)
    return folder


def compiled(kit, folder, source, *options):
    """Compile a program with the header of the kit and return its path."""
    command = [COMPILER, *FLAGS, *options, "-I", kit, "-o", folder / "port", SOURCES / source, "-lm"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0 and done.stderr == "", done.stderr
    return folder / "port"


def judged(kit, folder, *options):
    """Compile the port, run it on the kit, and return the verdict."""
    done = subprocess.run([compiled(kit, folder, "port.c", *options), kit, folder / "results"], capture_output=True,
                          text=True)
    assert done.returncode == 0 and done.stderr == "", done.stderr
    return verdict_of(read_kit(kit), read_answers(folder / "results", kit))


def test_the_port_agrees_with_every_case(kit, tmp_path):
    """It runs with sanitizers, and leaks nothing."""
    verdict = judged(kit, tmp_path, "-O2", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
    assert not verdict.failures and not verdict.unknown
    assert {case.op for case in verdict.skipped} == {"silu"} and len(OPS) == 9
    assert {verdict.cases[name].op for name in verdict.results} == set(OPS) and len(verdict.results) > 100
    assert sum(case.result == "invalid" for case in verdict.cases.values()) == 3


@pytest.mark.parametrize("bug", BUGS)
def test_a_mistake_is_named(kit, tmp_path, bug):
    verdict = judged(kit, tmp_path, "-O1", f"-DBUG={bug}")
    assert verdict.failures and verdict.diagnosis.names == (BUGS[bug],), verdict.diagnosis.lines


def code_of(path):
    """The lines of a source file without blank lines and comments on lines of their own."""
    return [line for line in path.read_text(encoding="utf-8").splitlines()
            if line.strip() and not line.startswith("/*")]


def test_a_port_of_rows_and_gate_needs_a_short_runner(kit, tmp_path):
    """The runner of three ops, together with the part of kit.h that reads, has less than 120 lines of code."""
    done = subprocess.run([compiled(kit, tmp_path, "rows_and_gate.c", "-O1"), kit, tmp_path / "results"])
    verdict = verdict_of(read_kit(kit), read_answers(tmp_path / "results", kit))
    assert done.returncode == 0 and not verdict.failures
    assert {verdict.cases[name].op for name in verdict.results} == {"address", "gate", "rms_norm"}
    runner = [*code_of(SOURCES / "ops.h"), *code_of(SOURCES / "rows_and_gate.c")]
    reader = code_of(kit / "kit.h")
    reader = reader[: reader.index("Line *find(const char *word, const char *name) {")]
    assert len(runner) + len(reader) < 120
    assert len((SOURCES / "port.c").read_text(encoding="utf-8").splitlines()) <= 250


def test_the_programs_report_wrong_usage(kit, tmp_path):
    port = compiled(kit, tmp_path, "port.c", "-O1")
    for arguments, code in (((), 2), (("nowhere", tmp_path / "results"), 2), ((kit, tmp_path / "no" / "where"), 2)):
        done = subprocess.run([port, *arguments], capture_output=True, text=True)
        assert done.returncode == code and done.stderr.count("\n") == 1
