"""Names of others for what a run holds: hooks of TransformerLens, module paths of Hugging Face.

    run["blocks.0.hook_resid_post"]        run["model.layers.0"]                           run.seams[0, "resid_post"]
    run["blocks.3.attn.hook_z"]            run["model.layers.3.self_attn.o_proj.input"]    run.seams[3, "gated"]
    run["blocks.2.linear_attn.hook_out"]   run["model.layers.2.linear_attn"]               run.seams[2, "mixer_out"]

A name gives the seam as labkit keeps it, [token, *dims]; `run.names` prints all of them. The numbers are those of the
other program, the axes are labkit's. TransformerLens puts a batch axis before them, and where more differs `AXES` says
it. Its numbers are those of a bridge without processed weights: layer norms are not folded on hybrids, and what it
calls `hook_normalized` has not met the norm's weight yet. A path of Hugging Face is what the module returns; with
`.input` what enters it.
"""

import difflib
import re
from collections.abc import Iterator

import torch

from labkit.errors import InputError, LayerError, SeamError
from labkit.families import ATTENTION, DELTANET, FAMILIES, Seam
from labkit.spec import Spec
from labkit.tables import Table
from labkit.trace.others import AXES, CALLS, EMBEDDED, HOOKS, INSTEAD, READINGS, WHOLE, Hook
from labkit.trace.seams import TITLES

LAYER = re.compile(r"(blocks|model\.layers)\.(\d{1,6})(?:\.(.*))?")
SEAM = re.compile(r'run\.seams\[\{layer\}, "(\w+)"\]')
BLOCKS, TEXT = "blocks", "model.language_model."
OTHER = {DELTANET: ATTENTION, ATTENTION: DELTANET}


def read(run, name: str) -> torch.Tensor:
    """The seam of a name, [token, *dims].

    Raises:
        InputError: no name of this model; tells the nearest. LayerError: a hook or a module that layers of the other
            kind have. SeamError: a name of something that is no seam, with the call that gives it; or a seam that was
            not kept.
    """
    if not isinstance(name, str):
        hint = "run.seams[0, 'resid_post']"
        raise InputError("a run is asked by names", got=repr(name)[:60], expected="a text", hint=hint)
    spec, name = run.spec, name.removesuffix(".output")
    if name.startswith(TEXT) and FAMILIES[spec.family].conditional is not None:
        name = f"model.{name.removeprefix(TEXT)}"
    if name in WHOLE or name in CALLS:
        return _of_model(run, name)
    match = LAYER.fullmatch(name)
    if match is None:
        raise _unknown(spec, name)
    head, layer, rest = match[1], int(match[2]), match[3] or ""
    if layer >= spec.layers:
        raise InputError("no such layer", got=name, expected=f"0 to {spec.layers - 1}")
    if head != BLOCKS:
        return run.seams[layer, _module(spec, layer, rest, name)]
    kind = spec.kind(layer)
    if (hook := HOOKS[kind].get(rest)) is not None:
        seam = crossed(spec, kind, hook)
        if seam is None:
            got, expected = f"{spec.family}, layer {layer}", ", ".join(spec.seams[kind])
            raise SeamError(f"{name} crosses no seam of this family", got=got, expected=expected)
        return _part(run.seams[layer, seam], spec, hook.part if seam == "qkv" else None)
    if rest in (given := calls(spec, kind)):
        call, differs = given[rest]
        what = f"{name} is no seam; a call gives it" if call else f"{name} is no seam"
        raise SeamError(what, got=name, expected=differs, hint=call.format(layer=layer) or None)
    if rest in HOOKS[OTHER[kind]] or rest in READINGS[OTHER[kind]]:
        raise _misplaced(spec, layer, name, _counterpart(spec, layer, rest))
    raise _unknown(spec, name, layer)


def crossed(spec: Spec, kind: str, hook: Hook) -> str | None:
    """The seam of a hook in the layers of a kind; None where the family has no such seam."""
    seams = spec.seams[kind]
    seam = next((each for each in hook.seams if each in seams), None)
    return None if seam is None or hook.path not in (None, seams[seam].path) else seam


def calls(spec: Spec, kind: str) -> dict[str, tuple[str, str]]:
    """`{hook: (call, what differs)}` of what is no seam, without calls that layers of this kind do not answer."""
    seams, unread = spec.seams[kind], kind in FAMILIES[spec.family].unread

    def answered(call):
        needed = SEAM.findall(call) + ["router"] * ("experts." in call)
        return all(seam in seams for seam in needed) and not (unread and call.startswith(f"{kind}."))

    return {name: call for name, call in READINGS[kind].items() if answered(call[0])}


def modules(spec: Spec, kind: str) -> dict[str, list[str]]:
    """`{path below the layer: seams}` of the modules that seams lie at, `.input` where they enter it."""
    found: dict[str, list[str]] = {}
    for name, seam in spec.seams[kind].items():
        found.setdefault(_path(seam), []).append(name)
    return found


def known(spec: Spec) -> Iterator[str]:
    """Every name that `read` understands, also those for which it names a call."""
    yield from (*WHOLE, *CALLS)
    for layer, kind in enumerate(spec.kinds):
        yield from (f"{BLOCKS}.{layer}.{hook}" for hook in (*HOOKS[kind], *calls(spec, kind)))
        yield from (f"model.layers.{layer}{'.' * bool(path)}{path}" for path in modules(spec, kind))


