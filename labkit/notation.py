"""The alphabet of labkit: names of axes and quantities, and the one door from tensors to labelled data.

Symbols follow Yang, Kautz and Hatamizadeh, "Gated Delta Networks" (arXiv 2412.06464), with states written
(key, value) so that a read is `o = Sᵀ q`:

| labkit           | symbol | paper (2412.06464)      | Hugging Face `Qwen3_5GatedDeltaNet`            |
|------------------|--------|-------------------------|------------------------------------------------|
| keep             | α_t    | α_t, gating             | `exp(g)`, g = -exp(A_log)·softplus(a+dt_bias)  |
| write            | β_t    | β_t, writing strength   | `beta = sigmoid(b)`                            |
| state (key, value) | S_t  | S_t (there value × key) | `recurrent_states`, [B, head, key, value]      |
| recalled         | r_t    | S_{t-1} k_t             | `kv_mem`                                       |
| error            | e_t    | v_t - S_{t-1} k_t       | `delta / beta`                                 |
| net write        | u_t    | pseudo-value u_t        | `v_new`, `delta`                               |
| read             | o_t    | o_t                     | input of `norm`                                |
| head             | h      | -                       | `num_v_heads`                                  |
| key_head         | h // r | -                       | `num_k_heads`; r value heads share one         |
| query_head       | -      | -                       | `num_attention_heads`                          |
| kv_head          | -      | -                       | `num_key_value_heads`                          |
"""

import dataclasses
import difflib
from collections.abc import Iterable, Mapping, Sequence

from labkit.arguments import LONGEST, WIDEST, is_whole
from labkit.errors import InputError
from labkit.signs import inert

AXES = {
    "token": "position of the token that reads, from 0 at the start of the sequence",
    "source": "position of the token that is read",
    "layer": "index in the model's stack, from 0",
    "head": "value head of a Gated DeltaNet layer",
    "key_head": "query/key head of a Gated DeltaNet layer",
    "query_head": "query head of a gated attention layer",
    "kv_head": "key/value head of a gated attention layer",
    "key": "channel of a DeltaNet key (dk)",
    "value": "channel of a DeltaNet value (dv)",
    "head_dim": "channel of a query, key or value of a gated attention layer",
    "channel": "channel of any other vector",
    "expert": "one of the small MLPs of a layer, of which a router chooses some for every token",
    "choice": "one of the experts that were chosen for a token, heaviest first",
    "vocab": "entry of the vocabulary",
    "pair": "rotary pair",
    "reader": "head of either kind",
    "other_head": "a second query head, compared with the first",
    "source_block": "block of consecutive sources",
    "gap": "tokens between a fact and the question about it",
    "length": "tokens of a prompt",
    "depth": "where in a prompt something stands, from 0 at its beginning to 1 at its end",
    "scaling": "rotary scaling",
    "band": "rotary pairs taken together, or the channels without position",
    "task": "kind of question",
    "sample": "one of several drawn by seeds",
    "bin": "distance from 2^bin - 1 up to 2^(bin+1) - 2 tokens back",
    "segment": "part of the prompt",
    "link": "one of the strongest weights, largest first",
    "term": "one of several quantities shown together",
    "mode": "singular direction of a state, strongest first",
    "block": "block of consecutive tokens",
    "step": "step of a sweep or of training",
    "turn": "turn of a conversation",
    "call": "model call of a conversation",
}


@dataclasses.dataclass(frozen=True)
class Quantity:
    """What one variable means wherever it appears: symbol, unit, how it is coloured and where it is defined.

    `scale` is "fraction" (fixed 0 to 1), "signed" (diverging around 0) or "positive" (sequential from 0).
    """

    symbol: str
    long_name: str
    units: str
    scale: str
    source: str


