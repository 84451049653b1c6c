"""The sections of a report, one file for each kind of question: each has `SECTIONS`, in their order."""

from labkit.report.section import Section
from labkit.report.sections import cache, heads, routes, states, stretch, words

PROBES = {
    "answer": "What it says, and what brings it there",
    "states": "What the recurrent states hold",
    "attention": "Where attention looks",
    "experts": "Which experts work",
    "cache": "What a cache of this costs, and what of it can be used again",
    "yarn": "Positions, inside the window and beyond",
}
_ALL = [*words.SECTIONS, *states.SECTIONS, *heads.SECTIONS, *routes.SECTIONS, *cache.SECTIONS, *stretch.SECTIONS]


def sections() -> list[Section]:
    """Every section, in the order of the page."""
    return list(_ALL)


def names() -> list[str]:
    """Names of all sections, in the order of the page."""
    return [section.name for section in _ALL]
