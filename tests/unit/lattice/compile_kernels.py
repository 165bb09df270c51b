"""Compile the Triton kernels for GPUs that need not be there. A program of its own: it must not
interpret them, as the tests beside it do."""

from __future__ import annotations

import triton
import triton.language as tl
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from kdcache.lattice import class_kernels

CAPABILITIES = (80, 90)  # A100, H100


def compile_for(kernel: triton.JITFunction, wide: str, logits: str, capability: int) -> None:
    pointers = dict.fromkeys(("ids", "frames", "columns"), "*i64")
    pointers |= dict.fromkeys(("logp", "rest", "slope"), f"*{wide}")
    pointers |= dict.fromkeys(("logits", "grad"), f"*{logits}")
    constants = {"WIDE": tl.float64 if wide == "fp64" else tl.float32, "BLOCK": 1024}
    kinds = pointers | dict.fromkeys(constants, "constexpr")
    signature = {name: kinds.get(name, "i32") for name in kernel.arg_names}
    source = ASTSource(kernel, signature, constants)
    made = triton.compile(source, target=GPUTarget("cuda", capability, 32))
    print(kernel.__name__, wide, logits, capability, len(made.asm["cubin"]))


if __name__ == "__main__":
    for each in (class_kernels._collapse_node, class_kernels._spread_node):
        for name in CAPABILITIES:
            for dtypes in (("fp32", "fp32"), ("fp32", "bf16"), ("fp64", "fp64")):
                compile_for(each, *dtypes, name)
