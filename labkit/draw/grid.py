"""Small figures in a grid: one zoom for all, labels only at the left and at the lowest of each column."""

from plotly.subplots import make_subplots

from labkit.draw.theme import Figure
from labkit.draw.words import folded

COLUMNS = 4
WIDE = 120  # signs of a heading beside each other


def grid(headings: list[str | None]) -> tuple[Figure, list[dict], int]:
    """An empty figure with one place per heading, `(row, column)` of each place, and how many columns there are.

    `headings` are escaped texts; a single None is one place without a heading.
    """
    columns = min(COLUMNS, len(headings))
    rows = -(-len(headings) // columns)
    titles = None if headings == [None] else [folded(text, WIDE // columns) for text in headings]
    gap = (0.24 + 0.08 * (_lines(titles or []) - 1)) / rows
    fig = make_subplots(rows, columns, subplot_titles=titles, horizontal_spacing=0.03, vertical_spacing=gap)
    places = [{"row": n // columns + 1, "col": n % columns + 1} for n in range(len(headings))]
    return Figure(fig), places, columns


def link(fig: Figure, places: list[dict], columns: int) -> None:
    """One zoom for all places, and no labels where a neighbour has the same."""
    for n, place in enumerate(places):
        if n:
            fig.update_xaxes(matches="x", **place)
            fig.update_yaxes(matches="y", **place)
        if n + columns < len(places):
            fig.update_xaxes(showticklabels=False, title=None, **place)
        if n % columns:
            fig.update_yaxes(showticklabels=False, title=None, **place)


def above(fig: Figure) -> int:
    """Room in pixels above a figure's places for the headings of the first row."""
    texts = [note.text for note in fig.layout.annotations]
    return 36 + 17 * (_lines(texts) - 1) if texts else 12


def _lines(texts):
    return max((text.count("<br>") + 1 for text in texts), default=1)


def height(places: list[dict]) -> int:
    """Height in pixels of a figure with these places."""
    return 440 if len(places) == 1 else 230 + 230 * places[-1]["row"]


def room(facet: str | None, columns: int) -> dict:
    """How many tick labels of which width fit below one place, and at which angle."""
    return {"room": 36, "angle": -45} if facet is None else {"room": 44 // columns, "width": 9, "angle": -90}


def arranged(places: list[dict], columns: int) -> dict:
    """What a page has to know to lay the places out anew on a narrow screen."""
    return {"places": len(places), "columns": columns}
