"""Published claims, measured on whatever model is loaded: the number, ours with its interval, and a verdict.

    ds = replicate.measure(lab, "2603.22473")
    print(replicate.verdict(ds))

In this folder:

    record    what a paper claims, its numbers and where they stand
    rule      the one rule by which agree, disagree or cannot tell is said
    asking    texts and questions for any tokenizer, heads that are taken away
    page      both as text and as a page
    published one file for each paper; the folder is the registry
"""

from labkit.replicate.page import as_text, drawn, write
from labkit.replicate.published import find, papers
from labkit.replicate.record import Number, Paper, measure
from labkit.replicate.rule import AGREE, CANNOT, DISAGREE, Verdict, verdict

__all__ = [
    "AGREE",
    "CANNOT",
    "DISAGREE",
    "Number",
    "Paper",
    "Verdict",
    "as_text",
    "drawn",
    "find",
    "measure",
    "papers",
    "verdict",
    "write",
]


def __dir__():
    return sorted(__all__)
