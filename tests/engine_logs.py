"""What servers logged: lengths of prompts and how much of each came from the cache, with the address of the thread.

Only numbers. A row says which earlier prompt it shares how many tokens with; where a thread does not give that, it is
what the thread implies (the same prompt again; a prompt that goes on from an answer). The calls are synthetic.
"""

import dataclasses

import numpy as np

from labkit import reuse


@dataclasses.dataclass(frozen=True)
class Row:
    """One request: its prompt's length, and `cached`, the tokens that the server logged as reused.

    Attributes:
        of: index of the row that it shares `common` tokens with, its answer included; None for nothing shared.
        answer: generated tokens. asked: where the last question begins. system: `Call.system`.
    """

    prompt: int
    cached: int
    of: int | None = None
    common: int = 0
    answer: int = 1
    asked: int = 0
    system: int = 0


@dataclasses.dataclass(frozen=True)
class Log:
    """Rows of one server, and the preset that stands for it; `change` are options in which the server differed."""

    preset: str
    address: str
    rows: tuple[Row, ...]
    change: dict = dataclasses.field(default_factory=dict)
    name: str = ""

    def __str__(self):
        return f"{self.preset} {self.name or self.address}"


def synthetic(rows):
    """Calls whose prompts share what the rows say, and nothing else."""
    made, cached, fresh = [], [], 0
    for row in rows:
        before = cached[row.of][: row.common] if row.of is not None else np.empty(0, np.int32)
        assert len(before) == row.common <= row.prompt, "a row shares more than there is"
        own = np.arange(fresh, fresh + row.prompt - row.common + row.answer, dtype=np.int32)
        fresh += len(own)
        whole = np.concatenate([before, own])
        prompt, answer = whole[: row.prompt], whole[row.prompt :]
        marks = dict(before_think=row.prompt, last_user=row.prompt, before_user=row.asked, system=row.system)
        made.append(reuse.Call(prompt, answer, turn=1, message=0, thinking=0, **marks))
        cached.append(whole[:-1])
    return made


def again(prompt, cached, answer=1):
    """A prompt, and the same prompt again."""
    return Row(prompt, 0, answer=answer), Row(prompt, cached, 0, prompt, answer)


def longer(prompt, cached, by):
    """A prompt, and the same with a few tokens behind it."""
    return Row(prompt, 0), Row(prompt + by, cached, 0, prompt)


def shared(common, own, cached, count=2):
    """Prompts that share their beginning and nothing else; `cached` of each from the second on."""
    first, *rest = [common + own] * count
    return (Row(first, 0), *(Row(prompt, cached, 0, common) for prompt in rest))


