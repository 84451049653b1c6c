"""A live panel: sliders and menus over the model, one figure that is updated in place.

    draw.panel(lambda layer, head: draw.heatmap(deltanet.implied_attention(run, layer=layer, heads=head)),
               layer=[0, 1, 2], head=range(6))

For exploring over data that is already there, `draw.frames` needs no kernel and survives in a saved page.
"""

import html

import ipywidgets
import plotly.graph_objects as go

from labkit.draw.theme import CONFIG
from labkit.errors import InputError


class Panel:
    """Made by `panel`.

    Attributes:
        controls: `{name: widget}`; setting `.value` does what a hand on the slider does.
        figure: the `FigureWidget` that is updated in place, so that a zoom survives.
        message: where an error of the function is shown; the last good figure stays.
    """

    def __init__(self, function, controls):
        if not controls:
            raise InputError("a panel needs a control", hint="panel(function, layer=[0, 1], head=range(6))")
        self.function = function
        self.controls = {name: _control(name, values) for name, values in controls.items()}
        self.message = ipywidgets.HTML()
        self.figure = go.FigureWidget()
        self.figure._config = dict(self.figure._config or {}) | CONFIG
        self._show(self._call())
        for widget in self.controls.values():
            widget.observe(self._changed, names="value")
        self.box = ipywidgets.VBox([ipywidgets.HBox(list(self.controls.values())), self.message, self.figure])

    def __repr__(self):
        state = ", ".join(f"{name}={widget.value}" for name, widget in self.controls.items())
        return f"Panel({state})"

    def _repr_mimebundle_(self, **kwargs):
        bundle = self.box._repr_mimebundle_(**kwargs)
        bundle = bundle[0] if isinstance(bundle, tuple) else bundle
        return bundle | {"text/plain": repr(self)}

    def _call(self):
        return self.function(**{name: widget.value for name, widget in self.controls.items()})

    def _changed(self, change):
        try:
            self._show(self._call())
        except Exception as error:  # whatever the user's function raises belongs into the panel
            text = html.escape(f"{type(error).__name__}: {error}")
            self.message.value = f"<pre style='white-space:pre-wrap'>{text}</pre>"
        else:
            self.message.value = ""

    def _show(self, figure):
        new = [trace.to_plotly_json() for trace in figure.data]
        kinds = [trace["type"] for trace in new]
        with self.figure.batch_update():
            if kinds != [old.type for old in self.figure.data]:
                self.figure.data = []
                self.figure.add_traces([trace | {"uid": f"trace-{i}"} for i, trace in enumerate(new)])
            else:
                for old, trace in zip(self.figure.data, new, strict=True):
                    old.update({key: value for key, value in trace.items() if key not in ("type", "uid")})
            layout = figure.layout.to_plotly_json()
            self.figure.layout.update({k: v for k, v in layout.items() if k not in ("sliders", "updatemenus")})


def _control(name, values):
    values = list(values)
    if not values:
        raise InputError("a control needs values", got=f"{name}=[]")
    label = str(name)
    if len(values) > 1 and all(isinstance(value, int) for value in values):
        step = values[1] - values[0]
        if step > 0 and values == list(range(values[0], values[-1] + 1, step)):
            return ipywidgets.IntSlider(values[0], values[0], values[-1], step, description=label)
    return ipywidgets.Dropdown(options=values, value=values[0], description=label)


def panel(function, **controls):
    """A live figure with one slider or menu per control.

    Args:
        function: called with one value per control; returns a plotly figure, for example from `draw.heatmap`.
        controls: values each control may take: evenly spaced integers become a slider, anything else a menu.

    Returns:
        `Panel`; show it as the last value of a cell.

    Raises:
        InputError: no control, or one without values. What `function` raises at the first call is raised here; later
            it is shown in the panel.
    """
    return Panel(function, controls)
