"""Vector code: functions written as LLVM vector instructions, and the helpers that only these need.

Numba leaves vectorisation to LLVM. Where the generated loop is several times too slow, the few instructions that
matter are written out here; the kernels in the parent folder call them like any other function. A function is two
things of one name: a plain Python body, which says what it computes and runs when the JIT is off
(NUMBA_DISABLE_JIT=1), and a code generator decorated with `vector_code(plain body)`, which builds the instructions
with `instructions.Code`. Tests compare the two. Sizes are fixed (one vector of 64 bytes), so each caller handles what
is left over.
"""
