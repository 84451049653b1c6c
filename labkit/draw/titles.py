"""The title of a figure as words of a page or a notebook, which wrap where a figure's own title would be cut."""

import html
import re

LABELS = 10  # numbers along the x axis of a live figure: as many as fit into a window of 390 pixels
ROOM = 14  # pixels that stay above what `above` of a figure asks for: the toolbar


def apart(layout: dict) -> tuple[str, str, dict]:
    """Title and subtitle of a plotly layout as plain text, and the layout without them and without their room.

    Only figures of `labkit.draw` say how much room their titles took; of others the margins stay as they are.
    """
    title = layout.get("title") or {}
    title = {"text": title} if isinstance(title, str) else title
    texts = [_plain(part.get("text") or "") for part in (title, title.get("subtitle") or {})]
    rest = {name: part for name, part in layout.items() if name != "title"}
    margin, arranged = layout.get("margin") or {}, (layout.get("meta") or {}).get("arranged")
    if arranged and "t" in margin and texts[0]:
        top = arranged["above"] + ROOM
        rest["margin"] = margin | {"t": top}
        if "height" in layout:  # else it fills what is there
            rest["height"] = layout["height"] - max(margin["t"] - top, 0)
    return *texts, rest


def sparse(layout: dict) -> dict:
    """The layout with at most `LABELS` numbers along each x axis; nobody knows how wide a widget will be."""
    rest = dict(layout)
    for name, axis in layout.items():
        texts = list(axis.get("ticktext") or ()) if name.startswith("xaxis") else []
        if len(texts) > LABELS and all(str(text).isdigit() for text in texts):
            every = slice(None, None, -(-len(texts) // LABELS))
            rest[name] = axis | {"tickvals": axis["tickvals"][every], "ticktext": texts[every]}
    return rest


def _plain(text):
    return html.unescape(re.sub(r"</?(b|i|em|sub|sup|span)\b[^>]*>", "", re.sub(r"<br */?>", " ", text)))
