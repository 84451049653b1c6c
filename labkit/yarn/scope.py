"""A rotary scaling for as long as a block lasts: switched in place, restored exactly.

    with yarn.scaled(lab, factor=4):
        run = lab.trace(long_prompt)

Only the attention layers rotate anything, and of their channels only a part; DeltaNet layers never notice. Keys in a
cache are rotated already, so a cache belongs to one scaling; `yarn.dynamic` keeps keys that can be turned anew.
"""

import contextlib
from collections.abc import Iterator

from labkit import rotary
from labkit.arguments import whole
from labkit.cache import settle
from labkit.errors import InputError
from labkit.lab import Lab
from labkit.rotary import RELEASED, Scaling, constants, stretched
from labkit.trace import Pass, arguments, cache_parameter, decoder


@contextlib.contextmanager
def scaled(
    lab: Lab,
    factor: float = RELEASED,
    *,
    kind: str = "yarn",
    ramp: str = "index",
    attention_factor: float | None = None,
    length: int | None = None,
    reach: int | None = None,
) -> Iterator[Lab]:
    """The model under a rotary scaling.

    Args:
        lab: `Lab`. factor: s; 1 is the native frequencies, bit for bit.
        kind: "yarn", "linear", "ntk", "dynamic", or "none": native frequencies, where `attention_factor` may be set.
        ramp: "index", as engines do it, or "paper".
        attention_factor: m; None is the kind's own, 1 is off.
        length: of the dynamic kinds, the length whose frequencies are taken.
        reach: positions allowed meanwhile; None is factor times the native window. More than the scaling is made for
            is how one looks at a model beyond its window: `scaled(lab, 1, kind="none", reach=...)`.

    Yields:
        the lab.

    Raises:
        InputError: a factor below 1, an unknown kind or ramp, a reach below the native window or beyond what float32
            positions tell apart, frequencies held in 16 bits.
    """
    scaling = stretched(lab.spec, factor, kind=kind, ramp=ramp, attention_factor=attention_factor, length=length)
    with under(lab, scaling, reach):
        yield lab


@contextlib.contextmanager
def under(lab: Lab, scaling: Scaling, reach: int | None = None) -> Iterator[Lab]:
    """The model under a `rotary.Scaling`; see `scaled`."""
    if lab.scopes.unrotated is not None:
        hint = "close the yarn.dynamic scope first; it sets the frequencies anew before every pass"
        raise InputError("no other scaling inside yarn.dynamic", got=str(scaling), hint=hint)
    if "dynamic" in scaling.kind and scaling.length is None:
        hint = "yarn.dynamic(lab) follows the length; length=... takes the frequencies of one"
        raise InputError("a dynamic scaling needs a length", got=str(scaling), hint=hint)
    window = lab.spec.window
    reach = max(window, int(scaling.factor * (scaling.original or window))) if reach is None else whole(reach, "reach")
    if not window <= reach <= 2**24:
        got, expected = f"{reach:,} positions", f"{window:,} to {2**24:,}"
        raise InputError("a reach that cannot be opened", got=got, expected=expected)
    stack = decoder(lab.model)

    def enter(module, args, kwargs):
        """Also when the model is called without the lab: check its cache, or give one that knows its scaling."""
        cache = Pass.of(module, args, kwargs).cache
        if cache is not None:
            return settle(cache, lab)
        given = arguments(module, args, kwargs)
        use_cache = given.get("use_cache")
        if not (module.config.use_cache if use_cache is None else use_cache):
            return None
        cache = lab.cache()
        settle(cache, lab)
        return (), given | {cache_parameter(module): cache}

    with contextlib.ExitStack() as scope:
        scope.enter_context(rotary.switched(stack, scaling, reach=reach, **constants(lab.spec)))
        scope.callback(stack.register_forward_pre_hook(enter, with_kwargs=True).remove)
        scope.enter_context(lab.scopes.opened(scaling=scaling))
        lab.scopes.rescaled |= not scaling.same(lab.native, window)
        yield lab
