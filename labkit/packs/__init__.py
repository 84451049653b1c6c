"""Trace packs: chosen readings of a run in one small file, opened where the model does not fit.

    lk.pack(run, "fox.pack", readings=[deltanet.half_life, (attention.summary, dict(layer=[3, 7], block=512))], bits=16)
    run = lk.open_run("fox.pack")
    attention.summary(run, layer=3, block=512)

In this folder, from the bytes upwards:

    codec       an array as bytes: exact, 16 or 8 bits a number
    container   the one file: format, book, payload, digests
    labels      a Dataset as a record
    requests    what was asked, comparable
    packed      the run that answers
    opening     a file from anywhere as such a run
    sizes       what a pack takes before it is made, and what to leave out
    making      a run as a file
"""

from labkit.packs.making import pack
from labkit.packs.opening import open_run
from labkit.packs.packed import Packed
from labkit.packs.sizes import Size, estimate

__all__ = ["Packed", "Size", "estimate", "open_run", "pack"]


def __dir__():
    return sorted(__all__)
