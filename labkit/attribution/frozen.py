"""The frozen network. Hold every factor that is no value where it was in a run, and a hybrid is linear in its
embeddings and in what its cache holds: no projection on the path of values has a bias.

    norms            x ⊙ w / rms(x)                rms held
    Gated DeltaNet   v = c ⊙ σ(c), c = conv(...)   σ(c) held;  q, k, α, β held, so reads are Σ_j A_tj v_j
                     o ⊙ w ⊙ silu(z) / rms(o)      silu(z) and rms held
    attention        σ(g) ⊙ Σ_j P_tj v_j           P and σ(g) held; of latents: `latent`
    MLP              down(silu(gate) ⊙ up)         silu(gate) held; so are routers and gates of shared experts

It is the unmodified model in which hooks put such outputs in place of those of its norms, mixers and gates, for one
pass with gradients. At the run itself it says what the model says. Its slopes are no slopes of the model: they tell how
values flowed given the routing, not why the routing was so.

Linear in the inputs given the gates: the gradient-times-input of Ali et al., arXiv 2202.07304 (attention), here for the
delta rule as well.
"""

import torch
import torch.nn.functional as F

from labkit import attention, deltanet, passes, prompts
from labkit.attribution import costs
from labkit.attribution.latent import held, of_latents, values
from labkit.cache import Snapshot
from labkit.errors import InputError, ParityError
from labkit.families import FAMILIES
from labkit.hooks import Place
from labkit.lab import Lab
from labkit.notation import is_index
from labkit.pictures import Seen
from labkit.residual.stream import answers, check_sum
from labkit.scopes import Scope
from labkit.trace import Recorder, Run, decoder, wanted_seams
from labkit.trace.seams import arguments

GATES = ("act_fn", "gate", "shared_expert_gate")  # of an MLP: what multiplies values
HELD = ("state", "convolution", "values")  # by a cache


