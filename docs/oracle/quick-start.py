# %% [markdown]
# # Quick start: find a bug in five minutes
#
# A *port* is an implementation of Engram other than this package. This page tests one: a gate kernel with a bug that is
# hard to see. You write a kit, run the kernel on its cases, and read the verdict. All output below was produced by the
# code shown when this page was built. In a shell, the three commands are
#
#     engram-ref kit kit --dialect demo
#     engram-ref check kit answers
#     engram-ref check --explain NAME
#
# ## 1. Write a kit
#
# A [kit](kit.md) contains the specification, the constants, and cases with inputs and answers. Every case is a folder
# with a text file, `case.txt`, that names raw little-endian arrays, so a port in any language can read it.

# %%
import os
import tempfile
from pathlib import Path

import numpy as np

from engram_ref.cli.main import main

os.chdir(tempfile.mkdtemp())
main(["kit", "kit", "--dialect", "demo"])

# %%
print(Path("kit/cases/gate/signed_sqrt-edges/case.txt").read_text(encoding="utf-8"))

# %% [markdown]
# ## 2. The port
#
# The demo's gate is the sigmoid of sign(s) * sqrt(max(|s|, 1e-6)). This kernel computes it in float32. Can you see
# the bug?

# %%
def gate(s, dead):
    """s float32 [B, T, M], dead bool [B, T] or None -> float32 [B, T, M]."""
    root = np.copysign(np.sqrt(np.maximum(np.abs(s), np.float32(1e-6))), s)
    alpha = 0.5 + 0.5 * np.tanh(root / 2)                       # the sigmoid, without overflow
    return alpha if dead is None else np.where(dead[..., None], np.float32(0), alpha)


# %% [markdown]
# The harness reads `case.txt` line by line, and the arrays that it names. Answers go to a separate folder, with
# dtype and shape in the file name. The kernel supports one op; all others are listed in the file `unsupported`.

# %%
DTYPES = {"f64": "<f8", "f32": "<f4", "bool": "?"}


def read_case(folder):
    """Return the arguments of a case by name."""
    found = {"dead": None}
    for line in (folder / "case.txt").read_text(encoding="utf-8").splitlines():
        word, name, *rest = line.split(" ")
        if word == "argument":
            dtype, shape, path = rest
            found[name] = np.fromfile(Path("kit", path), DTYPES[dtype]).reshape([int(n) for n in shape.split("x")])
    return found


def run_port(kernel):
    """Write the answers of a kernel to all cases of the gate."""
    for folder in sorted(Path("kit/cases/gate").iterdir()):
        case = read_case(folder)
        alpha = kernel(case["s"].astype(np.float32), case["dead"])
        answers = Path("answers/gate", folder.name)
        answers.mkdir(parents=True, exist_ok=True)
        alpha.tofile(answers / f"output.f32.{'x'.join(map(str, alpha.shape))}.bin")


run_port(gate)
others = sorted(folder.name for folder in Path("kit/cases").iterdir() if folder.is_dir() and folder.name != "gate")
_ = Path("answers/unsupported").write_text("\n".join(others), encoding="utf-8")

# %% [markdown]
# ## 3. The verdict

# %%
code = main(["check", "kit", "answers"])
print("exit code", code)
assert code == 1

# %% [markdown]
# The report names the first case and stage that differ, the elements that are wrong, and the worst one with its
# input: a score of 0. Then it compares the answers with a catalogue of known bugs, and finds the one that gives the
# same numbers in every position. The command explains it:

# %%
main(["check", "--explain", "copysign-for-sign"])

# %% [markdown]
# ## 4. Fix it, and check again
#
# The answers of float32 ports differ from those of the kit by rounding. [Tolerances](tolerances.md)
# derives how large this difference may be, and why no order of summation fails.

# %%
def fixed_gate(s, dead):
    """s float32 [B, T, M], dead bool [B, T] or None -> float32 [B, T, M]."""
    root = np.sign(s) * np.sqrt(np.maximum(np.abs(s), np.float32(1e-6)))
    alpha = 0.5 + 0.5 * np.tanh(root / 2)                       # the sigmoid, without overflow
    return alpha if dead is None else np.where(dead[..., None], np.float32(0), alpha)


run_port(fixed_gate)
code = main(["check", "kit", "answers", "--verdict", "verdict.json"])
print("exit code", code)
assert code == 0

# %% [markdown]
# `verdict.json` records the kit's digest, the precision and the counts of each group. Equal answers give an equal file,
# so you can commit it. With `--all`, `check` shows every stage and every failed case.
#
# Next: [which cases fail for which bug](kill-matrix.md).