GDN = "arXiv 2412.06464"
GQA = "arXiv 2505.06708"
MOE = "arXiv 1701.06538"
QUANTITIES = {
    "router": Quantity("ℓ", "router logit of an expert, before the softmax", "1", "signed", MOE),
    "routed": Quantity("w", "weight of a chosen expert's output", "fraction", "fraction", MOE),
    "chosen": Quantity("e", "number of a chosen expert", "expert", "positive", MOE),
    "residual": Quantity("x", "residual stream", "1", "signed", "transformers"),
    "normed": Quantity("x̂", "residual stream after its norm", "1", "signed", "transformers"),
    "added": Quantity("Δx", "what a branch adds to the residual stream", "1", "signed", "transformers"),
    "projection": Quantity("qkv", "query, key and value before the convolution", "1", "signed", GDN),
    "gate_input": Quantity("g", "input of the output gate, before its nonlinearity", "1", "signed", GQA),
    "write_input": Quantity("b", "input of the write strength, before the sigmoid", "1", "signed", GDN),
    "decay_input": Quantity("a", "input of the decay, before the softplus", "1", "signed", GDN),
    "read": Quantity("o", "what the head reads out of its state", "1", "signed", GDN),
    "opened": Quantity("y", "head output after the output gate", "1", "signed", GQA),
    "latent": Quantity("c", "what keys and values of all heads are made of", "1", "signed", "arXiv 2405.04434"),
    "mixed": Quantity("y", "values that the head mixed", "1", "signed", "arXiv 1706.03762 eq. 1"),
    "branch": Quantity("y", "what a branch gives to the norm before it is added", "1", "signed", "transformers"),
    "query": Quantity("q", "query, before rotation", "1", "signed", "arXiv 1706.03762 eq. 1"),
    "key_vector": Quantity("k", "key, before rotation", "1", "signed", "arXiv 1706.03762 eq. 1"),
    "value_vector": Quantity("v", "value", "1", "signed", "arXiv 1706.03762 eq. 1"),
    "keep": Quantity("α", "decay gate: share of the state kept", "fraction", "fraction", f"{GDN} eq. 10"),
    "write": Quantity("β", "write strength", "fraction", "fraction", f"{GDN} eq. 10"),
    "recalled": Quantity("‖r‖", "norm of what the memory says for the key", "norm", "positive", GDN),
    "error": Quantity("‖e‖", "norm of the error, value minus recalled value", "norm", "positive", GDN),
    "agreement": Quantity("r·e", "inner product of recalled value and error", "norm²", "signed", GDN),
    "out": Quantity("‖o‖", "norm of what the head reads out", "norm", "positive", GDN),
    "state_norm": Quantity("‖S‖", "Frobenius norm of the state", "norm", "positive", GDN),
    "state": Quantity("S", "recurrent state", "value per unit key", "signed", GDN),
    "weight": Quantity("A", "weight of the source's value in the head's output", "1", "signed", f"{GDN} sec. 3"),
    "pattern": Quantity("P", "softmax attention weight", "fraction", "fraction", "arXiv 1706.03762 eq. 1"),
    "gate": Quantity("σ(g)", "output gate, mean over the head's channels", "fraction", "fraction", "arXiv 2505.06708"),
    "gated": Quantity("σ(g)·P", "attention weight times mean output gate", "fraction", "fraction", "arXiv 2505.06708"),
    "decayed": Quantity("‖(1-α)S‖", "norm of what decay removed", "norm", "positive", GDN),
    "erased": Quantity("‖βk r‖", "norm of what was erased to make room", "norm", "positive", GDN),
    "written": Quantity("‖βk v‖", "norm of what was written", "norm", "positive", GDN),
    "surprise": Quantity("‖e‖/‖v‖", "norm of the error over that of the value", "1", "positive", GDN),
    "energy": Quantity("Δ‖S‖²", "change of the state's squared norm", "norm²", "signed", GDN),
    "survival": Quantity("s", "share of a stored key that is left", "fraction", "fraction", GDN),
    "returned": Quantity("kᵀΦk", "share of its value that a stored key still calls up", "1", "signed", f"{GDN} sec. 3"),
    "decay_only": Quantity("Πα", "share that decay alone would have left", "fraction", "fraction", GDN),
    "share": Quantity("⟨S', S⟩/‖S‖²", "share of the state that a part of the prompt wrote", "share", "signed", GDN),
    "part_norm": Quantity("‖S'‖/‖S‖", "norm of what a part wrote over that of the state", "1", "positive", GDN),
    "removed": Quantity("Δs", "share of a stored key that this token erased", "fraction", "fraction", GDN),
    "age": Quantity("t½", "tokens after which half of a stored key is left", "tokens", "positive", GDN),
    "contribution": Quantity("c", "weight of the source's value in the recall of a key", "1", "signed", GDN),
    "signal": Quantity("c v", "norm of the right value in the recall of a key", "norm", "positive", GDN),
    "crosstalk": Quantity("Σ|c|‖v‖", "norms of all other values in the recall of a key", "norm", "positive", GDN),
    "recall": Quantity("ρ", "cosine of the recalled and the stored value", "1", "signed", GDN),
    "singular": Quantity("σ", "singular values of the state", "norm", "positive", GDN),
    "stable_rank": Quantity("‖S‖²/σ₁²", "stable rank of the state", "1", "positive", "Rudelson, Vershynin 2007"),
    "effective_rank": Quantity("erank", "exp of the entropy of σ²/Σσ²", "1", "positive", "Roy, Vetterli 2007"),
    "difference": Quantity("‖ΔS‖/‖S‖", "difference of two states over the norm of the second", "1", "positive", GDN),
    "angle": Quantity("θ", "principal angle between key subspaces", "degrees", "positive", "Björck, Golub 1973"),
    "readout": Quantity("‖ΔSᵀq‖", "what the difference of two states says to a query", "norm", "positive", GDN),
    "predicted": Quantity("δo", "predicted change of what the head reads", "norm", "signed", GDN),
    "measured": Quantity("δo", "measured change of what the head reads", "norm", "signed", GDN),
    "logit": Quantity("s", "softmax logit, before the softmax", "1", "signed", "arXiv 1706.03762 eq. 1"),
    "value_norm": Quantity("‖v‖", "norm of the source's value", "norm", "positive", "arXiv 2004.10102"),
    "contribution_norm": Quantity("‖c‖", "norm of what a source adds to the residual stream", "norm", "positive", GQA),
    "similarity": Quantity(
        "Σmin", "overlap of two heads' attention, mean over rows", "fraction", "fraction", "this run"
    ),
    "entropy": Quantity("H", "entropy of the attention row", "nat", "positive", "arXiv 1706.03762"),
    "support": Quantity("e^H", "sources the attention row is spread over", "tokens", "positive", "arXiv 1706.03762"),
    "sink": Quantity("sink", "attention mass on the first sources", "fraction", "fraction", "arXiv 2309.17453"),
    "local": Quantity("local", "attention mass on the last sources", "fraction", "fraction", "arXiv 1706.03762"),
    "distance": Quantity("d", "mean distance of what is attended to", "tokens", "positive", "arXiv 1706.03762"),
    "histogram": Quantity("P(d)", "attention mass by distance", "fraction", "fraction", "arXiv 1706.03762"),
    "pooled": Quantity("P", "attention mass of a block, mean over rows", "fraction", "fraction", "arXiv 1706.03762"),
    "mass": Quantity("P", "attention mass on a part of the prompt", "fraction", "fraction", "arXiv 1706.03762"),
    "wavelength": Quantity("λ", "wavelength of a rotary pair", "tokens", "positive", "arXiv 2104.09864"),
    "scaled_wavelength": Quantity("λ'", "wavelength under a scaling", "tokens", "positive", "arXiv 2309.00071"),
    "slowed": Quantity("ω/ω'", "how many times slower a pair turns", "1", "positive", "arXiv 2309.00071"),
    "ramp": Quantity("ramp", "how far a pair is interpolated", "fraction", "fraction", "arXiv 2309.00071"),
    "turns": Quantity("turns", "turns of a pair over a distance", "turns", "positive", "arXiv 2104.09864"),
    "new": Quantity("new", "unseen phases, share of a turn", "fraction", "fraction", "arXiv 2309.00071"),
    "part": Quantity("s_b", "part of the logit from a band", "1", "signed", "arXiv 2104.09864"),
    "margin": Quantity("Δlog p", "log-probability of the answer minus that of the foil", "nat", "signed", "this run"),
    "vocab_logit": Quantity("z", "logit of a token of the vocabulary", "nat", "signed", "transformers"),
    "loss": Quantity("-log p", "negative log-likelihood per token", "nat", "positive", "this run"),
    "effect": Quantity("Δ", "change that an intervention causes", "1", "signed", "this run"),
    "tokens": Quantity("n", "tokens", "tokens", "positive", "this run"),
    "calls": Quantity("n", "calls of the model", "calls", "positive", "this run"),
    "seconds": Quantity("t", "time", "s", "positive", "this run"),
    "gibibytes": Quantity("m", "memory", "GiB", "positive", "labkit.spec"),
    "right": Quantity("right", "share of right answers", "fraction", "fraction", "this run"),
    "logit_gap": Quantity("max |Δz|", "largest difference of two rows of logits", "nat", "positive", "this run"),
}


