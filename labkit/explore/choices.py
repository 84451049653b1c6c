"""What is chosen: prompt, layer, head, token, views and edits. Values alone, so that they can be kept in a file."""

import dataclasses
from collections.abc import Mapping

from labkit.arguments import whole
from labkit.errors import InputError
from labkit.explore.asks import Prompt, plain
from labkit.explore.toggles import Toggle, checked
from labkit.notation import is_index
from labkit.spec import ATTENTION, DELTANET, Spec

WIDE = 96  # tokens that are seen at once
SHOWS = ("before", "after", "difference")
CARDS = {DELTANET: "reads", ATTENTION: "row", "stream": "lens"}  # and the view that each begins with


@dataclasses.dataclass(frozen=True)
class Choice:
    """One place to look at.

    Attributes:
        prompt: a text, or token ids; "" before the first.
        layer: the chosen one. beside: the DeltaNet layer that stands beside an attention layer that is chosen.
        head: of DeltaNet layers. query_head: of attention layers.
        token: counted from the prompt's first; -1 before it was read.
        first: the first token that is seen; `WIDE` follow.
        deltanet, attention, stream: names of the views. show: with edits, one of `SHOWS`.
        toggles: edits that are on. answer: token id whose logit is followed; None for the likeliest.
    """

    prompt: Prompt = ""
    layer: int = 0
    beside: int | None = None
    head: int = 0
    query_head: int = 0
    token: int = -1
    first: int = 0
    deltanet: str = CARDS[DELTANET]
    attention: str = CARDS[ATTENTION]
    stream: str = CARDS["stream"]
    show: str = "after"
    toggles: tuple[Toggle, ...] = ()
    answer: int | None = None

    def facts(self) -> dict:
        """What JSON can hold of it; `read` gives it back."""
        made = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        made["prompt"] = self.prompt if isinstance(self.prompt, str) else list(self.prompt)
        made["toggles"] = [list(dataclasses.astuple(each)) for each in self.toggles]
        return made

    def pair(self, spec: Spec) -> dict[str, int | None]:
        """`{"deltanet": layer or None, "attention": layer or None}`: the chosen layer and that of the other kind.

        A block ends with its attention layer: beside a DeltaNet layer stands that of its block, beside an attention
        layer the DeltaNet layer of its block that was chosen last, else the one before it.
        """
        kind = spec.kind(self.layer)
        if kind == DELTANET:
            return {DELTANET: self.layer, ATTENTION: next((a for a in spec.attention_layers if a > self.layer), None)}
        before = max((a for a in spec.attention_layers if a < self.layer), default=-1)
        block = [d for d in spec.deltanet_layers if before < d < self.layer]
        last = block[-1] if block else None
        return {DELTANET: self.beside if self.beside in block else last, ATTENTION: self.layer}

    def layers(self, spec: Spec) -> list[int]:
        """The layers of the pair that there are."""
        return [layer for layer in self.pair(spec).values() if layer is not None]

    def fitted(self, views: Mapping[str, tuple[str, ...]]) -> "Choice":
        """The same, with the first view of a card where the model has not the one that it names."""
        first = {card: names[0] for card, names in views.items() if names and getattr(self, card) not in names}
        return dataclasses.replace(self, **first)

    def window(self, length: int) -> range:
        """The tokens that are seen."""
        return range(self.first, min(self.first + WIDE, length))

    def picked(self, spec: Spec, length: int | None, views: Mapping[str, tuple[str, ...]], **changes) -> "Choice":
        """Another choice: checked, with the window where the token is.

        Args:
            length: tokens of the prompt; None before it was read. views: names of the views of every card.

        Raises:
            InputError: an unknown name, a layer, head, token, view or edit that there is not.
        """
        if unknown := sorted(set(changes) - {field.name for field in dataclasses.fields(self)}):
            raise InputError("not a part of a choice", got=unknown[:4], expected=", ".join(self.facts()))
        for name, count in {"layer": spec.layers, "head": spec.value_heads, "query_head": spec.query_heads}.items():
            if name in changes:
                changes[name] = whole(changes[name], name, least=0, most=count - 1)
        if changes.get("answer") is not None:
            changes["answer"] = whole(changes["answer"], "answer", least=0, most=spec.vocab - 1)
        if changes.get("beside") is not None:
            changes["beside"] = whole(changes["beside"], "beside", least=0, most=spec.layers - 1)
        for name in ("token", "first"):
            if name in changes:
                least, most = (-1, 2**40) if length is None else (0, length - 1)
                changes[name] = whole(changes[name], name, least=least, most=most)
        for name, known in {**views, "show": SHOWS}.items():
            if name in changes and changes[name] not in known:
                raise InputError(f"no such {name} view", got=repr(changes[name])[:80], expected=", ".join(known))
        if "toggles" in changes:
            given = changes["toggles"] if isinstance(changes["toggles"], list | tuple) else [changes["toggles"]]
            given = [dataclasses.astuple(each) if isinstance(each, Toggle) else each for each in given]
            changes["toggles"] = tuple(dict.fromkeys(checked(each, spec, length) for each in given))
        if "prompt" in changes:
            changes["prompt"] = plain(changes["prompt"])
        if "layer" in changes and "beside" not in changes and spec.kind(changes["layer"]) == DELTANET:
            changes["beside"] = changes["layer"]
        made = dataclasses.replace(self, **changes)
        if length is not None and not {"first"} & set(changes) and made.token not in made.window(length):
            made = dataclasses.replace(made, first=max(0, min(made.token - WIDE // 2, length - WIDE)))
        return made


def read(facts: object, spec: Spec, views: Mapping[str, tuple[str, ...]]) -> Choice:
    """A choice from what `Choice.facts` gave.

    Raises:
        InputError: as `Choice.picked`, or something else than facts.
    """
    if not isinstance(facts, dict) or not all(isinstance(key, str) for key in facts):
        raise InputError("not a kept choice", got=type(facts).__name__, expected="a JSON object")
    if not isinstance(facts.get("prompt", ""), str | list) or not is_index(facts.get("token", 0)):
        raise InputError("not a kept choice", got=repr(facts)[:80], expected="prompt and token")
    return Choice().picked(spec, None, views, **facts)
