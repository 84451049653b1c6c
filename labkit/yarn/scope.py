"""A rotary scaling for as long as a block lasts: switched in place, restored exactly.

    with yarn.scaled(lab, factor=4):
        run = lab.trace(long_prompt)

Only the attention layers rotate anything, and of their channels only a part; DeltaNet layers never notice. Keys in a
cache are rotated already, so a cache belongs to one scaling; `yarn.dynamic` keeps keys that can be turned anew.
"""

from collections.abc import Callable

from labkit.arguments import whole
from labkit.cache import with_book
from labkit.calling import public
from labkit.errors import InputError
from labkit.hooks import Place
from labkit.lab import Lab
from labkit.rotary import RELEASED, Scaling, stretched
from labkit.scopes import Scope
from labkit.trace import decoder


@public
def scaled(
    lab: Lab,
    factor: float = RELEASED,
    *,
    kind: str = "yarn",
    ramp: str = "index",
    attention_factor: float | None = None,
    length: int | None = None,
    reach: int | None = None,
) -> Scope:
    """The model under a rotary scaling, in a `with` block.

    Args:
        lab: `Lab`. factor: s; 1 is the native frequencies, bit for bit.
        kind: "yarn", "linear", "ntk", "dynamic", or "none": native frequencies, where `attention_factor` may be set.
        ramp: "index", as engines do it, or "paper".
        attention_factor: m; None is the kind's own, 1 is off.
        length: of the dynamic kinds, the length whose frequencies are taken.
        reach: positions allowed meanwhile; None is factor times the native window. More than the scaling is made for
            is how one looks at a model beyond its window: `scaled(lab, 1, kind="none", reach=...)`.

    Returns:
        `Scope`, which hands the lab to the block.

    Raises:
        InputError: a factor below 1, an unknown kind or ramp, a reach below the native window or beyond what float32
            positions tell apart, frequencies held in 16 bits.
    """
    scaling = stretched(lab.spec, factor, kind=kind, ramp=ramp, attention_factor=attention_factor, length=length)
    return under(lab, scaling, reach)


@public
def under(lab: Lab, scaling: Scaling, reach: int | None = None, *, unrotated: Callable | None = None) -> Scope:
    """The model under a `rotary.Scaling`, up to `reach` tokens; see `scaled`. `unrotated` as in `Scope`.

    Raises:
        InputError: another scaling inside `yarn.dynamic`, a dynamic one without a length, a reach it cannot have.
    """
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
    enter = lambda module, args, kwargs: with_book(lab, module, args, kwargs)
    turn = lambda module, args: lab.scopes.turn()  # another task may have turned the frequencies meanwhile
    stack = decoder(lab.model)
    places = [Place(stack, "before", turn, everywhere=True), Place(stack, "before", enter, kwargs=True)]
    lab.scopes.rescaled |= not scaling.same(lab.native, window)
    return Scope(lab.scopes, lab, scaling=scaling, reach=reach, unrotated=unrotated, places=places)
