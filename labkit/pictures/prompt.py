"""A prompt with pictures: what transformers' processor made of it, checked once, with spans and rotary positions."""

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence

import torch

from labkit import plan
from labkit.errors import BackendError, InputError, one_line
from labkit.families import FAMILIES
from labkit.folders import brief
from labkit.pictures import tower
from labkit.spec.memory import dtype_bytes
from labkit.trace import Pictures, Span, axes_of, decoder

KINDS = {"image": ("pixel_values", "image_grid_thw"), "video": ("pixel_values_videos", "video_grid_thw")}
KNOWN = {"input_ids", "attention_mask", "mm_token_type_ids", *(name for names in KINDS.values() for name in names)}


@dataclasses.dataclass(frozen=True, eq=False)
class Seen:
    """A prompt with pictures, read in one pass; made by `see`.

    Attributes:
        ids: [token] token ids, a pad for every token of a picture.
        pictures: `Pictures`: spans, rotary positions from 0 on, axes.
        inputs: pixels and grids, as the model takes them.
        vision: sizes of the tower that it was made for.
    """

    ids: torch.Tensor
    pictures: Pictures
    inputs: dict[str, torch.Tensor]
    vision: dict[str, int]

    def __len__(self):
        return len(self.ids)

    def __repr__(self):
        return f"Seen({len(self)} tokens, {', '.join(span.name for span in self.pictures.spans) or 'no pictures'})"

    @property
    def spans(self) -> tuple[Span, ...]:
        """Those of its pictures."""
        return self.pictures.spans

    @property
    def grids(self) -> list[tuple[int, int, int]]:
        """(steps, rows, columns) of patches of every picture and film that passes the tower."""
        return [tuple(row) for _, grid in KINDS.values() for row in self.inputs.get(grid, torch.empty(0, 3)).tolist()]

    @property
    def marks(self) -> tuple[tuple[int, int, str], ...]:
        """(first, last, digest) of each span, as a cache knows them."""
        return tuple((span.first, span.last, span.digest) for span in self.spans)

    def check(self, lab) -> None:
        """Refuse a lab that it was not made for.

        Raises:
            InputError: a text class, or another tower.
        """
        check_images(lab)
        if lab.spec.vision != self.vision:
            got, hint = "an image tower of other sizes", "pictures.see(lab, messages)"
            raise InputError("this prompt was made for another model", got=got, hint=hint)

    def after(self, tokens: int) -> "Seen":
        """What is left after so many tokens; its positions count from 0 again.

        Raises:
            InputError: nothing is left, or a picture or film would be cut.
        """
        if not 0 <= tokens < len(self):
            raise InputError("nothing is left", got=f"after {tokens} tokens", expected=f"below {len(self)}")
        whole = {}
        for span in self.spans:
            first, _ = whole.get((span.kind, span.number), (span.first, None))
            whole[span.kind, span.number] = first, span.last
        for (kind, number), (first, last) in whole.items():
            if first < tokens < last:
                got = f"token {tokens}, within {kind} {number} at {first} to {last - 1}"
                raise InputError("a picture is read in one pass", got=got, expected=f"{first} or {last}")
        inputs = {}
        for kind, (pixels, grid) in KINDS.items():
            gone = sum(last <= tokens for (each, _), (_, last) in whole.items() if each == kind)
            if grid in self.inputs and gone < len(self.inputs[grid]):
                rows = int(self.inputs[grid][:gone].prod(1).sum())
                inputs |= {pixels: self.inputs[pixels][rows:], grid: self.inputs[grid][gone:]}
        places = self.pictures.position_ids
        start = int(places[:, :tokens].max()) + 1 if tokens else 0
        spans = tuple(span.moved(-tokens) for span in self.spans if span.first >= tokens)
        rest = dataclasses.replace(self.pictures, spans=spans, position_ids=places[:, tokens:] - start)
        return dataclasses.replace(self, ids=self.ids[tokens:], pictures=rest, inputs=inputs)

    def planned(self, made: plan.Plan, lab) -> plan.Plan:
        """A plan of as many tokens, with the pass through the tower, which comes before the layers."""
        if not self.grids:
            return made
        parts = self._tower(lab)
        parts = parts if sum(parts.values()) > made.peak else made.parts
        return dataclasses.replace(made, parts=parts, flops=made.flops + tower.flops(self.vision, self.grids))

    def admit(self, lab) -> None:
        """Refuse a pass through the tower that would not fit.

        Raises:
            BudgetError: before it runs.
        """
        if self.grids:
            plan.admit("the image tower", len(self), self._tower(lab), lab.device)

    def _tower(self, lab):
        fused = lab.model.model.visual.config._attn_implementation != "eager"
        return tower.peak(self.vision, self.grids, dtype_bytes(lab.dtype), fused=fused)


