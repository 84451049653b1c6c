"""The stretched window on a card: the true 27B shape at half a million and a million tokens. It proves scale alone."""

from tests.benchmarks.tools import seconds


def on_card():
    """Prefill of 524,288 and 1,010,000 tokens of a seeded 27B under YaRN, bands and summaries watched, on a GPU.

    Weights are random, so nothing is said about quality. A million tokens need 54 GB of weights and 66 GB of keys and
    values; on a smaller card that length is refused before it starts, and the refusal is what is reported.
    """
    import torch

    from labkit.errors import BudgetError

    if not torch.cuda.is_available():
        return dict(skipped="no CUDA device")
    facts, lab = dict(card=torch.cuda.get_device_name()), seeded("cuda")
    for tokens, factor in ((524_288, 2), (1_010_000, 4)):
        try:
            facts |= {f"{key}_{tokens}": value for key, value in prefilled(lab, tokens, factor).items()}
        except BudgetError as error:
            facts[f"refused_{tokens}"] = error.got
    return facts


def seeded(device, **changes):
    """A lab around random weights of the 27B's text model, made where they live; `changes` of sizes for a dry run."""
    import torch

    import labkit
    from labkit import spec
    from labkit.families import FAMILIES

    real = spec.read("Qwen3.6-27B")
    family = FAMILIES[real.family]
    sizes = {theirs: getattr(real, ours) for ours, theirs in family.sizes.items()} | {"layer_types": None}
    rope = dict(rope_type="default", rope_theta=real.rope_theta, partial_rotary_factor=0.25)
    config = family.configuration(**sizes | {"num_hidden_layers": real.layers} | changes, rope_parameters=rope)
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        with torch.device(device):
            model = family.model_class()(config).eval().requires_grad_(False)
    finally:
        torch.set_default_dtype(before)
    stack, window = model.model, config.max_position_embeddings
    omega = 1.0 / real.rope_theta ** (torch.arange(0, real.rotary_dim, 2, device=device).float() / real.rotary_dim)
    stack.rotary_emb.inv_freq = omega  # a buffer that the default dtype would hold in 16 bits
    generator = torch.Generator(device).manual_seed(0)
    for name, weight in model.named_parameters():
        if weight.ndim > 1:
            weight.normal_(0, 0.02, generator=generator)
        elif name.endswith("A_log"):
            weight.uniform_(-3, 0, generator=generator)
    assert window == real.window
    return labkit.wrap(model, name="seeded 27B")


def prefilled(lab, tokens, factor, *, chunk=8192, block=4096):
    """Seconds, tokens per second and peak of one prefill, the first and the last attention layer watched."""
    import tiny
    import torch

    from labkit import attention, deltanet, yarn

    cuda, ids = lab.device.type == "cuda", tiny.ids(tokens, vocab=lab.spec.vocab)
    layers = [lab.spec.attention_layers[0], lab.spec.attention_layers[-1]]
    options = dict(layers=layers, block=block)
    probes = [attention.watch(samples=8, **options), attention.watch_bands(samples=1, **options)]
    probes.append(deltanet.norms(layers=[0, lab.spec.deltanet_layers[-1]], block=block))
    if cuda:
        torch.cuda.reset_peak_memory_stats()
    with yarn.scaled(lab, factor):
        took = seconds(lambda: lab.stream(ids, probes=probes, chunk=chunk, progress=True))
    high = torch.cuda.max_memory_allocated() / 2**30 if cuda else float("nan")
    return dict(seconds=took, tokens_per_s=tokens / took, GiB=high)


QUESTIONS = (on_card,)
