"""A report: the standard probes of one model on one text, as a folder whose `index.html` any browser opens offline.

    report.make(lab, " fox red. whale blue. fox", out="report")

In a terminal it is `labkit report nano --prompt story.txt --out report`. Every section is computed, written and shown
by itself: after an interrupt the next call computes what is missing, what would not fit into memory is left out with
the reason, and beside each figure lie its numbers as CSV and netCDF.

In this folder:

    section    what a section is: numbers, a figure, how it is read
    task       the model, the prompt and its run, which sections share
    sections   one file for each kind of question; the folder is the registry
    making     sections in their order: kept, skipped, computed, interrupted
    page       the page
    asked      the command line
    command    the command line
"""

from labkit.report.making import Report, make
from labkit.report.section import Section
from labkit.report.sections import names

__all__ = ["Report", "Section", "make", "names"]


def __dir__():
    return sorted(__all__)
