"""Spec: the sizes of one model, the rules they obey, and the strip of its layers.

D  Gated DeltaNet    `key_heads` query/key heads of dk, `value_heads` value heads of dv, a state [head, key, value]
A  gated attention   `query_heads` of head_dim over `kv_heads`; the first `rotary_dim` channels are rotated
"""

import dataclasses
import functools
from collections.abc import Iterable, Mapping

from labkit.errors import InputError
from labkit.families import ATTENTION, DELTANET, FAMILIES, Seam
from labkit.spec.card import Card
from labkit.spec.compute import Gpu
from labkit.spec.told import told
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
        rotary_dim: leading channels of a query or key that are rotated. rope_theta: base of the frequencies; both are 0
            where nothing is.
        window: positions the model was trained for (`max_position_embeddings`).
        eps: of the RMS norms. mtp_layers: layers of the multi-token-prediction head, which is not loaded.
        vision: sizes of the image tower as in its configuration, or None.
        dtype: as the configuration states it, or None.
        most_write: the largest write strength β, 1 or 2; above 1 a write reflects the state along its key.
        experts, active_experts: of an MLP with experts, in all and for one token, each of width `intermediate`;
            0 without. shared_intermediate: width of the expert that every token uses. dense_layers,
            dense_intermediate: how many of the first layers have an MLP without experts, and its width.
        latent: of latent attention, which caches keys and values of all heads as so many numbers, and shared key
            channels beside them; plain: further channels of a key, made of the latent. query_latent: the same of
            queries, or 0. All 0 without.

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
    most_write: int = 1
    dense_layers: int = 0
    dense_intermediate: int = 0
    latent: int = 0
    shared: int = 0
    plain: int = 0
    query_latent: int = 0

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
        if not 0 <= self.dense_layers <= len(self.kinds) or bool(self.dense_layers) > bool(self.dense_intermediate):
            got = f"{self.dense_layers} dense layers of width {self.dense_intermediate}"
            raise InputError("layers without experts are not a part of all", got=got, expected="some of the first")
        if not self.kinds:
            raise InputError("a model without layers", got="kinds is empty", expected=f"{DELTANET} or {ATTENTION} each")
        if unknown := sorted(set(map(str, self.kinds)) - set(LETTERS)):
            raise InputError("unknown kind of layer", got=unknown, expected=f"{DELTANET} or {ATTENTION}")
        for many, few in (("value_heads", "key_heads"), ("query_heads", "kv_heads")):
            if getattr(self, many) % getattr(self, few):
                got = f"{many} {getattr(self, many)}, {few} {getattr(self, few)}"
                raise InputError(f"{many} do not divide evenly over {few}", got=got, expected="a whole multiple")
        if self.most_write not in (1, 2):
            raise InputError("not a largest write strength", got=self.most_write, expected="1 or 2")
        if self.rotary_dim == self.rope_theta == 0:
            pass
        elif self.rotary_dim % 2 or not 0 < self.rotary_dim <= self.head_dim:
            expected = f"an even number from 2 to head_dim {self.head_dim}"
            raise InputError("the rotary part does not fit the head", got=self.rotary_dim, expected=expected)
        elif not 1 < self.rope_theta < 1e30:
            raise InputError("rope_theta is not a base of frequencies", got=self.rope_theta, expected="above 1")
        if not 0 < self.eps < 1:
            raise InputError("eps is not the epsilon of a norm", got=self.eps, expected="above 0, below 1")

    @property
    def layers(self) -> int:
        """Number of layers in the stack."""
        return len(self.kinds)

    def layers_of(self, kind: str) -> tuple[int, ...]:
        """Indices of the layers of a kind; of "experts", of all whose router is a seam."""
        if kind == "experts":
            return tuple(layer for layer, own in enumerate(self.kinds) if "router" in self.seams[own])
        return _places(self.kinds, kind)

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

    def having(self, kind: str, names: Iterable[str]) -> tuple[str, ...]:
        """Those of some seams that the layers of a kind have; "experts" are layers of either kind."""
        return tuple(
            name for name in names if any(name in self.seams[own] for own in self.seams if kind in (own, "experts"))
        )

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
    def cached(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """(heads, channels) of what an attention layer caches of a token as its keys, and as its values."""
        return ((1, self.latent), (1, self.shared)) if self.latent else ((self.kv_heads, self.head_dim),) * 2

    @property
    def latent_channels(self) -> int:
        """Numbers of a token that latent attention makes keys and values of."""
        return self.latent + self.shared

    @property
    def decays(self) -> int:
        """Decays of a DeltaNet head at each token: 1, or dk where every key channel has its own."""
        return self.dk if "key" in self.seams[DELTANET]["a"].dims else 1

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
        return tuple(
            ("anatomy", name, Coloured(text, COLOURS) if name == "strip" else text) for name, text in told(self)
        )

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


@functools.cache
def _places(kinds, kind):
    return tuple(layer for layer, own in enumerate(kinds) if own == kind)
