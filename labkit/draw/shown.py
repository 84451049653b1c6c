"""How a figure shows itself in a notebook: with the quiet toolbar, or by the renderer that somebody chose for plotly.

`plotly.io.renderers.default = "png"`, `"notebook"`, `"browser"` or the variable PLOTLY_RENDERER is such a choice, and
so is what plotly finds best where no Jupyter runs (Colab, Databricks, a terminal). Still pictures are made here, since
plotly's own way to them asks a network for MathJax.
"""

import base64

import plotly.io as pio

from labkit.draw.images import image

QUIET = type(pio.renderers["plotly_mimetype"])  # those that hand the figure's JSON to the page
STILL = type(pio.renderers["png"]).__mro__[1]  # those that make a picture


def chosen(names: str | None = None) -> list:
    """Renderers of this text of plotly's, `"svg+browser"`, or of its default; empty if the page draws the JSON."""
    names = pio.renderers.default if names is None else names
    found = [pio.renderers[name] for name in (names or "").split("+") if name]
    return [] if all(isinstance(renderer, QUIET) for renderer in found) else found


def present(figure, bundle: dict) -> None:
    """Display a figure as its own bundle, or by the renderers that were chosen; a text if they shall not be used."""
    from IPython.display import display

    if not pio.renderers.render_on_display:
        display({"text/plain": repr(figure)}, raw=True)
    elif not chosen():
        display(bundle, raw=True)
    else:
        figure.show()


def pictures(figure, names: str | None, options: dict) -> list[str]:
    """Display the still pictures among the renderers; returns the names of the others, for plotly to show.

    Args:
        figure: a plotly figure. names: of renderers, as `chosen` takes them.
        options: width, height and scale of a picture, if they were given.
    """
    from IPython.display import display

    names = [name for name in (pio.renderers.default if names is None else names or "").split("+") if name]
    for renderer in (pio.renderers[name] for name in names if isinstance(pio.renderers[name], STILL)):
        size = {key: options.get(key) or getattr(renderer, key) for key in ("width", "height", "scale")}
        drawn = image(figure.to_dict(), renderer.format, **size | {"scale": size["scale"] or 1})
        data = base64.b64encode(drawn).decode() if renderer.b64_encode else drawn.decode()
        display({renderer.mime_type: data}, raw=True)
    return [name for name in names if not isinstance(pio.renderers[name], STILL)]
