"""Small figures in a grid: one zoom for all, labels only at the left and at the lowest of each column."""

from plotly.subplots import make_subplots

from labkit.draw.theme import Figure

COLUMNS = 4


def grid(headings: list[str | None]) -> tuple[Figure, list[dict], int]:
    """An empty figure with one place per heading, `(row, column)` of each place, and how many columns there are.

    `headings` are escaped texts; a single None is one place without a heading.
    """
    columns = min(COLUMNS, len(headings))
    rows = -(-len(headings) // columns)
    titles = None if headings == [None] else headings
    fig = make_subplots(rows, columns, subplot_titles=titles, horizontal_spacing=0.03, vertical_spacing=0.24 / rows)
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


def height(places: list[dict]) -> int:
    """Height in pixels of a figure with these places."""
    return 440 if len(places) == 1 else 230 + 230 * places[-1]["row"]


def room(facet: str | None, columns: int) -> dict:
    """How many tick labels of which width fit below one place, and at which angle."""
    return {"room": 36, "angle": -45} if facet is None else {"room": 44 // columns, "width": 9, "angle": -90}


def arranged(places: list[dict], columns: int) -> dict:
    """What a page has to know to lay the places out anew on a narrow screen."""
    return {"places": len(places), "columns": columns}
