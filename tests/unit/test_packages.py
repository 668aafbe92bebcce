"""Absent packages are reported as not installed, broken ones with the reason why the import failed."""

import json
import os
import subprocess
import sys

import pytest

from engram_ref.errors import InputError
from engram_ref.packages import import_failure, require

REASON = "Needs NumPy 2.3 or less.\n\n    Got NumPy 2.4."
MESSAGE = "Needs NumPy 2.3 or less. Got NumPy 2.4."


@pytest.fixture
def broken(tmp_path, monkeypatch):
    """Return a function that makes a package which raises on import, here and in child processes."""

    def make(name, error=f"ImportError({REASON!r})"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(f"raise {error}", encoding="utf-8")

    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(tmp_path), *sys.path])))
    return make


@pytest.mark.parametrize("error, message", [
    (f"ImportError({REASON!r})", f"ImportError: {MESSAGE}"),
    ("OSError('libx.so: cannot open shared object file')", "OSError: libx.so: cannot open shared object file"),
    ("ModuleNotFoundError(\"No module named 'llvmlite'\", name='llvmlite')",
     "ModuleNotFoundError: No module named 'llvmlite'"),
    ("SystemError('built for another Python')", "SystemError: built for another Python"),
], ids=["import error", "shared library", "its own dependency", "other error"])
def test_a_broken_package_is_not_reported_as_missing(broken, error, message):
    broken("fragile", error)
    assert import_failure("fragile") == f"cannot be imported: {message}"
    for module in ("fragile", "fragile.part"):
        with pytest.raises(InputError) as caught:
            require(module, "this test", otherwise="nothing works")
        assert str(caught.value) == ("this test: expected an installed package fragile, found one that "
                                     f"cannot be imported: {message} (nothing works)")


def test_a_missing_package_has_an_install_hint():
    with pytest.raises(InputError, match=r"found none \(pip install no_such_thing\)"):
        require("no_such_thing.part", "this test")
    with pytest.raises(InputError, match=r"found one that cannot be imported: .*json\.no_such_part"):
        require("json.no_such_part", "this test")


COMMANDS = {
    "numba": ["verify", "--backend", "numba"],
    "torch": ["verify", "--backend", "torch"],
    "tokenizers": ["ids", "x"],
    "safetensors": ["verify"],
    "matplotlib": ["walk", "--plot", "x.svg"],
    "ml_dtypes": ["presets"],
    "numpy": ["presets"],
}
EVERYWHERE = ("numpy", "ml_dtypes", "safetensors")      # imported unconditionally; Python's own error is printed


@pytest.mark.parametrize("package", COMMANDS)
def test_a_command_with_a_broken_package_prints_one_line(broken, package, tmp_path):
    broken(package)
    done = subprocess.run([sys.executable, "-m", "engram_ref", *COMMANDS[package]], capture_output=True, text=True,
                          cwd=tmp_path)
    assert done.returncode == 2 and done.stdout == "" and done.stderr.count("\n") == 1
    assert MESSAGE in done.stderr and "not installed" not in done.stderr and not (tmp_path / "x.svg").exists()
    assert package in EVERYWHERE or f"package {package}, found one that cannot be imported: " in done.stderr


def test_doctor_imports_every_package(broken):
    broken("tokenizers")
    broken("numba", "OSError('libllvm.so: cannot open shared object file: ' + 'no such file or folder ' * 3)")
    run = [sys.executable, "-m", "engram_ref", "doctor"]
    done = subprocess.run(run, capture_output=True, text=True, env=os.environ | {"COLUMNS": "80"})
    printed = " ".join(done.stdout.split())
    assert done.returncode == 1 and max(map(len, done.stdout.splitlines())) <= 80
    assert f"tokenizers cannot be imported: ImportError: {MESSAGE}" in printed and "numba broken" in printed
    assert "numba cannot be imported: OSError: libllvm.so" in printed and "numpy works" in printed
    result = json.loads(subprocess.run([*run, "--json"], capture_output=True, text=True).stdout)
    assert set(result["broken"]) == {"tokenizers", "numba"} and not result["whole"]
    assert result["backends"]["numpy"] and not result["backends"]["numba"]


def test_doctor_succeeds_without_an_optional_package():
    code = ("import sys; sys.modules['torch'] = None\n"
            "from engram_ref.cli.main import main\nsys.exit(main(['doctor', '--json']))")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0 and json.loads(done.stdout)["backends"]["torch"] is False


def test_a_broken_triton_is_reported_only_if_used(broken):
    pytest.importorskip("torch", reason="torch is not installed")
    broken("triton")
    code = "from engram_ref.backends.torch import kernels; kernels.available('cpu')"
    unused, used = (subprocess.run([sys.executable, "-c", code], capture_output=True, text=True,
                                   env=os.environ | {"TRITON_INTERPRET": flag}) for flag in ("0", "1"))
    assert unused.returncode == 0, unused.stderr
    assert used.returncode == 1 and f"one that cannot be imported: ImportError: {MESSAGE}" in used.stderr


def test_bench_states_why_torch_is_unavailable(broken, monkeypatch):
    pytest.importorskip("numba", reason="numba is not installed")
    from engram_ref.bench.setting import without_torch

    without_torch.cache_clear()
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    broken("torch")
    assert without_torch() == f"torch cannot be imported: ImportError: {MESSAGE}"
    monkeypatch.setitem(sys.modules, "torch", None)
    without_torch.cache_clear()
    assert without_torch() == "needs torch"
    without_torch.cache_clear()
