"""Live figures over a running kernel: a panel of sliders and menus, and a map that is computed anew where one zooms in.

    draw.panel(lambda layer, head: draw.heatmap(deltanet.implied_attention(run, layer=layer, heads=head)),
               layer=[0, 1, 2], head=range(6))

    draw.zoom(lambda x, y: draw.heatmap(attention.window(run, layer=3, heads=0, rows=y, sources=x), "lift"),
              x=len(run), y=len(run))

For exploring over data that is already there, `draw.frames` needs no kernel and survives in a saved page. In a zoom,
dragging a box calls the function with its bounds; `back` and `whole` lead out again. Without a kernel it stands still:
what a saved notebook keeps is the figure as it was made.
"""

import json
import numbers
from collections.abc import Callable, Iterable

import ipywidgets
import numpy as np
import plotly.graph_objects as go

from labkit.arguments import is_whole, whole
from labkit.draw.pages import escape
from labkit.draw.theme import CONFIG, MIME
from labkit.draw.titles import apart, sparse
from labkit.errors import InputError
from labkit.notation import spoken, whole_numbers
from labkit.signs import inert

HEADING = """<div style="font-size: 15px; line-height: 1.4; white-space: normal">{}</div>
<div style="font-size: 11px; line-height: 1.4; white-space: normal">{}</div>"""


class Widget(go.FigureWidget):
    """plotly's widget with the quiet toolbar, as wide as its place. Plotly gives no public names to what that takes."""

    def __init__(self, **parts):
        super().__init__(**parts)
        self._config = self._config | CONFIG

    def when_drawn(self, function: Callable) -> None:
        """Call a function without arguments whenever a page has drawn the figure, or drawn it anew."""
        self.observe(lambda change: function() if change.new else None, names="_js2py_traceDeltas")

    def fit(self) -> None:
        """Let every page draw the figure as wide as its place is now."""
        self._send_relayout_msg({"autosize": True})


class Live:
    """A figure that a function makes again and again, updated in place.

    Attributes:
        figure: the `FigureWidget`.
        made: what the function returned last. heading: its title, which wraps above the figure.
        message: where an error of the function is shown; the last good figure stays.
    """

    def __init__(self, function: Callable):
        if not callable(function):
            hint = "panel(lambda head: draw.heatmap(ds.sel(head=head)), head=range(6))"
            raise InputError("a panel calls a function for its figure", got=type(function).__name__, hint=hint)
        self.function = function
        self.heading, self.message = ipywidgets.HTML(), ipywidgets.HTML()
        self.figure = Widget(layout={"template": {}})
        self.figure.when_drawn(self._placed)
        self._shown, self._new = {}, False
        self._show(self._call())

    def _repr_mimebundle_(self, **kwargs):
        self._new = True
        bundle = self.box._repr_mimebundle_(**kwargs)
        bundle = bundle[0] if isinstance(bundle, tuple) else bundle
        still = json.loads(self.made.to_json())
        return {MIME: still | {"config": CONFIG}} | bundle | {"text/plain": repr(self)}

    def _placed(self):
        """Once per display: a page draws the figure before it has a place, 700 pixels wide."""
        if self._new:
            self._new = False
            self.figure.fit()

    def _arguments(self):
        """Arguments of the function, by name."""
        raise NotImplementedError

    def _call(self):
        figure = self.function(**self._arguments())
        if not isinstance(figure, go.Figure):
            hint = "return draw.heatmap(...) or another figure"
            raise InputError("the function of a panel returns a figure", got=type(figure).__name__, hint=hint)
        if figure.frames:
            hint = "choose one entry of that dim, for example with one more control of the panel"
            raise InputError(
                "a panel cannot hold a figure with a slider of its own", got=f"{len(figure.frames)} frames", hint=hint
            )
        return figure

    def _changed(self, change=None):
        try:
            self._show(self._call())
        except Exception as error:  # whatever the user's function raises belongs into the panel
            text = escape(f"{type(error).__name__}: {error}")
            self.message.value = f"<pre style='white-space:pre-wrap'>{text}</pre>"
        else:
            self.message.value = ""

    def _show(self, figure):
        """Send what differs from the figure shown before, so that a zoom or a hidden line survives a step."""
        traces = [_sendable(trace.to_plotly_json()) for trace in figure.data]
        title, subtitle, layout = apart(sparse(figure.layout.to_plotly_json()))
        self.heading.value = HEADING.format(escape(title), escape(subtitle))
        with self.figure.batch_update():
            if [trace["type"] for trace in traces] == [trace.type for trace in self.figure.data]:
                for i, (old, trace) in enumerate(zip(self.figure.data, traces, strict=True)):
                    _assign(old, self._shown["traces"][i], trace)
            else:
                self.figure.data = []
                self.figure.add_traces(traces)
            _assign(self.figure.layout, self._shown.get("layout", {}), layout)
        self.made, self._shown = figure, {"traces": traces, "layout": layout}


