"""Vector code: functions written as LLVM vector instructions, and their helpers.

Numba leaves vectorisation to LLVM. If the generated loop is several times too slow, the critical instructions are
written out here; the kernels in the parent folder call these functions like any others. Each function has two
definitions under one name: a plain Python body, which defines the result and runs if the JIT is off
(NUMBA_DISABLE_JIT=1), and a code generator decorated with `vector_code(plain body)`, which builds the instructions
with `instructions.Code`. Tests compare the two. Vectors have a fixed size of 64 bytes, so callers handle the
remaining elements.
"""
