"""The compile cache on disk: any process can load it, and it has no outdated or incomplete files."""

import ast
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import engram_ref
from engram_ref import InputError

pytest.importorskip("numba", reason="numba is not installed")
from numba import config, njit

from engram_ref.backends.numba import _cache

PACKAGE = Path(engram_ref.__file__).parent
needs_the_jit = pytest.mark.skipif(config.DISABLE_JIT, reason="the JIT is disabled")

CALLS = """
import sys, numpy as np
from engram_ref.backends import numba as fast
from engram_ref.backends.numba import _cache, hashing, norm
x, primes = np.linspace(-1, 1, 37), np.array([4099, 4111, 4127, 4129, 4133, 4139, 4153, 4157])
for dtype in sys.argv[1:]:
    print(*fast.rms_norm(x.astype(dtype), np.ones(37, dtype), 1e-6).tolist())
print(*fast.table_rows(np.arange(-3, 3).reshape(1, 6, 1) * 2**57, primes).ravel().tolist())
kernels = (norm._norm, hashing._reduce)
print("hits", *(sum(kernel.stats.cache_hits.values()) for kernel in kernels))
print("misses", *(sum(kernel.stats.cache_misses.values()) for kernel in kernels))
"""
"""Call a kernel with intrinsics and one with a named tuple; print the results and the numbers of hits and misses."""


def start(folder, *dtypes):
    environment = os.environ | {"ENGRAM_REF_JIT_CACHE": str(folder)}
    return subprocess.Popen([sys.executable, "-c", CALLS, *dtypes], env=environment, text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def printed(process):
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0 and err == "", err
    *answers, hits, misses = out.splitlines()
    return sorted(answers), hits, misses


@needs_the_jit
def test_concurrent_processes_share_one_cache(tmp_path):
    orders = (("float32", "float64"), ("float64", "float32")) * 2
    together = [printed(process) for process in [start(tmp_path / "new" / "folder", *order) for order in orders]]
    answers, hits, misses = printed(start(tmp_path / "new" / "folder", "float64", "float32"))
    assert {tuple(a) for a, _, _ in together} == {tuple(answers)}
    assert (hits, misses) == ("hits 2 1", "misses 0 0")
    [folder] = (tmp_path / "new" / "folder").iterdir()
    names = [path.name for path in folder.iterdir()]
    assert sum(name.startswith("norm._norm-") for name in names) == 2
    assert all(name.endswith(".nbc") for name in names), "temporary files are gone"


def changed(path, old="import", new="import "):
    path.write_text(path.read_text(encoding="utf-8").replace(old, new, 1), encoding="utf-8")


CHANGES = {
    "a callee in another module": lambda root: changed(root / "backends" / "numba" / "vectors" / "sums.py"),
    "a constant of the definition": lambda root: changed(root / "ops" / "gate.py", "ROOT_CLAMP = ", "ROOT_CLAMP = 2*"),
    "a new file": lambda root: (root / "backends" / "numba" / "vectors" / "new.py").touch(),
    "a renamed file": lambda root: (root / "ops" / "gate.py").rename(root / "ops" / "gates.py"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_source_changes_the_digest(tmp_path, change):
    for name in _cache.SOURCES:
        shutil.copytree(PACKAGE / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    before = _cache.digest_of(tmp_path)
    assert before == _cache.digest_of(PACKAGE)
    CHANGES[change](tmp_path)
    assert _cache.digest_of(tmp_path) != before


def test_constants_in_kernels_come_from_the_digested_sources():
    digested = tuple(f"engram_ref.{name.replace('/', '.')}" for name in _cache.SOURCES)
    imports = [node for path in (PACKAGE / "backends" / "numba").rglob("*.py")
               for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.ImportFrom)]
    assert {f"{alias.name} from {node.module}" for node in imports for alias in node.names
            if alias.name.isupper() and node.module.startswith("engram_ref")
            and not node.module.startswith(digested)} == set()


def test_versions_and_settings_of_numba_are_part_of_the_digest(monkeypatch):
    before = _cache.facts()
    monkeypatch.setenv("NUMBA_BOUNDSCHECK", "1")
    assert _cache.facts() != before
    assert _cache.digest_of(PACKAGE, before) != _cache.digest_of(PACKAGE, _cache.facts())


def twice(x):
    return 2 * x


def compiled(folder):
    """Whether a new dispatcher of `twice` compiles it instead of loading it."""
    dispatcher = njit(twice)
    dispatcher._cache = _cache.Kernels(twice, folder)
    assert dispatcher(21) == 42
    return sum(dispatcher.stats.cache_misses.values()) == 1


@needs_the_jit
@pytest.mark.parametrize("damage", ["truncated", "empty", "one bit", "of another signature"])
def test_a_damaged_file_is_replaced(tmp_path, damage):
    assert compiled(tmp_path) and not compiled(tmp_path)
    [path] = tmp_path.iterdir()
    data = path.read_bytes()
    if damage == "of another signature":
        njit_of_float = njit(twice)
        njit_of_float._cache = _cache.Kernels(twice, tmp_path)
        njit_of_float(0.5)
        [other] = set(tmp_path.iterdir()) - {path}
        other.replace(path)
    else:
        path.write_bytes({"truncated": data[:-9], "empty": b"", "one bit": data[:99] + b"?" + data[100:]}[damage])
    assert compiled(tmp_path) and not compiled(tmp_path)


@needs_the_jit
def test_a_kernel_that_cannot_be_cached_runs_with_a_warning(tmp_path):
    with pytest.warns(UserWarning, match=r"was not cached: file .*expected an existing folder"):
        assert compiled(tmp_path / "removed")


@pytest.mark.parametrize("named", ["file", "file/below", "zero\0byte"])
def test_an_unusable_cache_folder_raises(tmp_path, named):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="ENGRAM_REF_JIT_CACHE: expected a writable folder"):
        _cache.open_folder(str(tmp_path / named))


def test_a_cache_folder_owned_by_another_user_raises(tmp_path, monkeypatch):
    folder = _cache.open_folder(str(tmp_path))
    assert folder.parent == tmp_path and folder.stat().st_mode & 0o077 == 0
    monkeypatch.setattr(os, "getuid", lambda: folder.stat().st_uid + 1)
    with pytest.raises(InputError, match=r"ENGRAM_REF_JIT_CACHE: .*belongs to a different user"):
        _cache.open_folder(str(tmp_path))


@needs_the_jit
def test_kernels_with_the_same_name_are_distinguished(monkeypatch, tmp_path):
    """Different closures can have the same name."""
    monkeypatch.setattr(_cache, "FOLDER", tmp_path)

    def times(factor):
        def kernel(x):
            return factor * x

        return _cache.cached(njit(kernel))

    assert [times(factor)(7) for factor in (2, 3)] == [14, 21]


def test_the_cache_is_off_by_default():
    assert _cache.FOLDER is None or os.environ["ENGRAM_REF_JIT_CACHE"]
