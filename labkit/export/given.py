"""What is written: a dataset, or the numbers behind a figure."""

import xarray

from labkit.errors import InputError


def dataset(ds: object, call: str) -> xarray.Dataset:
    """The dataset that was given, or that a figure shows; `call` is named in the message. Raises InputError."""
    found = getattr(ds, "numbers", ds)
    if isinstance(found, list | tuple):
        hint = f"export.{call}(figure.numbers[0], path)"
        raise InputError("a file holds one dataset", got=f"a figure of {len(found)}", hint=hint)
    if not isinstance(found, xarray.Dataset):
        hint = f"export.{call}(ds, path) with ds = deltanet.memory(run, layer=0), say"
        raise InputError("numbers of a file are a labelled dataset", got=type(ds).__name__, hint=hint)
    return found