class Panel(Live):
    """Made by `panel`.

    Attributes:
        controls: `{name: widget}`; setting `.value` does what a hand on the slider does.
        figure, message: as of `Live`.
    """

    def __init__(self, function: Callable, controls: dict[str, Iterable]):
        if not controls:
            raise InputError("a panel needs a control", hint="panel(function, layer=[0, 1], head=range(6))")
        self.controls = {name: _control(name, values) for name, values in controls.items()}
        super().__init__(function)
        for widget in self.controls.values():
            widget.observe(self._changed, names="value")
        self.box = ipywidgets.VBox([_row(self.controls.values()), self.heading, self.message, self.figure])

    def __repr__(self):
        state = ", ".join(f"{name}={widget.value}" for name, widget in self.controls.items())
        return f"Panel({state})"

    def _arguments(self):
        return {name: widget.value for name, widget in self.controls.items()}


def _sendable(trace):
    """A trace whose blanks are None: a widget sends maps as JSON, which knows no not-a-number."""
    blanks = {key: part for key, part in trace.items() if isinstance(part, np.ndarray) and part.dtype.kind == "f"}
    blanks = {key: part for key, part in blanks.items() if part.ndim > 1 and np.isnan(part).any()}
    return trace | {key: np.where(np.isnan(part), None, part).tolist() for key, part in blanks.items()}


def _assign(target, before, now):
    for key in sorted(before.keys() | now.keys()):
        if not _same(before.get(key), now.get(key)):
            target[key] = now.get(key)


def _same(before, now):
    if isinstance(before, dict) and isinstance(now, dict):
        return before.keys() == now.keys() and all(_same(before[key], now[key]) for key in now)
    if isinstance(before, list | tuple) and isinstance(now, list | tuple):
        return len(before) == len(now) and all(map(_same, before, now))
    if isinstance(before, np.ndarray) and isinstance(now, np.ndarray):
        return before.dtype == now.dtype and before.tobytes() == now.tobytes() and before.shape == now.shape
    return type(before) is type(now) and before == now


def _control(name, values):
    values = list(values)
    if not values:
        raise InputError("a control needs values", got=f"{name}=[]", expected="a range or a list")
    words = {"description": spoken(name), "style": {"description_width": "initial"}}
    words["layout"] = {"max_width": "calc(100% - 4px)"}  # less its margin: no wider than a narrow window
    if all(isinstance(value, numbers.Integral) and not isinstance(value, bool) for value in values):
        values = [int(value) for value in values]
        step = values[1] - values[0] if len(values) > 1 else 0
        if step > 0 and values == list(range(values[0], values[-1] + 1, step)):
            return ipywidgets.IntSlider(values[0], values[0], values[-1], step, **words)
    texts = [str(value) for value in values]
    shown = list(map(inert, texts))
    options = values if shown == texts else list(zip(shown, values, strict=True))
    return ipywidgets.Dropdown(options=options, value=values[0], **words)


