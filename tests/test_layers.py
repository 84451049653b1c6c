"""The layer of a reading is a coordinate, so that readings put together are drawn as the layers that they are of."""

import pytest
import tiny
import xarray
from test_packs import READINGS, asked, made  # noqa: F401 (a fixture)

from labkit import attention, deltanet, draw, stream


def together(read, run, layers, chosen):
    """Readings of single layers, one by one, put together by xarray."""
    return xarray.concat([read(run, layer=layer, **chosen) for layer in layers], "layer", join="outer")


@pytest.mark.parametrize("name", READINGS)
def test_the_layer_of_every_reading_survives_concatenation(made, name):  # noqa: F811
    _, run, more = made
    read, layers, chosen = next(iter(asked(name, more)))
    layers = [layers[0], layers[-1]] if len(layers) > 1 else layers
    one = read(run, layer=layers[-1], **chosen)
    assert one.layer.shape == () and int(one.layer) == layers[-1] == one.attrs["layer"]
    both = together(read, run, layers, chosen)
    assert both.layer.values.tolist() == layers
    name = next(name for name, array in both.data_vars.items() if "layer" in array.dims and array.dtype.kind == "f")
    rest = {dim: 0 for dim in both[name].dims if dim != "layer"}
    fig = draw.bars(both.isel(rest), name)
    assert list(fig.layout.xaxis.ticktext) == [str(layer) for layer in layers]
    words = " ".join(map(str, layers)) if len(layers) == 1 else ", ".join(map(str, layers))
    assert fig.layout.title.text.startswith((f"layers {words} ·", f"layer {words} ·"))


def test_probes_name_their_layers():
    lab = tiny.make_lab(tiny.model())
    probes = [deltanet.gates(layers=[3]), deltanet.spectra(layers=3), attention.watch(layers=[4], samples=2)]
    for probe in [*probes, stream.capture("read", tokens=[5], layers=[1])]:
        data = lab.stream(tiny.ids(40), probes=[probe], chunk=64)
        assert data.layer.values.tolist() == list(probe.layers), probe


@pytest.mark.parametrize("layers", [[0, 1, 2, 4], [5], [4, 0]])
def test_the_title_says_the_layers_of_the_coordinate(layers):
    """Not those of the attributes, which are of the first."""
    parts = [xarray.Dataset({"x": ("head", [1.0, 2.0])}, {"layer": layer}, {"layer": layer}) for layer in layers]
    data = xarray.concat(parts, "layer")
    assert data.attrs["layer"] == layers[0]
    fig = draw.lines(data, "x", x="layer", color="head")
    assert list(fig.layout.xaxis.ticktext) == [str(layer) for layer in layers]
    assert fig.layout.title.text == f"layer{'s' if len(layers) > 1 else ''} {', '.join(map(str, layers))}"
    assert draw.bars(parts[-1], "x").layout.meta["labkit"]["layer"] == layers[-1]
    sides = draw.maps(*((part.expand_dims("layer"), "x", "one") for part in parts))
    assert sides.layout.title.text == fig.layout.title.text
