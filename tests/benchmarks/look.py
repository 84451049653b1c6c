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


def on_card():
    """Summaries of an attention layer of the 27B at 262,144 tokens, and rows of a million, on a GPU.

    One period of the stack (three DeltaNet layers and one of attention, true widths, seeded weights); all 16 periods
    are alike, so the ratio holds for the whole. `ratio` is the time the summary adds to the stream, by the fused
    passes, over that of the layer's own attention; goal: at most 1.0. `sampled` takes 8 rows of each block of 4,096.
    """
    import torch

    if not torch.cuda.is_available():
        return dict(skipped="no CUDA device")
    whole, sampled = period(262_144, "cuda", samples=None), period(1_000_000, "cuda", samples=8)
    facts = {name: whole[name] for name in ("ratio", "plain_s", "watched_s", "GiB")}
    return dict(card=torch.cuda.get_device_name()) | facts | {f"sampled_{key}": sampled[key] for key in facts}


def rows_on_card(
    device="cuda", *, rows=8192, sources=262_144, heads=24, kv_heads=4, head_dim=256, block=4096, rounds=5
):
    """Statistics of a chunk of rows by the fused passes / flash attention of the same rows, on a GPU, in bfloat16.

    The last 8,192 rows of 262,144 tokens of a layer of the 27B, on random queries and keys: seconds, where `on_card`
    takes minutes. Goals: `ratio` at most 1.0; `linked`, with 64 links and 40 segments, at most 1.3. `error` is of the
    entropies of two rows, relative, beside the tiles.
    """
    import torch

    from labkit.attention import fused
    from labkit.attention.statistics import Statistics

    if device == "cuda" and not torch.cuda.is_available():
        return dict(skipped="no CUDA device")
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


def period(tokens, device, *, samples, chunk=8192, block=4096, method="fused"):
    """One period of the 27B reads `tokens` tokens, with and without `attention.watch`; seconds, ratio and peak."""
    import tiny
    import torch

    from labkit import attention, deltanet, spec
    from labkit.families import FAMILIES

    real = spec.read("Qwen3.6-27B")
    sizes = {theirs: getattr(real, ours) for ours, theirs in FAMILIES[real.family].sizes.items()}
    sizes |= dict(num_hidden_layers=4, layer_types=None, vocab_size=4096, max_position_embeddings=1_010_000)
    rope = dict(rope_type="default", rope_theta=real.rope_theta, partial_rotary_factor=0.25)
    lab = tiny.make_lab(tiny.model(dtype=torch.bfloat16, **sizes, rope_parameters=rope).to(device), "one period of 27B")
    ids, sync = tiny.ids(tokens, vocab=4096), torch.cuda.synchronize if device == "cuda" else lambda: None

    def timed(probes):
        sync()
        took = seconds(lambda: (lab.stream(ids, probes=probes, chunk=chunk, progress=True), sync()))
        return took

    first = [deltanet.gates(layers=[0], block=block)]
    lab.stream(
        ids[: 2 * chunk], probes=[*first, attention.watch(block=block, samples=samples, method=method)], chunk=chunk
    )
    plain = timed(first)
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    watched = timed([*first, attention.watch(block=block, samples=samples, method=method)])
    high = torch.cuda.max_memory_allocated() / 2**30 if device == "cuda" else float("nan")
    own = own_attention(real, tokens, chunk, device, sync)
    return dict(ratio=(watched - plain) / own, plain_s=plain, watched_s=watched, own_s=own, GiB=high)


def own_attention(real, tokens, chunk, device, sync):
    """Seconds of one layer's attention alone in chunked prefill, by torch's kernel on random input."""
    import torch

    shape = lambda heads, length: (1, heads, length, real.head_dim)  # noqa: E731
    make = lambda *size: torch.randn(*size, device=device, dtype=torch.bfloat16)  # noqa: E731
    k, v = make(*shape(real.kv_heads, tokens)), make(*shape(real.kv_heads, tokens))
    attend = torch.nn.functional.scaled_dot_product_attention

    def all_chunks():
        for end in range(chunk, tokens + 1, chunk):
            # The chunk's own triangle counts in full: at most chunk / tokens too much.
            attend(make(*shape(real.query_heads, chunk)), k[:, :, :end], v[:, :, :end], enable_gqa=True)
        sync()

    return min(seconds(all_chunks) for _ in range(2))


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


QUESTIONS = (summary_time, summary_memory, summary_growth, rows_on_card, on_card)
