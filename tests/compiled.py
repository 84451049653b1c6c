"""Compiles the fused passes for a card that is not here: `python compiled.py bf16 256 0 90` prints, of each kernel,
the shared memory it takes, what the choice of tiles counted, and how many loads wait for a stage.

Arguments: type, head_dim, padded segments (0 for none), compute capability.
"""

import sys


def main(dtype, head_dim, segments, capability):
    """A line of numbers for each kernel."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from labkit.attention import fused, passes

    width = 4 if dtype == "fp32" else 2
    down, right, warps, stages = fused.tiling(head_dim, width, 4096, 4096)
    sizes = dict(D=head_dim, DP=fused.padded(head_dim), BM=down, BN=right, BINS_UP=fused.BINS, KINDS_UP=segments)
    sizes["PRECISION"] = "ieee" if dtype == "fp32" else "tf32"
    types = dict.fromkeys(sizes, "constexpr") | {"Q": f"*{dtype}", "K": f"*{dtype}", "T": "i32", "scale": "fp32"}
    types |= dict.fromkeys(("AT", "START", "HEADS", "KEYS", "SEGMENT", "UNTIL"), "*i32")
    options = dict(num_warps=warps, num_stages=stages, enable_fp_fusion=True)
    for kernel in (passes.first, passes.second):
        names = kernel.arg_names
        kinds = {name: types.get(name, "*fp32" if name.isupper() else "i32") for name in names}
        constants = {(i,): sizes[name] for i, name in enumerate(names) if name in sizes}
        aligned = {(i,): [["tt.divisibility", 16]] for i, name in enumerate(names) if kinds[name][0] in "*i"}
        made = triton.compile(ASTSource(kernel, kinds, constants, aligned), GPUTarget("cuda", capability, 32), options)
        counted = width * fused.padded(head_dim) * (down + stages * right) + fused.SPARE
        print(made.metadata.shared, counted, made.asm["ptx"].count("cp.async.wait"))  # noqa: T201


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
