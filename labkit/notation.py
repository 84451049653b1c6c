"""The alphabet of labkit: names of axes and quantities, and the one door from tensors to labelled data.

    notation.QUANTITIES["keep"]                  # symbol, unit, scale, source
    notation.label({"norm": (("token",), [1.0, 2.0], "value_norm")}, coords={"token": [0, 1]})

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

`run.names` prints the same for every seam of a model: labkit, TransformerLens, module of Hugging Face.
"""

import dataclasses
import difflib
from collections.abc import Iterable, Mapping, Sequence

from labkit.arguments import LONGEST, WIDEST, is_whole
from labkit.errors import InputError
from labkit.quantities import GDN as GDN
from labkit.quantities import MOE as MOE
from labkit.quantities import QUANTITIES, Quantity
from labkit.signs import inert

__all__ = [
    "AXES",
    "GDN",
    "MOE",
    "NUMBERED",
    "QUANTITIES",
    "SPOKEN",
    "Quantity",
    "described",
    "is_index",
    "label",
    "plain",
    "select",
    "spoken",
    "together",
    "visible",
    "whole_numbers",
]

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
SPOKEN = {  # what figures call an axis, where its name alone does not say it
    "head": "head",
    "at_token": "token",
    "key_head": "key head",
    "kv_head": "key/value head",
    "key": "channel of the key",
    "value": "channel of the value",
    "head_dim": "channel of the head",
    "vocab": "entry of the vocabulary",
    "pair": "rotary pair",
    "other_head": "second query head",
    "source_block": "block of sources",
    "gap": "tokens between a fact and its question",
    "length": "tokens of the prompt",
    "depth": "depth in the prompt",
    "band": "rotary band",
    "segment": "part of the prompt",
    "mode": "singular direction",
    "bin": "tokens back",
    "reader": "head of the layer",
    "block": "block of tokens",
}
# Axes whose numbers are names: 0, 1, 2, 4 are four layers, not four places on a scale.
NUMBERED = {"layer", "head", "key_head", "query_head", "kv_head", "reader", "other_head", "expert", "choice", "sample"}
NUMBERED |= {"turn", "call", "link", "mode", "vocab", "key", "value", "head_dim", "channel"}


def spoken(axis: str) -> str:
    """What a figure calls an axis or a variable: "key/value head" for `kv_head`; a name of the user's own as it is."""
    return SPOKEN.get(axis) or axis.replace("_", " ")


def visible(text: str) -> str:
    """A token's text made readable: spaces, newlines and control characters become visible signs.

    Only for display; escaping for HTML or plotly happens where the text is placed (`labkit.draw`).
    """
    signs = {" ": "␣", "\n": "⏎", "\t": "⇥", "\r": "␍"}
    if text == " " * len(text) or text.strip() == "":
        return "".join(signs.get(c, c) for c in text) or "∅"
    return inert(text.replace("\n", "⏎").replace("\t", "⇥").replace("\r", "␍"))


def is_index(value: object) -> bool:
    """Whether a selection, `value`, is one index instead of several; numpy integers and tensors of one integer
    count.
    """
    return is_whole(value)


def whole_numbers(values: int | Sequence[int], axis: str, *, least: int | None = None) -> list[int]:
    """An index along `axis`, or several, as a list of ints, none of them below `least`.

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
    """Indices `values` along an `axis` of `count` entries as a list; None is all, an int is one, negative counts
    from the end.

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
        variables: `{name: (dims, tensor, quantity)}`. Dims are names from `AXES`, which have their meaning, or words of
            the user's own ("facts after"), which mean what they say; the tensor is
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
        if wrong := [axis for axis in dims if not isinstance(axis, str) or not axis.strip()]:
            raise InputError(f"{name}: not names of axes", got=wrong, expected="words, or of " + ", ".join(AXES))
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


def together(parts: "Mapping[str, xarray.DataArray]") -> "xarray.DataArray":  # noqa: F821
    """Several quantities as one array with a first axis `term`: what they have in common stays, what differs goes.

    `xarray.concat` would label all of them with the symbol of the first, and with its layer.

    Args:
        parts: `{name: array}`; the names become the entries of `term`.

    Returns:
        `xarray.DataArray`; its symbol, unit and scale are those that all parts have, or absent.

    Raises:
        InputError: no parts, or something that is no labelled array.
    """
    import xarray

    hint = 'notation.together({"erased": ds.erased, "written": ds.written})'
    if not parts:
        raise InputError("nothing to put together", got="no parts", hint=hint)
    if wrong := [type(part).__name__ for part in parts.values() if not isinstance(part, xarray.DataArray)]:
        raise InputError("labelled arrays are put together", got=wrong[0], expected="xarray.DataArray", hint=hint)
    arrays = [part.rename(None) for part in parts.values()]
    own = {name for part in arrays for name in part.coords if name not in part.dims}
    has = lambda name: all(name in part.coords and part[name].equals(arrays[0][name]) for part in arrays)  # noqa: E731
    apart = [name for name in own if name not in arrays[0].coords or not has(name)]
    arrays = [part.drop_vars(apart, errors="ignore") for part in arrays]
    options = {"coords": "minimal", "compat": "override", "join": "outer", "combine_attrs": "drop_conflicts"}
    return xarray.concat(arrays, "term", **options).assign_coords(term=list(parts))


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


def __dir__():
    return sorted(__all__)