def visible(text: str) -> str:
    """A token's text made readable: spaces, newlines and control characters become visible signs.

    Only for display; escaping for HTML or plotly happens where the text is placed (`labkit.draw`).
    """
    signs = {" ": "␣", "\n": "⏎", "\t": "⇥", "\r": "␍"}
    if text == " " * len(text) or text.strip() == "":
        return "".join(signs.get(c, c) for c in text) or "∅"
    return inert(text.replace("\n", "⏎").replace("\t", "⇥").replace("\r", "␍"))


def is_index(value: object) -> bool:
    """Whether a selection is one index instead of several; numpy integers and tensors of one integer count."""
    return is_whole(value)


def whole_numbers(values: int | Sequence[int], axis: str, *, least: int | None = None) -> list[int]:
    """An index, or several, as a list of ints, none of them below `least`.

    Raises:
        InputError: truth values (a mask), fractions, texts, something that holds no numbers, or a number below `least`.
    """
    entries = [values] if is_index(values) else values.tolist() if hasattr(values, "tolist") else values
    long = isinstance(entries, range) and len(entries) > LONGEST
    if long or isinstance(entries, str | bytes | Mapping) or not isinstance(entries, Iterable):
        raise InputError(f"{axis} is no selection", got=repr(values)[:80], expected="an int, or several")
    entries = list(entries)
    if wrong := [entry for entry in entries if not is_index(entry)]:
        hint = "np.flatnonzero(mask)" if any(isinstance(entry, bool) for entry in wrong) else None
        raise InputError(f"{axis} must be whole numbers", got=wrong[:4], expected="an int, or several", hint=hint)
    found = [int(entry) for entry in entries]
    low = -WIDEST if least is None else least
    if outside := [entry for entry in found if not low <= entry <= WIDEST]:
        expected = "what fits 64 bits" if least is None else f"{least} or more"
        raise InputError(f"{axis} out of range", got=outside[:4], expected=expected)
    return found


