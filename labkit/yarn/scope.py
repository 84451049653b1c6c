"""A rotary scaling for as long as a block lasts: switched in place, restored exactly.

    with yarn.scaled(lab, factor=4):
        run = lab.trace(long_prompt)

Only the attention layers rotate anything, and of their channels only a part; DeltaNet layers never notice. Keys in a
cache are rotated already, so a cache belongs to one scaling; `labkit.yarn.dynamic` keeps keys that can be turned anew.
"""

import contextlib

from transformers.cache_utils import Cache

from labkit import rotary
from labkit.cache import book_of, settle
from labkit.errors import InputError
from labkit.trace import Pass, decoder
from labkit.yarn.table import RELEASED, shape, stretched


@contextlib.contextmanager
def scaled(lab, factor=RELEASED, *, kind="yarn", ramp="index", attention_factor=None, length=None, window=None):
    """The model under a rotary scaling.

    Args:
        lab: `Lab`. factor: s; 1 is the native frequencies, bit for bit.
        kind: "yarn", "linear", "ntk", "dynamic", or "none": native frequencies, where `attention_factor` may be set.
        ramp: "index", as engines do it, or "paper".
        attention_factor: m; None is the kind's own, 1 is off.
        length: of the dynamic kinds, the length whose frequencies are taken.
        window: positions allowed meanwhile; None is factor times the native window. More than the scaling reaches is
            how one looks at a model beyond its window: `scaled(lab, 1, kind="none", window=...)`.

    Yields:
        the lab.

    Raises:
        InputError: a factor below 1, an unknown kind or ramp, a window below the native one or beyond what float32
            positions tell apart, frequencies held in 16 bits.
    """
    scaling = stretched(lab.spec, factor, kind=kind, ramp=ramp, attention_factor=attention_factor, length=length)
    with under(lab, scaling, window):
        yield lab


@contextlib.contextmanager
def under(lab, scaling, window=None):
    """The model under a `rotary.Scaling`; see `scaled`."""
    if lab.scopes.unrotated is not None:
        hint = "close the yarn.dynamic scope first; it sets the frequencies anew before every pass"
        raise InputError("no other scaling inside yarn.dynamic", got=str(scaling), hint=hint)
    if "dynamic" in scaling.kind and scaling.length is None:
        hint = "yarn.dynamic(lab) follows the length; length=... takes the frequencies of one"
        raise InputError("a dynamic scaling needs a length", got=str(scaling), hint=hint)
    native = lab.spec.window
    reach = max(native, int(scaling.factor * (scaling.original or native))) if window is None else window
    if not native <= reach <= 2**24:
        got, expected = f"{reach:,} positions", f"{native:,} to {2**24:,}"
        raise InputError("a window that cannot be opened", got=got, expected=expected)
    stack = decoder(lab.model)

    def stamp(module, args, kwargs):  # also when the model is called without the lab
        cache = Pass.of(module, args, kwargs).cache
        if cache is not None:
            settle(cache, lab.scaling, lab.native, native, unrotated=lab.scopes.unrotated is not None)

    def mark(module, args, output):  # a cache that the model made by itself
        for cache in (value for value in output.values() if isinstance(value, Cache)):
            book_of(cache).scaling = lab.scaling

    with contextlib.ExitStack() as scope:
        scope.enter_context(rotary.switched(stack, scaling, reach=reach, **shape(lab.spec)))
        scope.callback(stack.register_forward_pre_hook(stamp, with_kwargs=True).remove)
        scope.callback(stack.register_forward_hook(mark).remove)
        scope.enter_context(lab.scopes.opened(scaling=scaling))
        yield lab
