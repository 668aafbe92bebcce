"""The site's tools are in scripts/, outside the package. The built site is shared by all tests that open it."""

import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "scripts" / "site"), str(ROOT / "scripts")]
collect_ignore = ["sample"]                        # scripts to be rendered, not tests


def build(out: Path, tutorials: str) -> subprocess.CompletedProcess:
    """Build the site strictly, with the tutorials of these folders."""
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(out)]
    environment = {**os.environ, "ENGRAM_TUTORIALS": tutorials, "NO_MKDOCS_2_WARNING": "1"}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)


@pytest.fixture(scope="session")
def site(tmp_path_factory):
    """The site with the sample tutorial before the real ones: ENGRAM_REF_SITE if set, else built once per test run."""
    if "ENGRAM_REF_SITE" in os.environ:
        return Path(os.environ["ENGRAM_REF_SITE"])
    for name in ("mkdocs", "material", "mkdocstrings", "pymdownx", "ziamath"):
        pytest.importorskip(name, reason=f"the docs extra is not installed ({name} is missing)")
    base = tmp_path_factory.getbasetemp()
    out = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "site"
    with open(f"{out}.lock", "w", encoding="utf-8") as lock:        # the other worker waits for the same build
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not Path(f"{out}.built").exists():
            done = build(out, f"{ROOT / 'tests/docs/sample'}{os.pathsep}{ROOT / 'tutorials'}")
            assert done.returncode == 0, done.stdout + done.stderr
            Path(f"{out}.built").touch()
    return out
