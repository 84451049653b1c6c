"""Spec: the sizes of one model, the rules they obey, and the strip of its layers.

D  Gated DeltaNet    `key_heads` query/key heads of dk, `value_heads` value heads of dv, a state [head, key, value]
A  gated attention   `query_heads` of head_dim over `kv_heads`; the first `rotary_dim` channels are rotated
"""

import dataclasses
import functools
from collections.abc import Iterable, Mapping

from labkit.errors import InputError
from labkit.families import ATTENTION, DELTANET, FAMILIES, Seam
from labkit.spec import memory
from labkit.spec.card import Card
from labkit.spec.compute import Gpu
from labkit.spec.units import parameter_count
from labkit.tables import Coloured, Table

LETTERS = {DELTANET: "D", ATTENTION: "A"}
LAYERS = 10_000  # more are no model but a mistake
COLOURS = {"D": "#0072B2", "A": "#D55E00"}  # everywhere in labkit
POSITIVE = (
    "hidden",
    "intermediate",
    "vocab",
    "key_heads",
    "value_heads",
    "dk",
    "dv",
    "conv",
    "query_heads",
    "kv_heads",
)
POSITIVE += ("head_dim", "window")


@dataclasses.dataclass(frozen=True, repr=False)
class Spec(Table):
    """Everything about a model that follows from its configuration; made by `labkit.spec.read`.

    Attributes:
        name: shown in titles. family: key in `labkit.families.FAMILIES`.
        hidden, intermediate, vocab: widths of the residual stream, of the MLP, and of the vocabulary.
        tied: whether lm_head is the embedding.
        kinds: "deltanet" or "attention" for every layer.
        key_heads, value_heads: query/key heads and value heads of a DeltaNet layer; value head h uses key head
            h // (value_heads / key_heads).
        dk, dv: channels of a DeltaNet key and value. conv: taps of the short convolution.
        query_heads, kv_heads, head_dim: of an attention layer; query head h reads kv head
            h // (query_heads / kv_heads).
        rotary_dim: leading channels of a query or key that are rotated. rope_theta: base of the frequencies.
        window: positions the model was trained for (`max_position_embeddings`).
        eps: of the RMS norms. mtp_layers: layers of the multi-token-prediction head, which is not loaded.
        vision: sizes of the image tower as in its configuration, or None.
        dtype: as the configuration states it, or None.
        experts, active_experts: of an MLP with experts, in all and for one token, each of width `intermediate`;
            0 without. shared_intermediate: width of the expert that every token uses.

    Raises:
        InputError: an unknown family, a size below 1, more experts for a token than there are, heads that do not
            divide, a rotary part that is odd or too wide, an unknown kind of layer.
    """

    name: str
    family: str
    hidden: int
    intermediate: int
    vocab: int
    tied: bool
    kinds: tuple
    key_heads: int
    value_heads: int
    dk: int
    dv: int
    conv: int
    query_heads: int
    kv_heads: int
    head_dim: int
    rotary_dim: int
    rope_theta: float
    window: int
    eps: float
    mtp_layers: int = 0
    vision: dict | None = dataclasses.field(default=None, hash=False)
    dtype: str | None = None
    experts: int = 0
    active_experts: int = 0
    shared_intermediate: int = 0

    def __post_init__(self):
        object.__setattr__(self, "kinds", tuple(self.kinds))
        for field in POSITIVE:
            value = getattr(self, field)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise InputError(f"{field} is not a size", got=repr(value), expected="a whole number of at least 1")
        if self.family not in FAMILIES:
            raise InputError("unknown family", got=repr(self.family), expected=", ".join(FAMILIES))
        if not 0 <= self.active_experts <= self.experts or bool(self.experts) != bool(self.active_experts):
            got = f"{self.active_experts} of {self.experts} experts"
            raise InputError("experts for one token are not a part of all", got=got, expected="1 of them to all")
        if not self.kinds:
            raise InputError("a model without layers", got="kinds is empty", expected=f"{DELTANET} or {ATTENTION} each")
        if unknown := sorted(set(map(str, self.kinds)) - set(LETTERS)):
            raise InputError("unknown kind of layer", got=unknown, expected=f"{DELTANET} or {ATTENTION}")
        for many, few in (("value_heads", "key_heads"), ("query_heads", "kv_heads")):
            if getattr(self, many) % getattr(self, few):
                got = f"{many} {getattr(self, many)}, {few} {getattr(self, few)}"
                raise InputError(f"{many} do not divide evenly over {few}", got=got, expected="a whole multiple")
        if self.rotary_dim % 2 or not 0 < self.rotary_dim <= self.head_dim:
            expected = f"an even number from 2 to head_dim {self.head_dim}"
            raise InputError("the rotary part does not fit the head", got=self.rotary_dim, expected=expected)
        if not 1 < self.rope_theta < 1e30:
            raise InputError("rope_theta is not a base of frequencies", got=self.rope_theta, expected="above 1")
        if not 0 < self.eps < 1:
            raise InputError("eps is not the epsilon of a norm", got=self.eps, expected="above 0, below 1")

    @property
    def layers(self) -> int:
        """Number of layers in the stack."""
        return len(self.kinds)

    def layers_of(self, kind: str) -> tuple[int, ...]:
        """Indices of the layers of a kind; of "experts", of all whose MLP has them."""
        if kind == "experts":
            return tuple(range(self.layers)) if self.experts else ()
        return tuple(layer for layer, own in enumerate(self.kinds) if own == kind)

    def differing(self, other: "Spec") -> list[str]:
        """Fields of two models that differ, but for their names and the dtype that their configurations state."""
        return [
            name
            for name, value in vars(self).items()
            if name not in ("name", "dtype") and value != getattr(other, name)
        ]

    @property
    def seams(self) -> Mapping[str, Mapping[str, Seam]]:
        """`{kind: {name: labkit.families.Seam}}` of this model's layers."""
        return FAMILIES[self.family].seams

    @functools.cached_property
    def widths(self) -> dict[str, dict[str, int]]:
        """`{kind: {seam: numbers per token that its module's tensor holds}}`."""
        return {kind: {name: seam.width(self) for name, seam in seams.items()} for kind, seams in self.seams.items()}

    @property
    def axis_sizes(self) -> dict[str, int]:
        """Lengths of the axes of seams and states, by name."""
        return {
            "head": self.value_heads,
            "key_head": self.key_heads,
            "query_head": self.query_heads,
            "kv_head": self.kv_heads,
            "key": self.dk,
            "value": self.dv,
            "head_dim": self.head_dim,
            "expert": self.experts,
            "choice": self.active_experts,
        }

    @property
    def deltanet_layers(self) -> tuple[int, ...]:
        """Indices of the Gated DeltaNet layers."""
        return self.layers_of(DELTANET)

    @property
    def attention_layers(self) -> tuple[int, ...]:
        """Indices of the gated attention layers."""
        return self.layers_of(ATTENTION)

    @property
    def conv_channels(self) -> int:
        """Channels of the short convolution: query, key and value side by side."""
        return 2 * self.key_heads * self.dk + self.value_heads * self.dv

    def kind(self, layer: int) -> str:
        """ "deltanet" or "attention".

        Raises:
            InputError: no such layer; layers count from 0 and negative ones are refused.
        """
        return self.kinds[self._index(layer, self.layers, "layer")]

    def key_head(self, head: int) -> int:
        """The query/key head that a value head of a DeltaNet layer uses."""
        return self._index(head, self.value_heads, "head") * self.key_heads // self.value_heads

    def kv_head(self, query_head: int) -> int:
        """The key/value head that a query head of an attention layer reads."""
        return self._index(query_head, self.query_heads, "query_head") * self.kv_heads // self.query_heads

    def kv_groups(self, query_heads: Iterable[int]) -> dict[int, list[int]]:
        """`{key/value head: places in `query_heads` of those that read it}`."""
        groups: dict[int, list[int]] = {}
        for place, head in enumerate(query_heads):
            groups.setdefault(self.kv_head(head), []).append(place)
        return groups

    def _index(self, value, count, axis):
        if isinstance(value, bool) or not hasattr(value, "__index__") or not 0 <= value < count:
            hint = self.strip() if axis == "layer" else None
            raise InputError(f"{axis} out of range", got=repr(value), expected=f"0 to {count - 1}", hint=hint)
        return value.__index__()

    def strip(self) -> str:
        """The layers in order as text, a group ending with each attention layer: `D D D A · D D D A`."""
        signs = []
        for layer, kind in enumerate(self.kinds):
            signs.append(LETTERS[kind])
            if kind == ATTENTION and layer + 1 < self.layers:
                signs.append("·")
        return " ".join(signs)

    def facts(self) -> tuple[tuple[str, str, str], ...]:
        """Rows (group, name, value) that both the text and the HTML show."""
        total = memory.parameters(self)
        count = f"{parameter_count(total['text'])} text"
        count += f" + {parameter_count(total['vision'])} vision" if total["vision"] else ""
        count += f" + {parameter_count(total['mtp'])} multi-token prediction (not loaded)" if total["mtp"] else ""
        count += f" · {parameter_count(memory.active_parameters(self))} for one token" if self.experts else ""
        deltas, attentions = len(self.deltanet_layers), len(self.attention_layers)
        tie = "tied to lm_head" if self.tied else "lm_head apart"
        delta = f"{self.key_heads} query/key heads of {self.dk} · {self.value_heads} value heads of {self.dv}"
        delta += f" · state {self.value_heads} × {self.dk} × {self.dv} · convolution of {self.conv} taps"
        attend = f"{self.query_heads} query heads over {self.kv_heads} key/value heads of {self.head_dim}"
        attend += f" · {self.rotary_dim} rotary channels, θ {self.rope_theta:,.0f} · sigmoid output gate"
        mlp = f"MLP {self.intermediate:,}"
        if self.experts:
            mlp = f"{self.active_experts} of {self.experts} experts of {self.intermediate:,}"
            mlp += f" and a shared one of {self.shared_intermediate:,}"
        rows = (
            ("layers", f"{self.layers} = {deltas} D (Gated DeltaNet) + {attentions} A (gated attention)"),
            ("strip", Coloured(self.strip(), COLOURS)),
            (
                "widths",
                f"hidden {self.hidden:,} · {mlp} · vocabulary {self.vocab:,}, {tie}",
            ),
            ("D layer", delta),
            ("A layer", attend),
            ("window", f"{self.window:,} tokens"),
            ("parameters", count),
            ("dtype", str(self.dtype or "not stated")),
        )
        return tuple(("anatomy", *row) for row in rows)

    @property
    def title(self) -> str:
        """Heading of its table."""
        return self.name

    def card(
        self,
        *,
        tokens: int | None = None,
        gpu: str | Gpu | None = "H200",
        dtype="bfloat16",
        quantize: str | None = None,
        kv_dtype=None,
    ) -> Card:
        """The cost card: parameters, bytes and FLOPs by component, cache, prefill and decode on a GPU.

        Args:
            tokens: context length; None is the window.
            gpu: a name in `labkit.spec.GPUS`, a `Gpu`, or None for a card without times.
            dtype: of weights and activations.
            quantize: None, "nf4", "int4", "int8" or "fp8"; linear weights only.
            kv_dtype: of cached keys and values; None is `dtype`.

        Returns:
            `Card`, with `numbers` in bytes, FLOPs and seconds, and a text and an HTML repr of the same facts.

        Raises:
            InputError: unknown GPU, dtype or quantisation, or a length below 1.
        """
        tokens = self.window if tokens is None else tokens
        return Card(self, tokens=tokens, gpu=gpu, dtype=dtype, quantize=quantize, kv_dtype=kv_dtype)
