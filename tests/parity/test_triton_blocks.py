"""Common parts of the kernels: availability, the elements of a program, and compilation for a GPU."""

import functools
import importlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import engram_ref
from engram_ref.errors import InputError

torch = pytest.importorskip("torch", reason="torch is not installed")
triton = pytest.importorskip("triton", reason="triton is not installed")
kernels = importlib.import_module("engram_ref.backends.torch.kernels")
blocks = importlib.import_module("engram_ref.backends.torch.kernels.blocks")

interpreted = pytest.mark.skipif(torch.cuda.is_available(), reason="the kernels are compiled, not interpreted")
ROOT = Path(engram_ref.__file__).parent.parent
COMPILE = """
import sys
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource, compile
from engram_ref.backends.torch.kernels.{file} import {kernel} as kernel

types, constants = {types}, {constants}
signature = {{name: types.get(name, "constexpr") for name in kernel.arg_names}}
aligned = {{(i,): [["tt.divisibility", 16]] for i, name in enumerate(signature) if signature[name].startswith("*")}}
compiled = compile(ASTSource(kernel, signature, constants, aligned), target=GPUTarget("cuda", 90, 32))
print(compiled.asm["ttir"], compiled.asm["ptx"], len(compiled.asm["cubin"]))
"""
INT64 = dict.fromkeys(("ids", "history", "multipliers", "primes", "offsets", "rows"), "*i64")
FLOAT32 = dict.fromkeys(("hidden", "key", "value", "query_gain", "key_gain"), "*fp32")
COMPILED = {
    "rows": INT64 | dict.fromkeys(("count", "length", "fill", "eos_id"), "i32") | {"out": "*i64"},
    "dequantise": INT64 | {"codes": "*u8", "scales": "*u8", "out": "*fp32", "count": "i32", "table_rows": "i32"},
    "gate": FLOAT32 | {"dead": "*i1", "out": "*fp32", "eps": "fp32", "root_width": "fp32"},
}
CONSTANTS = {
    "rows": {"N": 4, "H": 8, "HEADS": 8, "HAS_EOS": True, "HAS_OFFSETS": True, "BLOCK": 64},
    "dequantise": {"C": 24, "S": 8, "ROUND": True, "UNITS": 64},
    "gate": {"M": 4, "D": 5120, "HAS_DEAD": True, "BLOCK": 4096},
}
PRODUCTS_IN_32_BITS = {"rows": 3}         # in the remainders by primes below 2^31, one for each order


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    """compiled(file): the lines of the intermediate code and PTX of a file's kernel; needs no GPU."""
    @functools.cache
    def run(file):
        code = COMPILE.format(file=file, kernel=f"{file}_kernel", types=COMPILED[file], constants=CONSTANTS[file])
        script = tmp_path_factory.mktemp("compiled") / f"{file}.py"
        script.write_text(code, encoding="utf-8")
        environment = {"PYTHONPATH": str(ROOT), "TRITON_CACHE_DIR": str(script.parent), "PATH": "/usr/bin:/bin"}
        done = subprocess.run([sys.executable, script], capture_output=True, text=True, env=environment)
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()

    return run


@pytest.mark.parametrize("file", COMPILED)
def test_kernels_compute_offsets_in_64_bits(compiled, file):
    """Offsets into tables and outputs are products, which would wrap past 2^31 in 32 bits."""
    code = compiled(file)
    products = [line for line in code if "arith.muli" in line]
    assert products
    narrow = [line for line in products if "i32" in line.split("loc(")[0]]
    assert len(narrow) == PRODUCTS_IN_32_BITS.get(file, 0)


def test_fp8_rows_are_read_16_bytes_at_a_time_without_flushing_subnormals(compiled):
    code = compiled("dequantise")
    assert any("ld.global.v4.b32" in line for line in code)
    assert any("st.global.cs.v4.b32" in line for line in code)
    assert any("mul.f32" in line for line in code)
    assert not any("mul.ftz" in line for line in code)


def test_remainders_need_no_division_per_row(compiled):
    """The remaining divisions are those by the length and, for each of the three orders, of 2^64 by its primes."""
    code = compiled("rows")
    divisions = [line for line in code if "div.u64" in line or "div.s64" in line or "rem.u64" in line]
    assert any("mul.hi.u64" in line for line in code)
    assert len(divisions) < len([line for line in code if "mul.hi.u64" in line])


@interpreted
def test_element_indices_are_int64(kernels_run, monkeypatch):
    """Use a large program id with the dtype that the interpreter uses."""
    interpreter = importlib.import_module("triton.runtime.interpreter")
    late = interpreter.TensorHandle(np.array([2**30], dtype=np.int32), interpreter.tl.int32)
    monkeypatch.setattr(interpreter.InterpreterBuilder, "create_get_program_id", lambda self, axis: late)
    found = blocks.block_of(64).handle.data
    assert found.dtype == np.int64
    assert found.tolist() == [2**36 + i for i in range(64)]


@interpreted
def test_kernels_are_available_on_a_gpu_or_in_the_interpreter(monkeypatch):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    assert kernels.available("cuda") and not kernels.available(torch.device("cpu"))
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    assert kernels.available("cpu")
    monkeypatch.setattr(kernels.importlib.util, "find_spec", lambda name: None)
    assert not kernels.available("cuda")


@pytest.mark.parametrize(("first", "available"), [("triton", "False"), ("os", "True")], ids=["too late", "in time"])
def test_the_interpreter_must_be_enabled_before_triton_is_imported(first, available):
    code = (f"import os, {first}; os.environ['TRITON_INTERPRET'] = '1'; import torch; "
            "from engram_ref.backends.torch import kernels; print(kernels.available('cpu'))")
    clean = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=clean)
    assert done.stdout.split() == [available]


@interpreted
def test_kernels_are_not_used_with_gradients_or_compilation(monkeypatch):
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    plain, differentiated = torch.ones(2, 3), torch.ones(2, 3, requires_grad=True)
    assert kernels.usable(plain, plain)
    assert not kernels.usable(plain, differentiated)
    with torch.no_grad():
        assert kernels.usable(plain, differentiated)
    assert not kernels.usable(plain, plain.T)
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    assert not kernels.usable(plain)


def test_number_of_programs_per_launch():
    assert kernels.programs("rows", 129, 128) == (2,)
    assert kernels.programs("rows", (2**31 - 1) * 64, 64) == (2**31 - 1,)
    with pytest.raises(InputError, match="rows"):
        kernels.programs("rows", (2**31 - 1) * 64 + 1, 64)


def test_importing_the_backend_does_not_import_triton():
    code = "import sys, engram_ref.backends.torch.kernels; print('triton' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.split() == ["False"]