def see(lab, prompt: Mapping | Sequence[Mapping], *, processor=None, **options) -> Seen:
    """A prompt with pictures, for `lab.trace`, `lab.generate`, `lab.resume` and `lab.plan(tokens=)`.

    Args:
        lab: around the image-text class (`labkit.load(folder, images=True)`, or `labkit.wrap`).
        prompt: messages with pictures in them (`{"type": "image", "image": picture}`), rendered by the processor; or
            what a processor gave (`input_ids`, `pixel_values`, `image_grid_thw`, ...).
        processor: `pictures.processor(folder)`, for messages; None takes the lab's own.
        options: of the processor's `apply_chat_template`, such as `preserve_thinking`.

    Raises:
        InputError: a lab without an image tower, a picture that lies in the network, inputs that contradict each other.
        BackendError: the processor cannot read what it is given.
    """
    check_images(lab)
    if not isinstance(prompt, Mapping):
        prompt = _processed(prompt, lab.processor if processor is None else processor, options)
    elif processor is not None or options:
        got = "a processor's output, and a processor or options"
        raise InputError("what a processor gave needs no other", got=got, hint="pictures.see(lab, inputs)")
    return _checked(lab, prompt)


def check_images(lab) -> None:
    """Refuse a lab whose model has no image tower.

    Raises:
        InputError: of the text class.
    """
    if lab.spec.vision is None or not hasattr(lab.model.model, "visual"):
        got, expected = type(lab.model).__name__, FAMILIES[lab.spec.family].conditional
        folder, there = lab.model.name_or_path, lab.spec.vision is not None
        way = f'lab = labkit.load("{folder}", images=True)' if folder and there else "labkit.load(folder, images=True)"
        hint = way if there else f"{way} with the folder of a checkpoint that has one"
        raise InputError("this lab's model has no image tower", got=got, expected=expected, hint=hint)


def _processed(messages, processor, options):
    """What the processor makes of messages."""
    if not hasattr(processor, "apply_chat_template") or not hasattr(processor, "image_processor"):
        hint = "pictures.see(lab, messages, processor=pictures.processor(folder))"
        raise InputError("messages are rendered by a processor", got=type(processor).__name__, hint=hint)
    for message in messages:
        content = message.get("content") if isinstance(message, Mapping) else None
        for item in content if isinstance(content, list | tuple) else ():
            _check_item(item, processor)
    options = dict(add_generation_prompt=True) | options
    try:
        return processor.apply_chat_template(
            list(messages), tokenize=True, return_dict=True, return_tensors="pt", **options
        )
    except Exception as error:  # of anybody: templates, image readers
        raise BackendError("the processor cannot read these messages", got=one_line(error)) from error


def _check_item(item, processor):
    if not isinstance(item, Mapping):
        return
    for key in ("image", "image_url", "video", "url"):
        value = item.get(key)
        value = value.get("url") if isinstance(value, Mapping) else value
        if isinstance(value, str) and value.lower().startswith(("http:", "https:", "ftp:")):
            hint = "fetch it yourself, and give the picture: PIL.Image.open(path)"
            raise InputError("nothing is fetched from the network", got=brief(value), expected="a picture", hint=hint)
    if (item.get("type") == "video" or "video" in item) and getattr(processor, "video_processor", None) is None:
        got = "a processor for pictures alone"
        raise BackendError("films are read by torchvision", got=got, hint="pip install torchvision")


