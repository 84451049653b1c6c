"""What engines do, as arguments of `replay`: where they keep states, in which blocks, for how many sequences.

Each preset names the source that says so and the day it was read. Defaults of engines move quickly: read them again
before quoting. What a preset leaves out (scheduling, speculation, other users) is not counted.
"""

import dataclasses

from labkit.errors import InputError
from labkit.spec import Spec, memory


@dataclasses.dataclass(frozen=True)
class Preset:
    """One way in which an engine keeps what it computed.

    Attributes:
        name; snapshots, block, slots, attention_only, kv_dtype: arguments of `replay`; `block` 0 is the engine's own
            block, from the shape of the model and the width of keys and values.
        most: how many snapshots there may be.
        source: where it is documented. read: when. says: in a sentence.
    """

    name: str
    snapshots: str
    source: str
    read: str
    says: str
    block: int = 1
    slots: int | None = None
    most: int | None = None
    attention_only: bool = False
    kv_dtype: str = "bfloat16"

    def options(self, spec: Spec) -> dict:
        """The arguments of `replay` for a model."""
        block = self.block or memory.engine_block(spec, self.kv_dtype)
        snapshots = self.snapshots.format(block=block)
        same = {name: getattr(self, name) for name in ("slots", "most", "attention_only", "kv_dtype")}
        return dict(snapshots=snapshots, block=block) | same


PRESETS = {
    preset.name: preset
    for preset in (
        Preset(
            "attention-only",
            "none",
            "a model without recurrent layers",
            "2026-11-25",
            "keys and values can be cut anywhere: the best that any hybrid can reach",
            attention_only=True,
        ),
        Preset(
            "transformers",
            "live",
            "transformers 5.17, cache_utils.py",
            "2026-11-25",
            "one cache goes on as long as the prompt continues it; no snapshots",
            slots=1,
        ),
        Preset(
            "sglang",
            "branch",
            "SGLang docs, hybrid_cache_checkpoints, level 2; sgl-project/sglang#11214, #14792",
            "2026-11-25",
            "level 2, the default: states at request ends and at forks, usable from the next visit",
        ),
        Preset(
            "sglang-level-3",
            "branch+every 8192",
            "SGLang docs, hybrid_cache_checkpoints, level 3; chunked prefill of 8,192 tokens",
            "2026-11-25",
            "as level 2, and at the end of every prefill chunk; its states inside generated text are left out",
        ),
        Preset(
            "sglang-no-buffer",
            "end",
            "SGLang docs, Qwen3-Next usage, MambaRadixCache no_buffer; sgl-project/sglang#11214",
            "2026-11-25",
            "the first version: states at request ends alone, none at forks",
        ),
        Preset(
            "vllm-align",
            "every {block}",
            "vllm-project/vllm config/cache.py, mamba_cache_mode align; #45238, #49574",
            "2026-11-25",
            "states and keys at block edges, the block as long as one layer's state; every edge is kept here, the "
            "engine keeps fewer: an upper bound of what it can reuse",
            block=0,
        ),
        Preset(
            "vllm-align-fp8",
            "every {block}",
            "vllm-project/vllm config/cache.py, mamba_cache_mode align, kv_cache_dtype fp8",
            "2026-11-25",
            "keys and values of 8 bits: the state is as large, so a block has twice the tokens",
            block=0,
            kv_dtype="float8",
        ),
        Preset(
            "llama.cpp",
            "last_user+every 8192",
            "llama.cpp PRs #16382, #22929, #23814, #24176: --ctx-checkpoints 32, minimal step 8,192",
            "2026-11-25",
            "one slot; checkpoints at user messages and every 8,192 tokens, at most 32",
            slots=1,
            most=32,
        ),
        Preset(
            "mlx-lm",
            "end+before_think",
            "ml-explore/mlx-lm server.py, models/cache.py (d78bf58)",
            "2026-11-25",
            "whole caches in a trie: before the thinking tail of the prompt, and at the end of a generation",
        ),
    )
}


def preset(name: str, spec: Spec) -> dict:
    """The arguments of `replay` that stand for an engine: `replay(messages, spec=spec, **preset("mlx-lm", spec))`.

    Raises:
        InputError: no such preset.
    """
    if name not in PRESETS:
        raise InputError("no such preset", got=name, expected=", ".join(PRESETS))
    return PRESETS[name].options(spec)
