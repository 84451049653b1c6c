"""The one progress bar: it counts, and is shown only where somebody asked for it."""

from collections.abc import Iterable


def counter(
    items: Iterable | None = None,
    *,
    show: bool,
    unit: str,
    total: int | None = None,
    done: int = 0,
    title: str | None = None,
):
    """A tqdm bar over `items`, or one to `update` by hand; in a notebook it is a widget.

    Args:
        show: whether it is seen at all. unit: what is counted; "tok" is shown in thousands and millions.
        total: how many there are, `done` of them before. title: before the bar.
    """
    from tqdm.auto import tqdm

    more = dict(total=total, initial=done, unit=unit, unit_scale=unit == "tok", desc=title)
    return tqdm(items, disable=not show, **more)