def _checked(lab, given):
    """`Seen` of a processor's output."""
    if unknown := sorted(set(given) - KNOWN):
        raise InputError("a processor's output with more in it", got=", ".join(unknown), expected=", ".join(KNOWN))
    if "input_ids" not in given:
        raise InputError("a processor's output without token ids", got=", ".join(given), expected="input_ids")
    ids = torch.as_tensor(given["input_ids"])
    ids = lab.encode(ids[0] if ids.ndim == 2 and len(ids) == 1 else ids)
    mask = given.get("attention_mask")
    if mask is not None and not bool(torch.as_tensor(mask).all()):
        raise InputError("one prompt with pictures at a time", got="padding", expected="one row without padding")
    config, vision = lab.model.config, lab.spec.vision
    kinds = (ids == config.image_token_id) + 2 * (ids == config.video_token_id)
    types = given.get("mm_token_type_ids")
    if types is not None and not torch.equal(torch.as_tensor(types).flatten().long(), kinds):
        got = "mm_token_type_ids that are not those of the ids"
        raise InputError("a processor of another model", got=got, expected=f"pads {config.image_token_id}")
    inputs, spans = {}, []
    for number, kind in enumerate(KINDS, 1):
        grids = _kind(given, kind, vision, inputs)
        spans += _spans(kind, grids, (kinds == number).tolist(), vision["spatial_merge_size"])
    spans = tuple(sorted(spans, key=lambda span: span.first))
    grids = {grid: inputs[grid] for _, grid in KINDS.values() if grid in inputs}
    places, _ = lab.model.model.get_rope_index(ids[None], mm_token_type_ids=kinds[None].int(), **grids)
    rotary = decoder(lab.model).rotary_emb
    axes = axes_of(rotary.mrope_section, lab.spec.rotary_dim // 2)
    return Seen(ids, Pictures(spans, places[:, 0], axes), inputs, dict(vision))


def _kind(given, kind, vision, inputs) -> list[tuple[tuple[int, int, int], str]]:
    """(grid, digest) of every picture or film of a kind, whose inputs are added to `inputs`."""
    pixels, grid = (given.get(name) for name in KINDS[kind])
    if pixels is None and grid is None:
        return []
    if pixels is None or grid is None:
        got = KINDS[kind][pixels is None]
        raise InputError("pixels and their grid come together", got=f"{got} alone", expected=" and ".join(KINDS[kind]))
    pixels, grid = torch.as_tensor(pixels), torch.as_tensor(grid)
    width = vision["in_channels"] * vision["temporal_patch_size"] * vision["patch_size"] ** 2
    merge = vision["spatial_merge_size"]
    fits = grid.ndim == 2 and grid.shape[1] == 3 and len(grid) and not grid.is_floating_point()
    fits = (
        fits
        and int(grid.min()) > 0
        and not (grid[:, 1:] % merge).any()
        and (kind == "video" or (grid[:, 0] == 1).all())
    )
    if not fits:
        expected = f"(steps, rows, columns) of each, rows and columns in multiples of {merge}"
        raise InputError(f"no grid of an {kind}", got=brief(grid.tolist()), expected=expected)
    rows = grid.prod(1)
    if pixels.ndim != 2 or tuple(pixels.shape) != (int(rows.sum()), width) or not pixels.is_floating_point():
        got, expected = f"{pixels.dtype}, {list(pixels.shape)}", f"floats [{int(rows.sum())}, {width}]"
        raise InputError(f"pixels of an {kind} that do not fit this tower", got=got, expected=expected)
    if not bool(pixels.isfinite().all()):
        raise InputError(f"pixels of an {kind} that are no numbers", got="NaN or infinity")
    inputs |= dict(zip(KINDS[kind], (pixels, grid), strict=True))
    parts = pixels.detach().cpu().float().contiguous().split(rows.tolist())
    digests = [
        hashlib.sha256(part.numpy().tobytes() + str(size).encode()).hexdigest()[:16]
        for part, size in zip(parts, grid.tolist(), strict=True)
    ]
    return list(zip(map(tuple, grid.tolist()), digests, strict=True))


def _spans(kind, grids, pads, merge) -> list[Span]:
    """A span for every picture or step of a film; each is a run of its pads."""
    found, first = [], None
    for at, pad in enumerate([*pads, False]):
        if pad and first is None:
            first = at
        if not pad and first is not None:
            found.append((first, at))
            first = None
    wanted = [
        (number, step, h // merge, w // merge, digest)
        for number, ((t, h, w), digest) in enumerate(grids)
        for step in range(t)
    ]
    sizes, needed = [last - first for first, last in found], [rows * columns for _, _, rows, columns, _ in wanted]
    if sizes != needed:
        got, expected = f"runs of {sizes} {kind} pads", f"{needed}, as the grids say"
        raise InputError("pads that do not fit the pictures", got=got, expected=expected)
    return [
        Span(kind, number, step, *place, rows, columns, digest)
        for place, (number, step, rows, columns, digest) in zip(found, wanted, strict=True)
    ]
