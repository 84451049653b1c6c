"""Attention without the map: time and memory of summaries beside eager attention, and how both grow."""

from tests.benchmarks.spine import forward, ready
from tests.benchmarks.tools import fresh, make, paired, peak, seconds

SEAMS = ["q", "k", "v", "gate", "gated"]


def summaries(lab, ids, **options):
    """Trace, then the summary of every attention layer; nothing kept."""
    from labkit import attention

    run = lab.trace(ids, layers=lab.spec.attention_layers, seams=SEAMS)
    for layer in lab.spec.attention_layers:
        attention.summary(run, layer=layer, **options)


def summary_time():
    """Trace and `attention.summary` of both layers at 4,096 tokens / eager output_attentions. Goal: at most 1."""
    lab, ids = make(4096)
    eager, _ = make()
    eager.model.set_attn_implementation("eager")
    return paired(lambda: summaries(lab, ids), lambda: forward(eager, ids, output_attentions=True), rounds=7)


def summary_memory():
    """Peak memory of the summaries of a run at 4,096 tokens / eager output_attentions. Goal: under 0.1.

    `with_trace` counts the forward pass and what the trace keeps as well, which eager attention has beside its maps.
    """
    ours, whole, theirs = (fresh(name, 4096) for name in ("look.summary_peak", "look.whole_peak", "spine.eager_peak"))
    return dict(ratio=ours / theirs, with_trace=whole / theirs, ours_MiB=ours / 2**20, eager_MiB=theirs / 2**20)


def summary_growth():
    """Time and memory of trace and summaries from 1,024 to 32,768 tokens. Goal: below 2 GB at 32,768.

    `seconds` are of this machine; each length has twice the tokens of the one before. Eager attention would keep
    6 heads x 32,768² x 4 bytes = 24 GiB for each of the two layers. `--page FOLDER` draws the growth.
    """
    lengths = [fresh("look.streamed", 2**n) for n in range(10, 16)]
    return {name: [facts[name] for facts in lengths] for name in ("tokens", "seconds", "peak_MiB")}


def rows_on_card(
    device="cuda", *, rows=8192, sources=262_144, heads=24, kv_heads=4, head_dim=256, block=4096, rounds=5
):
    """Statistics of a chunk of rows by the fused passes / flash attention of the same rows, on a GPU, in bfloat16.

    The last 8,192 rows of 262,144 tokens of a layer of the 27B, on random queries and keys: seconds, where a whole
    layer takes a minute. Goals: `ratio` at most 1.0; `linked`, with 64 links and 40 segments, at most 1.3. `error` is
    of the entropies of two rows, relative, beside the tiles.
    """
    import torch

    from labkit.attention import fused
    from labkit.attention.statistics import Statistics

    make = lambda count, of: torch.randn(count, of, head_dim, device=device, dtype=torch.bfloat16)  # noqa: E731
    q, k, at = make(rows, heads), make(sources, kv_heads), torch.arange(sources - rows, sources)
    groups = {n: list(range(n * heads // kv_heads, (n + 1) * heads // kv_heads)) for n in range(kv_heads)}
    segments = [min(j * 40 // sources, 39) for j in range(sources)]
    sync = torch.cuda.synchronize if device == "cuda" else lambda: None
    made = {}

    def ours(name, **options):
        made[name] = Statistics(range(heads), groups, sources, block=block, **options)
        fused.add(made[name], q, k, at)
        sync()

    def flash():
        queries, keys = (x.transpose(0, 1)[None] for x in (q, k))  # any values cost the same
        if device == "cuda":  # causal to the lower right, and no copies of keys
            torch.ops.aten._scaled_dot_product_flash_attention(queries, keys, keys, 0.0, True)
        else:
            torch.nn.functional.scaled_dot_product_attention(queries, keys, keys, enable_gqa=True)
        sync()

    plain = paired(lambda: ours("plain"), flash, rounds=rounds)
    linked = paired(lambda: ours("linked", links=64, segments=segments), flash, rounds=rounds)
    pick, tiles = [0, rows - 1], Statistics(range(heads), groups, sources, block=block)
    tiles.add(q[pick], k, at[pick])
    exact = tiles.column("entropy")
    error = float(((made["plain"].column("entropy")[:, pick] - exact) / exact).abs().max())
    card = torch.cuda.get_device_name() if device == "cuda" else device
    return dict(card=card) | plain | dict(linked=linked["ratio"], linked_quartiles=linked["quartiles"], error=error)


# ------------------------------------------------------------------------------- measured in processes of their own


def summary_peak(tokens):
    from labkit import attention

    lab, ids = ready(tokens)
    run = lab.trace(ids, layers=lab.spec.attention_layers, seams=SEAMS)
    attention.summary(run, layer=lab.spec.attention_layers[0], samples=4)
    return peak(lambda: [attention.summary(run, layer=layer) for layer in lab.spec.attention_layers])


def whole_peak(tokens):
    lab, ids = ready(tokens)
    return peak(lambda: summaries(lab, ids))


def streamed(tokens):
    """The summaries while the model reads, in chunks."""
    from labkit import attention

    lab, ids = ready(tokens)
    took = []
    probes = [attention.watch(block=256)]
    high = peak(lambda: took.append(seconds(lambda: lab.stream(ids, probes=probes, chunk=1024, progress=False))))
    return dict(tokens=tokens, seconds=took[0], peak_MiB=high / 2**20)


QUESTIONS = (summary_time, summary_memory, summary_growth)
