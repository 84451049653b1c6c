"""The residual stream after every layer, by hand and by comparable tools: same model, same prompt, one run.

A tool is used where it is installed, as its documentation says, and never required:
`pip install transformer-lens==4.3.0 nnsight==0.8.1 interp-engine==1.14.2`. Each gets a copy of the model, since some
replace modules; what it captured is compared with transformers' own hidden states before it is timed.
"""

import copy
import importlib.metadata
import pathlib
import tempfile

import tiny
import torch

import labkit
from tests.benchmarks.card import check
from tests.benchmarks.card.bench import milliseconds

CLOSE = 1e-4  # of the largest value, in float32
NANO = pathlib.Path(labkit.__file__).parent / "nano"  # has a tokenizer, which some tools insist on
TOOLS = {"TransformerLens": "transformer-lens", "nnsight": "nnsight", "interp-engine": "interp-engine"}
SIZES = dict(vocab_size=2560, hidden_size=256, intermediate_size=640, num_hidden_layers=24, layer_types=None)


@check(seconds=40, room=4, card=False, dtype="float32")
def peers(bench):
    """The residual stream after every layer of 24, by labkit and by other tools / the plain pass.

    512 tokens on a card, 64 on a CPU, where 512 would hide in arithmetic what a tool adds.
    """
    model = tiny.model(**SIZES | ({"num_hidden_layers": 4} if bench.dry else {})).to(bench.device)
    tokens = 64 if bench.device.type == "cpu" else 512
    ids = tiny.ids(bench.length(tokens), vocab=SIZES["vocab_size"])[None].to(bench.device)
    with torch.no_grad():
        states = model(ids, use_cache=False, output_hidden_states=True).hidden_states
    ways, refused = {"plain": plain(model)}, {}
    for name, make in WAYS.items():
        try:
            way = make(copy.deepcopy(model))
            gap = max(apart(*pair) for pair in zip(way(ids), states[1:-1], strict=False))
            if gap > CLOSE:
                raise ValueError(f"captured values are {gap:.1e} of their size away from transformers'")
            ways[name] = way
        except importlib.metadata.PackageNotFoundError:
            refused[name] = "not installed"
        except Exception as error:  # whatever a tool says of this model is its result
            refused[name] = f"{type(error).__name__}: {error}".partition("\n")[0]
    times = bench.rivals(31, **{name: lambda way=way: way(ids) for name, way in ways.items()})
    numbers = {name: bench.ratio(taken, times["plain"]) for name, taken in times.items() if name != "plain"}
    versions = {name: _version(name) for name in TOOLS if name in ways}
    sizes = {"tokens": ids.shape[1], "layers": len(states) - 1, "hidden": states[0].shape[-1]}
    facts = {"plain_ms": milliseconds(times["plain"])}
    return numbers | facts, sizes | {"tools": versions, "refused": refused}


def apart(ours, theirs) -> float:
    """The largest difference over the largest value."""
    return float((ours - theirs).abs().max() / theirs.abs().max())


def plain(model):
    """The plain pass, which captures nothing."""

    @torch.no_grad()
    def run(ids):
        model(ids, use_cache=False, logits_to_keep=1)

    return run


def by_labkit(model):
    """`lab.trace(seams=["resid_post"])`."""
    lab = labkit.wrap(model, name="random")

    def run(ids):
        seams = lab.trace(ids[0], seams=["resid_post"]).seams
        return [seams[layer, "resid_post"][None] for layer in range(lab.spec.layers)]

    return run


def by_output(model):
    """transformers' own `output_hidden_states`; its last is after the final norm."""

    @torch.no_grad()
    def run(ids):
        return model(ids, use_cache=False, logits_to_keep=1, output_hidden_states=True).hidden_states[1:-1]

    return run


def by_hooks(model):
    """Forward hooks, set and removed by hand."""

    @torch.no_grad()
    def run(ids):
        kept = []
        take = lambda module, args, out: kept.append(out[0] if isinstance(out, tuple) else out)  # noqa: E731
        hooks = [layer.register_forward_hook(take) for layer in model.model.layers]
        model(ids, use_cache=False, logits_to_keep=1)
        for hook in hooks:
            hook.remove()
        return kept

    return run


def by_transformer_lens(model):
    """`TransformerBridge.run_with_cache`, the residual hooks alone."""
    _version("TransformerLens")
    from transformer_lens.model_bridge import TransformerBridge

    options = dict(device=model.device, dtype=model.dtype, tokenizer=tokenizer(), hf_model=model)
    with tempfile.TemporaryDirectory() as folder:  # it reads the configuration by a name
        model.config.save_pretrained(folder)
        bridge = TransformerBridge.boot_transformers(folder, **options)
    names = [f"blocks.{layer}.hook_resid_post" for layer in range(len(model.config.layer_types))]

    @torch.no_grad()
    def run(ids):
        _, cache = bridge.run_with_cache(ids, names_filter=names, use_cache=False)
        return [cache[name] for name in names]

    return run


def by_nnsight(model):
    """`NNsight.trace`, the outputs of all layers saved."""
    _version("nnsight")
    import nnsight

    traced = nnsight.NNsight(model)

    @torch.no_grad()
    def run(ids):
        with traced.trace(ids, use_cache=False, logits_to_keep=1):
            kept = []
            for layer in traced.model.layers:
                kept.append(layer.output)
            kept = nnsight.save(kept)
        return [out[0] if isinstance(out, tuple) else out for out in kept]

    return run


def by_interp_engine(model):
    """`interp_engine.capture` on its eager backend."""
    _version("interp-engine")
    import interp_engine
    from interp_engine.model import EagerModel

    engine = EagerModel(str(NANO), hf_model=model, tokenizer=tokenizer(), dtype=model.dtype)
    points = [interp_engine.Address("resid_post", layer) for layer in range(len(model.config.layer_types))]

    def run(ids):
        cache = interp_engine.capture(engine, ids, points)
        return [cache[point] for point in points]

    return run


def tokenizer():
    """nano's."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(NANO)


def _version(name):
    return importlib.metadata.version(TOOLS[name])


WAYS = {
    "labkit": by_labkit,
    "output_hidden_states": by_output,
    "hooks by hand": by_hooks,
    "TransformerLens": by_transformer_lens,
    "nnsight": by_nnsight,
    "interp-engine": by_interp_engine,
}
