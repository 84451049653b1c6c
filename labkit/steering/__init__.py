"""Steering: a direction in what a model computes, added while it reads and writes, and what that does.

    red, blue = [" fox red. fox", " whale red. whale"], [" fox blue. fox", " whale blue. whale"]
    direction = steering.difference(lab, red, blue, layer=4)
    with lab.edit(steering.add(lab, direction, dose=2.0)):
        run = lab.trace(" fox blue. fox")

It stands above the mechanisms, beside attribution. In this folder:

    sites       where: a seam, the values of a DeltaNet layer, or its state; the edit that adds a direction there
    directions  difference of means, and whether chance would have made one as long
    probing     directions of linear probes, beside exchanged labels and random directions
    measuring   one prompt under many doses, in one batch
    dosing      effect by dose, beside random directions of the same norm
    beginning   a state before the first token
    tuning      such a state, optimised on examples
    kept        the folder in which a tuning rests
"""

from labkit.steering.beginning import begin, judged, random_start
from labkit.steering.directions import difference
from labkit.steering.dosing import curves, doses
from labkit.steering.probing import probe
from labkit.steering.sites import add
from labkit.steering.tuning import shuffled_answers, tune

__all__ = [
    "add",
    "begin",
    "curves",
    "difference",
    "doses",
    "judged",
    "probe",
    "random_start",
    "shuffled_answers",
    "tune",
]


def __dir__():
    return sorted(__all__)