class Frozen:
    """The frozen network of one run, while its `scope` is open.

    Attributes:
        values, mixed: `{layer: [token, head, channel]}`: what heads store or offer, and what they hand to the output
            projection; the numbers of the pass, for gradients. Heads are value heads or query heads.
        reads: the same of what heads read or mix, before gate and norm.
        cached: `{(layer, name): tensor}` of what came from a cache, "state", "convolution" or "values".
    """

    def __init__(self, lab: Lab, run: Run):
        self.lab, self.run, self.spec = lab, run, run.spec
        self.family = FAMILIES[self.spec.family]
        self.wide = torch.float64 if lab.dtype == torch.float64 else torch.float32
        self.values, self.reads, self.mixed, self.cached = {}, {}, {}, {}
        self.stack = decoder(lab.model)

    def flow(self, at: int, seams: list[str], seen: Seen | None) -> tuple[torch.Tensor, dict]:
        """(logits [vocab] of a token, `{(layer, seam): what crossed the boundary}`) of one pass with its graph.

        Args:
            seen: the prompt, if it has pictures.
        """
        lab, wanted = self.lab, wanted_seams(self.spec, None, seams)
        prompts.start(False, True, cache=None, position_ids=None, chunk=None, cuts=lab.scopes.cuts)
        with (
            self.scope(),
            lab.scopes.call() as call,
            Recorder(call, lab.model, self.spec, wanted, grad=True) as recorder,
        ):
            given = passes.feed(lab, self.run.ids[None], columns=[at], grad=True, seen=seen)
            recorder.joined(len(self.run))
            return given[0, 0], recorder.crossed

    def scope(self) -> Scope:
        """The block within which a pass over the run's tokens is that of the frozen network."""
        return Scope(self.lab.scopes, self, places=[*self._norms(), *self._mixers(), *self._gates()])

    def _norms(self):
        """Hooks of the norms that the stream or a branch passes; those inside mixers are written out there."""
        norms = [module for layer in self.stack.layers for module in layer.children() if _is_norm(module)]
        return [Place(module, "after", self._norm) for module in (*norms, self.stack.norm)]

    def _norm(self, module, args, out):
        x = args[0]
        return x * factor(module, x.detach()).to(x.dtype)

    def _mixers(self):
        """Each runs without a graph of its own, for what it returns beside; then its output is replaced."""
        entered = {}
        for layer in range(self.spec.layers):

            def cut(module, args, kwargs, layer=layer):
                given = arguments(module, args, kwargs)
                entered[layer] = given["hidden_states"]
                return (), given | {"hidden_states": entered[layer].detach()}

            def put(module, args, out, layer=layer):
                made = self.mixer(layer, entered.pop(layer))
                return (made, *out[1:]) if isinstance(out, tuple) else made

            mixer = self._mixer(layer)
            yield from (Place(mixer, "before", cut, kwargs=True), Place(mixer, "after", put))

    def _mixer(self, layer):
        path = self.family.projections[self.spec.kind(layer)].rpartition(".")[0]
        return self.stack.layers[layer].get_submodule(path)

    def _gates(self):
        """What multiplies values inside MLPs; a router chooses the experts that it chose in the run."""
        for layer, block in enumerate(self.stack.layers):
            for part in {id(part): part for part in _named(block.mlp, GATES)}.values():
                yield Place(part, "after", self._routed(layer) if part is getattr(block.mlp, "gate", None) else _held)

    def _routed(self, layer):
        """In place of a router's output that of the run: its seams, or the router again where they are none."""
        seams, run = self.spec.seams[self.spec.kind(layer)], self.run
        if "router" in seams:
            parts = [run.seams[layer, name].to(self.lab.device) for name in ("router", "routed", "chosen")]
        else:
            x = (run.seams[layer, "resid_pre"] + run.seams[layer, "mixer_out"]).to(self.lab.device)
            block = self.stack.layers[layer]
            parts = block.mlp.gate.forward(block.post_attention_layernorm.forward(x.detach()[None]))
        return lambda module, args, out: tuple(part.detach() for part in parts)

    def _seam(self, layer, name, x):
        """A seam [token, *dims] of what its module makes of a new input."""
        seam = self.spec.seams[self.spec.kind(layer)][name]
        module = self.stack.layers[layer].get_submodule(seam.path)
        return seam.read(module.forward(x), self.spec, *x.shape[:2])[0]

    def _leaf(self, layer, name, tensor):
        """Something of the cache, as a leaf of the graph."""
        self.cached[layer, name] = leaf = tensor.detach().to(self.lab.device, self.wide).requires_grad_()
        return leaf

    def mixer(self, layer: int, x: torch.Tensor) -> torch.Tensor:
        """What a mixer makes of its input, [1, token, channel], by the equations above."""
        return {"deltanet": self._delta, "attention": self._attend}[self.spec.kind(layer)](layer, x)

    def _delta(self, layer, x):
        """[1, token, channel] of a Gated DeltaNet mixer; source `Qwen3_5GatedDeltaNet.forward`."""
        spec, run = self.spec, self.run
        given, kept = deltanet.inputs(run, layer), 2 * spec.key_heads * spec.dk
        fused = "qkv" in spec.seams["deltanet"]
        v = self._seam(layer, "qkv", x)[:, kept:] if fused else self._seam(layer, "v", x).flatten(1)
        v, taps = v.to(self.wide), run.parameters[layer, "conv1d.weight"].to(x.device, self.wide)[kept:]
        history = v.new_zeros(spec.conv - 1, v.shape[1])
        if (before := run.start.conv.get(layer)) is not None:
            history = self._leaf(layer, "convolution", before[kept:, 1 - spec.conv :].T)
        c = F.conv1d(torch.cat([history, v]).T[None], taps, groups=v.shape[1])[0].T
        v = (c * c.detach().sigmoid()).view(len(c), spec.value_heads, spec.dv)
        state = None if given.state is None else self._leaf(layer, "state", given.state)
        self.values[layer] = v
        held = {name: getattr(given, name).to(self.wide) for name in ("q", "k", "g", "beta")}
        reads, _ = deltanet.delta_rule(held.pop("q"), held.pop("k"), v, **held, state=state)
        self.reads[layer] = reads
        norm = self.stack.layers[layer].get_submodule(spec.seams["deltanet"]["read"].path)
        gate = run.seams[layer, "z"].to(x.device)
        return self._out(layer, reads * factor(norm, reads.detach().to(x.dtype), gate).to(self.wide), x)

    def _attend(self, layer, x):
        """[1, token, channel] of an attention mixer; source `Qwen3_5Attention.forward`."""
        spec, run = self.spec, self.run
        q, k, v, gate = (self._of_latents if of_latents(spec) else self._of_seams)(layer, x)
        self.values[layer] = v
        q, k = (part.detach().to(self.wide).transpose(0, 1) for part in (q, k))
        seen = None  # rows after a cache alone need a mask
        if run.start.length:
            seen = torch.arange(len(v), device=x.device) <= run.positions.to(x.device)[:, None]
        mixed = mix(q[None], k[None], v.transpose(0, 1)[None], seen)[0].transpose(0, 1)
        self.reads[layer] = mixed
        return self._out(layer, mixed if gate is None else mixed * gate.to(self.wide), x)

    def _of_seams(self, layer, x):
        """(q, k, v, gate) of all query heads; v of the input x, after what is cached, the others held."""
        spec, run = self.spec, self.run
        given, v = attention.inputs(run, layer), self._seam(layer, "v", x).to(self.wide)
        if run.start.length:
            v = torch.cat([self._leaf(layer, "values", run.start.values[layer].transpose(0, 1)), v])
        reads = [spec.kv_head(head) for head in range(spec.query_heads)]
        return given.q, given.k[:, reads], v[:, reads], given.gate

    def _of_latents(self, layer, x):
        """The same where keys and values are made of latents."""
        run, mixer = self.run, self._mixer(layer)
        latent = self._seam(layer, "latent", x)[:, : self.spec.latent]
        latent = self._norm(mixer.kv_a_layernorm, (latent,), None)
        if run.start.length:  # as keys the cache holds normed latents
            latent = torch.cat([self._leaf(layer, "values", run.start.keys[layer][0]).to(latent.dtype), latent])
        return *held(mixer, run, layer, x.device), values(mixer, self.spec, latent).to(self.wide), None

    def _out(self, layer, opened, x):
        self.mixed[layer] = opened
        return self.lab.projection(layer).forward(opened.flatten(1).to(x.dtype))[None]