HILBERT = "HilbertraumAI/HilbertRaum eval/results/hardware/i9-9900x-rtx-3090-24gb-128gb"
WIDE = {"snapshots": reuse.PRESETS["llama.cpp-b9849"].snapshots.replace("516", "2048")}  # -b 2048 -ub 2048
LLAMA = [
    Log(
        "llama.cpp-b9849",
        HILBERT,
        (Row(1546, 0, asked=79), Row(102, 79, 0, 79, 16, asked=79), Row(1571, 79, 0, 1545, 16, asked=1550)),
        WIDE | {"slots": None},  # a host cache brings the first prompt back
        "issue399-arch-sweep, host cache",
    ),
    Log(
        "llama.cpp-b9849",
        HILBERT,
        (
            Row(1546, 0, asked=79),
            Row(102, 79, 0, 79, 16, asked=79),
            Row(1571, 79, 1, 79, 16, asked=1550),
            Row(100, 79, 2, 79, 16, asked=79),
        ),
        WIDE,
        "issue399-arch-sweep, np1",
    ),
    Log(
        "llama.cpp-b9849",
        HILBERT,
        (Row(1508, 0, asked=41, answer=16), Row(64, 41, 0, 41, 16, asked=41), Row(1529, 41, 1, 41, 16, asked=1508)),
        WIDE,
        "issue446-arch-sweep",
    ),
    Log(
        "llama.cpp-b9849",
        HILBERT,
        (
            Row(13, 0, answer=8),
            Row(2591, 0, 0, 1, 32, asked=227),
            Row(2371, 227, 1, 227, 27, asked=284),
            Row(2591, 227, 2, 227, 36, asked=284),
            Row(2392, 227, 3, 227, 63, asked=288),
            Row(2591, 227, 4, 227, 32, asked=284),
            Row(2650, 227, 5, 227, 57, asked=284),
        ),
        WIDE,
        "issue399-app-helpers",
    ),
    Log(
        "llama.cpp-b9849",
        HILBERT,
        (
            Row(13, 0, answer=8),
            Row(171, 0, 0, 1, 20, asked=147),
            Row(212, 190, 1, 190, 21, asked=190),
            Row(254, 232, 2, 232, asked=232),
        ),
        WIDE,
        "leg7-app-q5km-prefix-reuse",
    ),
    Log(
        "llama.cpp-b9849",
        HILBERT,
        (
            Row(13, 0, answer=8),
            Row(415, 0, 0, 1, asked=147),
            Row(169, 147, 1, 147, asked=147),
            Row(452, 147, 2, 147, asked=435),
        ),
        WIDE,
        "leg7-app-q5km-evicted-prefix",
    ),
    Log(
        "llama.cpp-b9849",
        HILBERT,
        (
            Row(13, 0, answer=8),
            Row(141, 0, 0, 1, asked=123),
            Row(2252, 0, 1, 3, asked=204),
            Row(142, 0, 2, 3, asked=123),
            Row(2248, 0, 3, 3, asked=200),
            Row(146, 0, 4, 3, asked=123),
            Row(2764, 0, 5, 3, asked=227),
            Row(2312, 227, 6, 227, asked=227),
            Row(2441, 227, 7, 227, asked=227),
            Row(142, 0, 8, 3, asked=123),
            Row(2248, 0, 9, 3, asked=200),
        ),
        WIDE,
        "issue447-zim-expander",
    ),
    Log(
        "llama.cpp-b8182",
        "ggml-org/llama.cpp#19494",
        (Row(10_521, 0, answer=86), Row(10_640, 10_606, 0, 10_606, 32), Row(11_765, 10_671, 1, 10_671)),
    ),
]
MTP = "vllm-align-mtp"
VLLM = [
    *(Log("vllm-align", "vllm-project/vllm#53749", shared(n, 20, 0), {"block": 2096}) for n in (1024, 1900, 1920)),
    Log("vllm-align", "vllm-project/vllm#53749", shared(908, 20, 0, 4), {"block": 1056}, "shorter than a block"),
    Log("vllm-align", "vllm-project/vllm#53749", shared(1308, 20, 1056, 4), {"block": 1056}, "longer than a block"),
    *(
        Log("vllm-align-16282a9", "vllm-project/vllm#40696", again(n, cached), {"block": 528})
        for n, cached in ((552, 528), (979, 528), (500, 0))
    ),
    *(
        Log(MTP, "syv-ai/qwen38-27b-rtx3090#102", longer(n, cached, 3), {"block": block})
        for block, rows in {
            448: {512: 0, 1024: 448, 2048: 1344, 4096: 3584, 8192: 7616, 16384: 15680, 32768: 32256},
            832: {512: 0, 1024: 0, 2048: 832, 4096: 2496, 8192: 6656, 16384: 14976, 32768: 31616},
            480: {300: 0, 620: 0, 950: 0, 958: 0, 970: 480},
        }.items()
        for n, cached in rows.items()
    ),
    *(
        Log(MTP, "noonghunna/club-3090#1262", again(n, cached), {"block": 1600})
        for n, cached in {2344: 0, 3644: 1600, 7132: 4800, 14144: 11200}.items()
    ),
    *(
        Log(MTP, "vllm-project/vllm#52897", again(n, cached), {"block": 1648})
        for n, cached in {8702: 6592, 9155: 6592, 6592: 3296}.items()
    ),
    *(
        Log(MTP, "1CatAI/1Cat-vLLM#617", again(n, cached), {"block": 800})
        for n, cached in {15_999: 14_400, 16_000: 14_400, 16_001: 15_200}.items()
    ),
    Log(
        MTP,
        "1CatAI/1Cat-vLLM#617",
        (
            *again(170_123, 168_800),
            Row(175_321, 0),
            Row(170_123, 168_800, 0, 170_123),
            Row(14_017, 0),
            Row(170_123, 168_800, 0, 170_123),
            Row(175_321, 174_400, 2, 175_321),
        ),
        {"block": 800},
        "two long prompts and a third",
    ),
]

SGLANG = [
    *(
        Log(preset, "sgl-project/sglang#22935", shared(6476, own, cached))
        for preset, rows in {
            "sglang-extra-buffer": {40: 6464, 376: 0, 1296: 0},
            "sglang-no-buffer": {40: 0, 376: 0, 1296: 0},
        }.items()
        for own, cached in rows.items()
    ),
    *(
        Log("sglang-extra-buffer", "sgl-project/sglang#30882", again(n, cached))
        for n, cached in {
            5120: 0,
            5121: 5120,
            6144: 0,
            8192: 0,
            12_288: 8192,
            16_384: 8192,
            20_480: 16_384,
        }.items()
    ),
    Log("sglang-no-buffer", "Tanguille/cluster#3486", again(18_256, 16_384)),
]

MLX = [
    Log("mlx-lm", f"ml-explore/mlx-lm#{number}", (Row(n, 0, system=at), Row(n, at, 0, at, system=at)))
    for number, n, at in ((1802, 9953, 9939), (1803, 13_276, 13_261))
]

# One request at a time, 64 of them, prompts of 2,200 tokens in blocks of 528: vllm-project/vllm#45238. How many
# beginnings there were is not logged; 12 first requests that miss give 52, and none of any number gives the second.
FAMILIES, HITS = 12, {1600: 52, 1500: 0}

# A tool loop with a log of 0, 403, 825, 0; its thread is not found. The last prompt parts where thinking began, at 376.
LOOP = (Row(378, 0, answer=26), Row(788, 403, 0, 403, 38), Row(2069, 825, 1, 825, 20), Row(2155, 0, 0, 376))

# What a preset does not give: the log, what it gives instead, and why.
DIFFERENT = [
    (
        Log(MTP, "vllm-project/vllm#53479", (*again(7292, 0), Row(7292, 4944, 0, 7292)), {"block": 1648}),
        [0, 4944, 4944],
        "between #52216 and #53945 the state that a draft model can use was made and not kept: an upper bound there",
    ),
    (
        Log("llama.cpp", "", LOOP, {}, "tool loop"),
        [0, 403, 825, 374],
        "since #20288 there is a checkpoint 4 tokens before a prompt ends: the log is of an earlier build",
    ),
]

LOGS = [*LLAMA, *VLLM, *SGLANG, *MLX]
