"""The pytest plugin: cases as parameters, a kit as a fixture, and no cost for other tests."""

import os
import subprocess
import sys

import pytest

from engram_ref import InputError, ops, pytest_plugin
from engram_ref.oracle.kit import write
from engram_ref.oracle.vectors import read
from engram_ref.testing import PortCase, port_cases
from tests.kits import write_few

PORT = """import pytest
from engram_ref import ops

@pytest.mark.engram({names})
def test_port(engram_case):
    engram_case.check({port})
"""
RIGHT, WRONG = "getattr(ops, engram_case.op)", "lambda **arguments: ops.silu(**arguments) * 1.001"


def run_pytest(folder, *options):
    """Run pytest in a folder with no plugin but ours, which may not be installed yet."""
    environment = os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTEST_ADDOPTS": ""}
    plugins = ["-p", "engram_ref.pytest_plugin", "-p", "no:cacheprovider"]
    return subprocess.run([sys.executable, "-m", "pytest", "-q", *plugins, *options], cwd=folder, env=environment,
                          capture_output=True, text=True)


def outcome_of(folder, names, port, *options):
    (folder / "test_port.py").write_text(PORT.format(names=names, port=port), encoding="utf-8")
    return run_pytest(folder, *options)


def test_a_right_port_passes(tmp_path):
    done = outcome_of(tmp_path, '"silu", "plain/gate"', RIGHT, "--strict-markers", "-vv")
    assert done.returncode == 0, done.stdout
    assert "test_port[silu/" in done.stdout and "test_port[gate/" in done.stdout and "rms_norm" not in done.stdout


def test_a_wrong_port_fails_with_an_explanation(tmp_path):
    done = outcome_of(tmp_path, '"silu"', WRONG)
    assert done.returncode == 1 and "First difference: case silu/" in done.stdout and "no known bug" in done.stdout


def test_an_unknown_name_is_a_usage_error(tmp_path):
    done = outcome_of(tmp_path, '"silo"', RIGHT)
    assert done.returncode != 0 and "did you mean silu?" in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr


def test_other_tests_load_nothing(tmp_path):
    (tmp_path / "test_other.py").write_text(
        "import sys\n\ndef test_other():\n    assert 'numpy' not in sys.modules\n"
        "    assert [name for name in sys.modules if name.startswith('engram_ref.')] == ['engram_ref.pytest_plugin']\n",
        encoding="utf-8")
    done = run_pytest(tmp_path)
    assert done.returncode == 0, done.stdout


def test_a_kit_is_read(tmp_path):
    kit = write_few(tmp_path / "kit")
    done = outcome_of(tmp_path, '"silu", "windows"', RIGHT, "--engram-kit", str(kit))
    assert done.returncode == 0 and "2 passed" in done.stdout, done.stdout
    (tmp_path / "test_kit.py").write_text(
        "def test_kit(engram_kit):\n    assert (engram_kit / 'manifest.json').exists()\n", encoding="utf-8")
    assert run_pytest(tmp_path, "--engram-kit", str(kit), "test_kit.py").returncode == 0
    (kit / "manifest.json").write_bytes(b"{}")
    done = outcome_of(tmp_path, '"silu"', RIGHT, "--engram-kit", str(kit))
    assert done.returncode != 0 and "manifest.json" in done.stdout + done.stderr


def test_a_kit_that_does_not_exist_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr(write, "write_kit", lambda folder: folder.mkdir())
    assert pytest_plugin.written(tmp_path / "kit") == tmp_path / "kit" and (tmp_path / "kit").is_dir()
    monkeypatch.setattr(write, "write_kit", None)
    pytest_plugin.written(tmp_path / "kit")


def test_workers_of_xdist_write_no_kit(tmp_path):
    class Config:
        addinivalue_line = lambda *_: None
        getoption = lambda *_: tmp_path / "missing" / "kit"

    with pytest.raises(pytest.UsageError, match="expected an existing folder"):
        pytest_plugin.pytest_configure(Config())
    Config.workerinput = {}
    pytest_plugin.pytest_configure(Config())


# port_cases and PortCase

def test_cases_by_op_and_group():
    cases = port_cases("silu", "solved/gate")
    assert {each.op for each in cases} == {"silu", "gate"}
    assert len(port_cases()) == len(read().cases)
    assert all(isinstance(each, PortCase) for each in cases)


def test_every_case_of_small_ops_accepts_the_definition():
    for each in port_cases("plain/gate", "solved/gate", "plain/norm", "plain/codecs", "plain/hashing"):
        each.check(getattr(ops, each.op))


@pytest.mark.parametrize("port, message", {
    "returns None": (lambda **arguments: None, "it returned None"),
    "raises": (lambda **arguments: 1 / 0, "the port raised ZeroDivisionError"),
    "other arguments": (lambda x: x, "the port raised TypeError"),
}.values(), ids=["None", "exception", "arguments"])
def test_unusable_ports(port, message):
    with pytest.raises(AssertionError, match=message):
        port_cases("gate")[0].check(port)


def test_an_invalid_case_must_be_refused():
    invalid = [each for each in port_cases() if each.case.result == "invalid"]
    if not invalid:
        pytest.skip("no invalid case")

    def refuses(**arguments):
        raise ValueError("not an id")

    invalid[0].check(refuses)
    with pytest.raises(AssertionError, match="accepts invalid input"):
        invalid[0].check(lambda **arguments: 0)


def test_bad_names_and_folders(tmp_path):
    with pytest.raises(InputError, match="did you mean gate"):
        port_cases("gat")
    with pytest.raises(InputError, match=r"manifest\.json"):
        port_cases(kit=tmp_path)


def test_an_invalid_case_needs_converted_arguments():
    cases = [each for each in port_cases("addressing") if each.case.result == "invalid"]
    assert cases
    for each in cases:
        with pytest.raises(AssertionError, match="`to` raised"):
            each.check(lambda **arguments: None, to=lambda array: 1 / 0)