def _row(widgets):
    """Widgets beside each other, in as many lines as it takes."""
    return ipywidgets.HBox(list(widgets), layout=ipywidgets.Layout(flex_flow="row wrap"))


def panel(function: Callable, **controls: Iterable) -> Panel:
    """A live figure with one slider or menu per control.

    Args:
        function: called with one value per control; returns a plotly figure, for example from `draw.heatmap`.
        controls: values each control may take: evenly spaced integers become a slider, anything else a menu.

    Returns:
        `Panel`; show it as the last value of a cell.

    Raises:
        InputError: no control, one without values, or a function that returns no figure. What `function` raises at the
            first call is raised here; later it is shown in the panel.
    """
    return Panel(function, controls)


class Zoom(Live):
    """Made by `zoom`.

    Attributes:
        x, y: bounds (first, end) of what is shown.
        back, whole: the buttons.
        figure, message: as of `Live`; setting ranges of the figure's axes does what dragging a box does.
    """

    def __init__(self, function, x, y):
        self.x, self.y = _bounds("x", x), _bounds("y", y)
        self.past = []
        super().__init__(function)
        self.back, self.whole = (ipywidgets.Button(description=text, disabled=True) for text in ("back", "whole"))
        self.back.on_click(lambda _: self._go(*self.past.pop()))
        self.whole.on_click(lambda _: self._out())
        self.box = ipywidgets.VBox([_row([self.back, self.whole]), self.heading, self.message, self.figure])
        self._listening = True
        self.figure.layout.on_change(self._dragged, "xaxis.range", "yaxis.range")

    def __repr__(self):
        return f"Zoom(x={self.x}, y={self.y})"

    def _arguments(self):
        return {"x": self.x, "y": self.y}

    def _dragged(self, layout, x, y):
        if not self._listening or (x is None and y is None):
            return
        down, right = len(self.figure.data[0].z), len(self.figure.data[0].z[0])
        before = self.x, self.y
        wanted = _inside(self.x, right, x), _inside(self.y, down, y)
        if wanted != before:
            self.past.append(before)
        self._go(*wanted)

    def _out(self):
        self.past, (x, y) = [], self.past[0]
        self._go(x, y)

    def _go(self, x, y):
        before, self.x, self.y = (self.x, self.y), x, y
        self._listening = False
        try:
            self._changed()
            if self.message.value:  # the last good figure stays, and with it its bounds
                self.x, self.y = before
            fit = {"xaxis": {"range": None, "autorange": True}, "yaxis": {"range": None, "autorange": "reversed"}}
            self.figure.update_layout(fit)
        finally:
            self._listening = True
        self.back.disabled = self.whole.disabled = not self.past


def _bounds(name, given):
    first, end = (0, whole(given, name)) if is_whole(given) else whole_numbers(given, name)
    if first >= end:
        raise InputError("a zoom needs something to show", got=f"{name}=({first}, {end})", expected="(first, end)")
    return first, end


def _inside(bounds, cells, box):
    """The bounds of those cells that a box, in cells from -0.5, touches."""
    if box is None:
        return bounds
    first, end = bounds
    low, high = sorted(min(max(edge + 0.5, 0), cells) for edge in box)
    low, high = int(low), max(int(low) + 1, -int(-high // 1))
    return first + min(low, cells - 1) * (end - first) // cells, first + min(high, cells) * (end - first) // cells


def zoom(function: Callable, *, x: int | tuple[int, int], y: int | tuple[int, int]) -> Zoom:
    """A live map over a running kernel that is computed anew for what one zooms into.

    Args:
        function: called with `x` and `y`, bounds (first, end); returns a figure whose first trace is a map of evenly
            spaced stretches of them, for example of `attention.window`.
        x, y: the outermost bounds, (first, end) or a length.

    Returns:
        `Zoom`; show it as the last value of a cell.

    Raises:
        InputError: empty bounds, a function that returns no figure. What `function` raises at the first call is raised
            here; later it is shown beside the figure, which stays.
    """
    return Zoom(function, x, y)