def mix(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, seen: torch.Tensor | None) -> torch.Tensor:
    """Σ_j P_tj v_j, [1, head, token, channel]; `seen` [token, source], None where all before a token are.

    Keys and values get the same width: else a kernel that forms the whole map is taken.
    """
    wide, own = max(q.shape[-1], v.shape[-1]), v.shape[-1]
    given = dict(scale=q.shape[-1] ** -0.5, attn_mask=seen, is_causal=seen is None)
    parts = [part if part.shape[-1] == wide else F.pad(part, (0, wide - part.shape[-1])) for part in (q, k, v)]
    return F.scaled_dot_product_attention(*parts, **given)[..., :own]


def factor(norm: torch.nn.Module, x: torch.Tensor, *gate: torch.Tensor) -> torch.Tensor:
    """What an RMS norm multiplies x [..., channel] by, held: what it makes of a vector of the same size, over that.

    Args:
        gate: what a gated norm takes beside x, of the same shape.
    """
    rms = x.float().square().mean(-1, keepdim=True).sqrt().clamp(min=1e-12).to(x.dtype)
    return norm.forward(torch.ones_like(x) * rms, *gate).detach() / rms


def asked(lab: Lab, prompt, of, against, token: int, snap: Snapshot | None, name: str) -> tuple:
    """(run, token that answers, ids of the answer and of what it is compared with, their text) of a question."""
    ids, names = answers(lab, of, name)
    foils, others = ([], []) if against is None else answers(lab, against, name)
    if len(ids) > 1 or len(foils) > 1:
        raise InputError(f"{name}: one answer at a time", got=f"{len(ids)} and {len(foils)}", expected="one token")
    if ids == foils:
        raise InputError(f"{name}: the two answers are the same token", got=f"twice {ids[0]}")
    several = isinstance(prompt, list | tuple) and prompt and not is_index(prompt[0])
    if several:
        raise InputError(f"{name}: one prompt at a time", got=f"{len(prompt)} prompts", expected="one text, or its ids")
    plans = {"attribution.logit": costs.logit, "attribution.exact": costs.exact}  # all others follow edges
    costs.admit(lab, plans.get(name, costs.circuit), prompt, snap)
    run = lab.trace(prompt, cache=None if snap is None else lab.restore(snap), logits=[token])
    return run, int(run.logit_tokens[0]), [*ids, *foils], " - ".join([*names, *others])


def by_reader(run: Run, rows: dict[int, torch.Tensor]) -> torch.Tensor:
    """[layer, reader, source] of `{layer: [source, head]}`; not-a-number where a layer has fewer heads than others."""
    made = next(iter(rows.values())).new_full(
        (len(rows), max(part.shape[1] for part in rows.values()), len(run)), torch.nan
    )
    for n, part in enumerate(rows.values()):
        made[n, : part.shape[1]] = part.detach().T
    return made


def proof(run: Run, name: str, off: torch.Tensor) -> dict:
    """Parity of a sum with the model's own logit, from which it is `off`.

    Raises:
        ParityError: they differ.
    """
    try:
        facts = check_sum(run, name, off, run.logits[0])
    except ParityError as error:
        hint = "close edits that are open; kernels of another precision are told by lab.backend"
        if run.logits.dtype in (torch.bfloat16, torch.float16) and name == "attribution.exact":
            hint = f"attribution.exact(..., wide=True), which a copy of the weights in float32 answers; {hint}"
        what = f"{name}: what was found does not add up to the logit"
        raise ParityError(what, got=error.got, expected=error.expected, hint=hint) from error
    return facts | {"proven": "the sum of all that was found"}


def _named(module, names):
    return [part for path, part in module.named_modules() if path.rpartition(".")[2] in names]


def _is_norm(module):
    return type(module).__name__.endswith("RMSNorm")


def _held(module, args, out):
    return tuple(part.detach() for part in out) if isinstance(out, tuple) else out.detach()