class Names(Table):
    """The names of a model's seams: labkit, TransformerLens, Hugging Face; and the calls for what is no seam."""

    def __init__(self, spec: Spec):
        self.spec, self.title = spec, f"Names in {spec.name}: run[name] is run.seams[layer, seam]"

    def facts(self) -> list[tuple[str, str, str]]:
        """Rows (kind of layer, seam, names of others) and (what is no seam, their name, the call)."""
        rows = []
        for kind in dict.fromkeys(self.spec.kinds):
            seams = self.spec.seams[kind]
            hooks = {name: crossed(self.spec, kind, hook) for name, hook in HOOKS[kind].items()}
            for seam in seams:
                own = [f"{BLOCKS}.N.{name}{_differs(name)}" for name, at in hooks.items() if at == seam]
                path = _path(seams[seam])
                own.append(f"model.layers.N{'.' * bool(path)}{path}{_share(seams[seam])}")
                rows.append((f"{TITLES[kind]} layers", seam, " · ".join(own)))
        for kind in dict.fromkeys(self.spec.kinds):
            for name, (call, differs) in calls(self.spec, kind).items():
                rows.append(
                    (
                        f"no seams, {TITLES[kind]} layers",
                        name,
                        " · ".join(filter(None, (call.format(layer="N"), differs))),
                    )
                )
        last = self.spec.layers - 1
        rows += [
            ("the whole model", name, f'run.seams[{at % (last + 1)}, "{seam}"]') for name, (at, seam) in WHOLE.items()
        ]
        return rows + [("the whole model", name, call.format(last=last)) for name, call in CALLS.items()]


def _differs(name):
    return f" ({AXES[name]})" if name in AXES else ""


def _share(seam):
    if seam.part is not None or seam.channels is not None:
        return " (some of its channels)"
    return f" (entry {seam.entry} of what it returns)" if seam.entry else ""


def _path(seam: Seam) -> str:
    return ".".join(filter(None, (seam.path, "input" if seam.side == "in" else "")))


def _of_model(run, name):
    last = run.spec.layers - 1
    if name in CALLS:
        hint = CALLS[name].format(last=last)
        raise SeamError(f"{name} is no seam", got=name, expected="a call gives it", hint=hint)
    layer, seam = WHOLE[name]
    if (layer, seam) == EMBEDDED and run.pictures is not None:
        what = f"{name}: pictures stand in the place of some embeddings"
        raise InputError(what, got=repr(run), hint="run.seams[0, 'resid_pre']")
    return run.seams[layer % (last + 1), seam]


def _module(spec, layer, rest, name):
    """The seam that all of a module's tensor is."""
    kind = spec.kind(layer)
    found = modules(spec, kind).get(rest)
    if found is None:
        if rest in modules(spec, OTHER[kind]):
            seam = modules(spec, OTHER[kind])[rest][0]
            raise _misplaced(spec, layer, name, _at(spec, layer, (seam,)))
        raise _unknown(spec, name, layer)
    whole = [each for each in found if not _share(spec.seams[kind][each])]
    if not whole:
        what, hint = f"{name}: seams are parts of what it returns", f'run.seams[{layer}, "{found[0]}"]'
        raise SeamError(what, got=name, expected=f"the seams {', '.join(found)}", hint=hint)
    return whole[0]


def _part(tensor, spec, part):
    """Queries, keys or values [token, head, channel] of those side by side."""
    if part is None:
        return tensor
    keys, values = spec.key_heads * spec.dk, spec.value_heads * spec.dv
    heads = (spec.key_heads, spec.key_heads, spec.value_heads)[part]
    return tensor.split([keys, keys, values], -1)[part].unflatten(-1, (heads, -1))


def _counterpart(spec, layer, rest):
    """The call of this layer for a hook of the other kind, or else that of the first layer of that kind."""
    other = OTHER[spec.kind(layer)]
    if rest in HOOKS[other]:
        return _at(spec, layer, HOOKS[other][rest].seams)
    call = INSTEAD.get(rest)
    return call.format(layer=layer) if call else READINGS[other][rest][0].format(layer=spec.layers_of(other)[0])


def _at(spec, layer, seams):
    """The call for the first of these seams that a layer has, or else the first layer of the other kind."""
    own = next((seam for seam in seams if seam in spec.seams[spec.kind(layer)]), None)
    if own is not None:
        return f'run.seams[{layer}, "{own}"]'
    other = OTHER[spec.kind(layer)]
    there = next(seam for seam in seams if seam in spec.seams[other])
    return f'run.seams[{spec.layers_of(other)[0]}, "{there}"]'


def _misplaced(spec, layer, name, hint):
    kind = spec.kind(layer)
    what = f"{name}: layer {layer} is a {TITLES[kind]} layer"
    expected = f"a {TITLES[OTHER[kind]]} layer, of {list(spec.layers_of(OTHER[kind]))}"
    return LayerError(what, got=name, expected=expected, hint=hint)


def _unknown(spec, name, layer=None):
    """Nearest are names of the same layer, if it has one."""
    names = [each for each in known(spec) if layer is None or f".{layer}." in f"{each}."]
    near = difflib.get_close_matches(name, names, 3, 0.0)
    near.sort(key=lambda each: not each.startswith(f"{name}."))  # what lies below a module comes first
    hint = f'run["{near[0]}"]; run.names prints all of them'
    return InputError("no such name", got=repr(name)[:120], expected=", ".join(near), hint=hint)