def select(values: int | Sequence[int] | slice | None, count: int, axis: str) -> list[int]:
    """Indices along an axis as a list; None is all, an int is one, negative counts from the end.

    Raises:
        InputError: out of range, none chosen, or no whole numbers.
    """
    if values is None:
        return list(range(count))
    ends = [values[0], values[-1]] if isinstance(values, range) and values else []
    if outside := [end for end in ends if not -count <= end < count]:  # before a long one is listed
        raise InputError(f"{axis} out of range", got=outside, expected=f"0 to {count - 1}")
    chosen = whole_numbers(range(*values.indices(count)) if isinstance(values, slice) else values, axis)
    if not chosen:
        raise InputError(f"no {axis} chosen", expected=f"{axis} 0 to {count - 1}, or None for all")
    if outside := [value for value in chosen if not -count <= value < count]:
        raise InputError(f"{axis} out of range", got=outside, expected=f"0 to {count - 1}")
    return [value % count for value in chosen]


def label(variables: dict, *, coords: dict | None = None, attrs: dict | None = None) -> "xarray.Dataset":  # noqa: F821
    """The one door from tensors to labelled data.

    Args:
        variables: `{name: (dims, tensor, quantity)}`. Dims are names from `AXES` or of the user's own; the tensor is
            any torch or numpy array (detached, moved to the CPU; half precisions become float32). The quantity says
            what the numbers are: a key of `QUANTITIES`, a `Quantity`, or None for counts; the name says nothing.
        coords: `{axis: values}`; a pair `(axis, values)` adds a second coordinate along that axis, and a third entry
            `(axis, values, long_name)` says what the coordinate is, for the axes of plots.
        attrs: facts about the whole reading: model, layer, parity, tolerance, ...

    Returns:
        `xarray.Dataset`; every variable with a quantity carries its symbol, unit, scale and source as attributes.

    Raises:
        InputError: a variable without its quantity, an unknown quantity, or dims that do not fit the tensor.
    """
    import xarray

    data = {}
    for name, variable in variables.items():
        if len(variable) != 3:
            expected = "(dims, tensor, quantity); the quantity is None for counts"
            raise InputError(f"{name} does not say what it is", got=f"{len(variable)} entries", expected=expected)
        dims, array, quantity = variable
        array = plain(array)
        if wrong := [axis for axis in dims if not isinstance(axis, str) or not axis.isidentifier()]:
            raise InputError(f"{name}: not names of axes", got=wrong, expected="identifiers, " + ", ".join(AXES))
        if len(dims) != array.ndim:
            raise InputError(f"{name}: one axis name per dimension", got=f"shape {array.shape}", expected=dims)
        data[name] = (dims, array, described(quantity))
    return xarray.Dataset(data, coords={k: _coord(v) for k, v in (coords or {}).items()}, attrs=attrs or {})


def described(quantity: str | Quantity | None) -> dict:
    """Attributes of a variable from its quantity: a key of `QUANTITIES`, a `Quantity`, or None.

    Raises:
        InputError: an unknown key.
    """
    if quantity is None:
        return {}
    if isinstance(quantity, str):
        if quantity not in QUANTITIES:
            near = difflib.get_close_matches(quantity, QUANTITIES) or list(QUANTITIES)
            raise InputError("unknown quantity", got=quantity, expected=", ".join(near))
        quantity = QUANTITIES[quantity]
    return dataclasses.asdict(quantity)


def _coord(values):
    if not (isinstance(values, tuple) and len(values) in (2, 3) and isinstance(values[0], str)):
        return plain(values)
    if isinstance(values[1], str):  # a tuple of names
        return plain(values)
    axis, numbers, *long_name = values
    return (axis, plain(numbers), {"long_name": long_name[0]} if long_name else {})


def plain(array) -> "numpy.ndarray":  # noqa: F821
    """A numpy array from a torch tensor (bfloat16 and float16 become float32), a list or an array."""
    import numpy

    if hasattr(array, "detach"):
        array = array.detach().cpu()
        if array.is_floating_point() and array.element_size() < 4:
            array = array.float()
        return array.numpy()
    return numpy.asarray(array)
