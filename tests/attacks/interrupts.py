"""Interrupts at every line in turn, of labkit and of what it hands control to; the next call must be right.

The exception is kept meanwhile, as a notebook keeps the last one: nothing may rely on it being dropped.
"""

import contextlib
import functools
import random
import sys
import traceback
from unittest import mock

import tiny
import torch
from tape import Tape

import labkit as lk
from labkit import edit, stream, yarn
from labkit.errors import LabError
from labkit.steps import capture, single
from tests.attacks import Outcome, attack

FILES = ("/labkit/", "/contextlib.py", "/torch/nn/modules/module.py", "/torch/utils/hooks.py", "/weakref.py")
IDS = tiny.ids(23, seed=3)
STEPPED = []  # the cache of the scene that steps


class Placed(BaseException):
    """Stands for an interrupt; nothing catches it by its name."""


@functools.cache
def lab():
    """One lab for all tries, its plain logits, and those of the bare model."""
    made = tiny.make_lab(tiny.model())
    return made, made.trace(IDS).logits, made.model(IDS[None]).logits


def interrupted(call, line: int, error=KeyboardInterrupt, names: list | None = None):
    """Run `call` and raise at its line number `line`; (lines passed, what was raised or None).

    Args:
        names: takes the name of the function of each line.
    """
    passed, raised = 0, None

    def local(frame, event, argument):
        nonlocal passed
        if event == "line":
            passed += 1
            if names is not None:
                names.append(frame.f_code.co_name)
            if passed == line:
                raise error
        return local

    def enter(frame, event, argument):
        return local if any(part in frame.f_code.co_filename for part in FILES) else None

    before = sys.gettrace()
    sys.settrace(enter)
    try:
        call()
    except BaseException as caught:
        raised = caught
    finally:
        sys.settrace(before)
    return passed, raised


def edited():
    with lab()[0].edit(edit.scale("gated", layer=1, factor=0.0), edit.state(torch.zeros_like, layer=0, at=9)):
        lab()[0].trace(IDS, layers=[1], seams=["gated"])


def scaled():
    with yarn.scaled(lab()[0], 3.0):
        lab()[0].trace(IDS, layers=[2], seams=["q"])


def dynamic():
    with yarn.dynamic(lab()[0]), lab()[0].edit(edit.scale("k", layer=2, factor=0.5)):
        lab()[0].trace(IDS, layers=[2], seams=["q"], cache=lab()[0].cache())


def bare():
    with lab()[0].edit(edit.scale("mixer_out", layer=3, factor=0.0)), yarn.scaled(lab()[0], 2.0):
        lab()[0].model(IDS[None])


def traced():
    lab()[0].trace(IDS)


def generated():
    lab()[0].generate(IDS[:5], max_new_tokens=3, layers=[0])


def streamed():
    lab()[0].stream(IDS, probes=stream.capture("mixer_out", tokens=[4], layers=[3]), chunk=8)


def stepped():
    """Steps that are recorded, as a card does it, and played back."""
    made, cache = lab()[0], lab()[0].cache()
    STEPPED[:] = [cache]
    with mock.patch.object(single, "refusal", capture.static), mock.patch.object(single, "CudaGraph", Tape):
        made.trace(IDS[:3], cache=cache)
        for token in IDS[3:8].tolist():
            made.step(cache, token, layers=[1], seams=["read"], states=1)


def goes_on(made):
    """Whether the cache of an interrupted scene is refused, or goes on as its tokens say."""
    for cache in STEPPED:
        STEPPED.clear()
        known = made.snapshot(cache).ids
        after = made.step(cache, 7, layers=[1]).logits
        cold = made.trace(torch.cat([known, torch.tensor([7])])).logits
        return bool((after - cold).abs().max() <= 1e-4 * cold.abs().max())
    return True


def right(call, line):
    """What came of one interrupt: the bare model, the lab's next trace, its scopes, its hooks."""
    made, logits, plain = lab()
    _, raised = interrupted(call, line)
    if raised is not None and not isinstance(raised, KeyboardInterrupt | LabError):
        return Outcome("raw", f"{call.__name__}, line {line}: {traceback.format_exception(raised)[-6:]}")
    try:
        moved = [name for name, same in states(made, logits, plain).items() if not same]
    except Exception:
        return Outcome("raw", f"{call.__name__}, line {line}: {traceback.format_exc(limit=-6)}")
    place = traceback.extract_tb(raised.__traceback__)[-1] if raised is not None else "not reached"
    if moved:
        with contextlib.suppress(LabError):
            made.trace(IDS)
        return Outcome("wrong", f"{call.__name__}, line {line} ({place}): {', '.join(moved)}")
    return Outcome("right", f"{call.__name__}, line {line}")


def states(made, logits, plain):
    """`{name: whether it is as it should be}`; in the order in which somebody would meet them."""
    found = {"no scope is open": not made.scopes.open and made.scaling == made.native}
    found["the window is the model's own"] = made.window == made.spec.window
    with contextlib.suppress(LabError):
        found["a cache that was stepped"] = goes_on(made)
    found["a trace"] = torch.equal(made.trace(IDS).logits, logits)
    found["the bare model"] = torch.equal(made.model(IDS[None]).logits, plain)
    found["graphs are built as before"] = torch.is_grad_enabled()
    found["no hook is left"] = tiny.hooks(made.model) == []
    found["no call is waited for"] = made.scopes.calls == [] and made.scopes.clean
    return found


SCENES = (edited, scaled, dynamic, bare, traced, generated, streamed, stepped)


@attack("interrupts", short=70, long=6000)
def interrupts(tries, seed, folder):
    """Every line if there are tries enough for all, else lines at random; each scene has its share."""
    lab()
    for scene in SCENES:
        scene()
        lines, _ = interrupted(scene, 0)
        share = tries // len(SCENES)
        chosen = range(1, lines + 1) if lines <= share else random.Random(seed).sample(range(1, lines + 1), share)
        for line in sorted(chosen):
            yield right(scene, line)


@attack("interrupts of bare calls", short=20, long=600)
def interrupts_then_bare(tries, seed, folder):
    """As `interrupts`, but what comes next is the bare model, which no lab mends first."""
    made, _, plain = lab()
    for scene in (edited, bare):
        lines, _ = interrupted(scene, 0)
        for line in sorted(random.Random(seed).sample(range(1, lines + 1), min(tries // 2, lines))):
            _, raised = interrupted(scene, line)
            same = torch.equal(made.model(IDS[None]).logits, plain)
            kind = "right" if same or made.scopes.rotation.native is not None else "wrong"
            yield Outcome(kind, f"{scene.__name__}, line {line}, {raised!r}")
            made.trace(IDS)


def main():
    """Print how many lines each scene has."""
    return {scene.__name__: interrupted(scene, 0)[0] for scene in SCENES}


__all__ = ["lk", "main"]
