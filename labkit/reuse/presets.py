"""What engines do, as arguments of `replay`: where they keep states, in which blocks, for how many sequences.

Each preset names the release or commit that it describes, the source that says so, the day it was read, and the public
logs of servers (GitHub threads) that it gives row by row, or "unchecked". Engines change within weeks: a preset is one
version, and the newest of an engine has its plain name. What a preset leaves out (scheduling, other users, memory) is
not counted.
"""

import dataclasses

from labkit.calling import public
from labkit.errors import InputError
from labkit.spec import Spec, memory

READ = "2026-11-27"


@dataclasses.dataclass(frozen=True)
class Preset:
    """One way in which an engine keeps what it computed.

    Attributes:
        name; snapshots, block, slots, most, attention_only, kv_dtype: arguments of `replay`; `block` 0 is the engine's
            own block, from the shape of the model and the width of keys and values. In `snapshots`, {block} is the
            block and {step} the whole blocks in `chunk`.
        version: the release or commit. source: where it is documented. read: when. says: in a sentence.
        checked: addresses of the logs that it gives, or "unchecked".
        chunk: tokens that are read at once. drafts: whether the last shared block is read again for a draft model.
    """

    name: str
    snapshots: str
    version: str
    source: str
    says: str
    checked: str = "unchecked"
    read: str = READ
    block: int = 1
    chunk: int = 2048
    drafts: bool = False
    slots: int | None = None
    most: int | None = None
    attention_only: bool = False
    kv_dtype: str = "bfloat16"

    def options(self, spec: Spec) -> dict:
        """The arguments of `replay` for a model."""
        block = self.block or memory.engine_block(spec, self.kv_dtype)
        snapshots = self.snapshots.format(block=block, step=max(1, self.chunk // block) * block)
        same = {name: getattr(self, name) for name in ("slots", "most", "attention_only", "kv_dtype")}
        return dict(snapshots=snapshots, block=block, spare=block if self.drafts else 0) | same


PRESETS = {
    preset.name: preset
    for preset in (
        Preset(
            "attention-only",
            "none",
            "every version",
            "a model without recurrent layers",
            "keys and values can be cut anywhere: the best that any hybrid can reach",
            "by definition",
            attention_only=True,
        ),
        Preset(
            "transformers",
            "live",
            "5.17",
            "transformers cache_utils.py",
            "one cache goes on as long as the prompt continues it; no snapshots",
            slots=1,
        ),
        Preset(
            "sglang",
            "branch",
            "main of November 2026",
            "SGLang docs, hybrid_cache_checkpoints, level 2; sgl-project/sglang#11214, #14792",
            "level 2, the default: states at request ends and at forks, usable from the next visit",
        ),
        Preset(
            "sglang-level-3",
            "branch+step 8192",
            "main of November 2026",
            "SGLang docs, hybrid_cache_checkpoints, level 3; chunked prefill of 8,192 tokens",
            "as level 2, and at the end of every prefill chunk; its states inside generated text are left out",
        ),
        Preset(
            "sglang-extra-buffer",
            "edge 64+step 8192+fork 64+tail 256",
            "v0.5.9 to main of July 2026, mamba_scheduler_strategy extra_buffer",
            "sglang mem_cache/mamba_radix_cache.py, managers/schedule_batch.py",
            "at the last multiple of 64 of a prompt, at ends of prefill chunks, at forks down to a multiple of 64, and "
            "at the last multiple of 256 that is generated",
            "sgl-project/sglang#22935; sgl-project/sglang#30882",
        ),
        Preset(
            "sglang-no-buffer",
            "end+prompt_end+step 8192",
            "v0.5.9 to v0.5.13, mamba_scheduler_strategy no_buffer",
            "sglang mem_cache/mamba_radix_cache.py; sgl-project/sglang#11214",
            "where requests, prompts and prefill chunks end; nothing at forks",
            "sgl-project/sglang#22935; Tanguille/cluster#3486",
        ),
        Preset(
            "vllm-align",
            "edge {block}+fork {block}",
            "v0.27.1 to main of September 2026, prefix_cache_retention_interval 0",
            "vllm config/cache.py, mamba_cache_mode align; vllm-project/vllm#37898, #52216",
            "one state at the last block edge of a prompt, and one where prompts part, of use from the third visit; a "
            "block is as long as one layer's state",
            "vllm-project/vllm#53749",
            block=0,
        ),
        Preset(
            "vllm-align-fp8",
            "edge {block}+fork {block}",
            "v0.27.1 to main of September 2026, kv_cache_dtype fp8",
            "vllm config/cache.py, mamba_cache_mode align",
            "keys and values of 8 bits: the state is as large, so a block has twice the tokens",
            block=0,
            kv_dtype="float8",
        ),
        Preset(
            "vllm-align-mtp",
            "edge_before {block}+fork_before {block}",
            "main of September 2026, after #54713, with a draft model; equal for v0.27.1 and v0.28.0 where a prompt is "
            "no whole number of blocks",
            "vllm-project/vllm#53945, #54713",
            "with a draft model (EAGLE, MTP) the last shared block is read again, and states are kept a block earlier",
            "syv-ai/qwen38-27b-rtx3090#102; noonghunna/club-3090#1262; vllm-project/vllm#52897; 1CatAI/1Cat-vLLM#617",
            block=0,
            drafts=True,
        ),
        Preset(
            "vllm-align-16282a9",
            "edge {block}+step {step}+written {block}",
            "main of June 2026 (16282a9c4), before junctions and sparse retention; max_num_batched_tokens 2048",
            "vllm v1/core/sched/scheduler.py, _mamba_block_aligned_split; vllm-project/vllm#45845",
            "a state at the end of every prefill step, which is a whole number of blocks, and at every block edge that "
            "is generated; one request at a time",
            "vllm-project/vllm#45238; vllm-project/vllm#40696",
            block=0,
        ),
        Preset(
            "llama.cpp",
            "live+before_user+back 516+back 4",
            "b10434 (7e4c0a968) and later, after #28302",
            "llama.cpp tools/server/server-context.cpp; PRs #16382, #20288, #24176, #28302; --ctx-checkpoints 32",
            "one slot, whose state goes on if the prompt extends it; else checkpoints before the last question, and 4 "
            "and 516 tokens (4 and a micro-batch of 512) before a prompt's end, at most 32",
            slots=1,
            most=32,
        ),
        Preset(
            "llama.cpp-b9849",
            "live+before_user+back 516/8192",
            "b9849 (799fcc04a), July 2026",
            "llama.cpp tools/server/server-context.cpp; PRs #22929, #23814, #25019; --ctx-checkpoints 32",
            "as llama.cpp, but near a prompt's end only the checkpoint 516 tokens before it, and that only if it lies "
            "more than 8,192 tokens past the last question",
            "HilbertraumAI/HilbertRaum eval/results/hardware/i9-9900x-rtx-3090-24gb-128gb",
            slots=1,
            most=32,
        ),
        Preset(
            "llama.cpp-b8182",
            "live+back 512",
            "b8182, February and March 2026, between #19408 and #20288; --ctx-checkpoints 8",
            "llama.cpp tools/server/server-context.cpp",
            "one slot; a checkpoint 512 tokens before a prompt's end and none elsewhere",
            "ggml-org/llama.cpp#19494",
            slots=1,
            most=8,
        ),
        Preset(
            "mlx-lm",
            "end+question+system",
            "0.32.0 (d78bf58)",
            "mlx-lm server.py, models/cache.py; --prompt-cache-size 10",
            "whole caches in a trie, at most 10: where a generation ends, and, of prompts that end in a question, "
            "before the thinking tail and behind the system's message",
            "ml-explore/mlx-lm#1802; ml-explore/mlx-lm#1803",
            most=10,
        ),
    )
}


@public
def preset(name: str, spec: Spec) -> dict:
    """The arguments of `replay` that stand for an engine, by its `name`: `replay(messages, spec=spec,
    **preset("mlx-lm", spec))`.

    Raises:
        InputError: no such preset.
    """
    if not isinstance(name, str) or name not in PRESETS:
        raise InputError("no such preset", got=name, expected=", ".join(PRESETS))
    return PRESETS[name].options(spec)
