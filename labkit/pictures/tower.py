"""What a pass through the image tower costs, before it runs."""

from collections.abc import Mapping, Sequence

PART = "image tower"


def peak(vision: Mapping[str, int], grids: Sequence[tuple[int, int, int]], each: int, *, fused: bool) -> dict[str, int]:
    """`{name: bytes}` alive at the tower's highest moment, its pixels included.

    Args:
        vision: sizes of the tower. grids: (steps, rows, columns) of patches of every picture and film.
        each: bytes of an activation. fused: whether attention makes no map.
    """
    patches = sum(t * h * w for t, h, w in grids)
    hidden, wide = vision["hidden_size"], vision["intermediate_size"]
    pixels = vision["in_channels"] * vision["temporal_patch_size"] * vision["patch_size"] ** 2
    largest = max(h * w for _, h, w in grids)
    maps = 0 if fused else 3 * vision["num_heads"] * largest**2 * 4
    # Queries, keys and values, and the rotation of two of them in float32.
    attention = patches * hidden * (5 * each + 6 * 4) + maps
    mlp = patches * 3 * wide * each
    merged = patches * (4 * hidden + vision["out_hidden_size"] // vision["spatial_merge_size"] ** 2) * each
    # Pixels as they came and in the tower's dtype; the residual stream, its norm, its positions.
    stays = patches * (pixels * (4 + each) + 3 * hidden * max(each, 4))
    return {PART: stays + max(attention, mlp, merged)}


def flops(vision: Mapping[str, int], grids: Sequence[tuple[int, int, int]]) -> float:
    """Operations of one pass."""
    patches, d = sum(t * h * w for t, h, w in grids), vision["hidden_size"]
    pixels = vision["in_channels"] * vision["temporal_patch_size"] * vision["patch_size"] ** 2
    block = 4 * d * d + 2 * d * vision["intermediate_size"]
    wide = d * vision["spatial_merge_size"] ** 2
    merger = (wide * wide + wide * vision["out_hidden_size"]) / vision["spatial_merge_size"] ** 2
    pairs = sum(t * (h * w) ** 2 for t, h, w in grids)
    return float(2 * patches * (pixels * d + vision["depth"] * block + merger) + 4 * vision["depth"] * d * pairs)
