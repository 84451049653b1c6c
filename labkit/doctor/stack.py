"""The stack: versions, kernels, memory, and what notebooks and figures need besides."""

import importlib.metadata
import platform
import shutil

import torch

from labkit.doctor.report import Verdict
from labkit.doctor.sample import Sample
from labkit.families import FAMILIES
from labkit.kernels import installed
from labkit.spec import size

TESTED = {"torch": ("2.13.0",), "transformers": ("5.23.0", "5.24.0"), "plotly": ("7.1.0",)}  # what .ci/run installs
FAST = {"fla-core": "fla", "causal-conv1d": "causal_conv1d"}  # distribution: its package
PYTHON = (3, 11)
OLDEST_TRANSFORMERS = (5, 23)  # continuing a warm cache and padding in it were wrong before
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")


def versions(sample: Sample) -> Verdict:
    """Tested versions give the numbers labkit was tested with."""
    installed = {name: _version(name) for name in TESTED}
    text = ", ".join(f"{name} {version or 'absent'}" for name, version in installed.items())
    text = f"python {platform.python_version()}, {text}"
    if tuple(map(int, platform.python_version_tuple()[:2])) < PYTHON:
        return Verdict("versions", "fail", f"{text}; labkit needs python 3.11")
    if _numbers(installed["transformers"]) < OLDEST_TRANSFORMERS:
        return Verdict("versions", "fail", f"{text}; transformers before 5.23 loses states between chunks")
    others = [f"{name} {' or '.join(TESTED[name])}" for name in TESTED if _release(installed[name]) not in TESTED[name]]
    if others:
        return Verdict("versions", "warn", f"{text}; tested with {', '.join(others)}")
    return Verdict("versions", "ok", f"{text}; all as tested")


def _version(name):
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _release(version):
    return (version or "").partition("+")[0]


def _numbers(version):
    return tuple(int(part) for part in (version or "0").split(".")[:2] if part.isdigit())


def kernels(sample: Sample) -> Verdict:
    """Which fast packages compute DeltaNet layers on a card, for every family; on a CPU none is needed."""
    pairs = {pair: None for family in FAMILIES.values() for pair in installed(family).items()}
    found = sorted({package for _, package in pairs} - {"torch"})
    text = ", ".join(f"{operation} {package}" for operation, package in pairs) if found else "all PyTorch's reference"
    if not torch.cuda.is_available():
        idle = f"{' and '.join(found)} would compute on a GPU alone" if found else "fast packages would not matter"
        return Verdict("kernels", "ok", f"{text}; no GPU, so the reference computes, and {idle}")
    absent = [name for name, package in FAST.items() if package not in found]
    if absent:
        return Verdict("kernels", "warn", f"{text}; a GPU is faster with {' and '.join(absent)}")
    return Verdict("kernels", "ok", f"{text}; float32 and what they cannot do is left to the reference")


def memory(sample: Sample) -> Verdict:
    """What a model may use."""
    from labkit.plan import budget

    free, _ = budget(torch.device("cpu"))
    if not torch.cuda.is_available():
        return Verdict("memory", "ok", f"no GPU; {size(free)} of host memory to use")
    room, name = budget(torch.device("cuda", torch.cuda.current_device()))
    status = "ok" if room > 2**30 else "warn"
    return Verdict("memory", status, f"{size(room)} to use on {name}; {size(free)} of host memory")


def browser(sample: Sample) -> Verdict:
    """Browser tests and pictures of figures need one; figures themselves do not."""
    if path := next(filter(None, map(shutil.which, BROWSERS)), None):
        return Verdict("browser", "ok", f"{path.replace(chr(92), '/').rsplit('/', 1)[-1]} is installed")
    return Verdict("browser", "warn", f"none of {', '.join(BROWSERS)}; browser tests are skipped")


def share_button(sample: Sample) -> Verdict:
    """plotly's toolbar may offer to upload a figure, and with it prompts and activations."""
    import re

    from plotly.offline import get_plotlyjs

    option = re.search(r'showSendToCloud:\{valType:"boolean",dflt:!(\d)', get_plotlyjs())
    if option is None:
        return Verdict("share button", "warn", "plotly no longer has showSendToCloud; look for another upload button")
    shown = "on" if option[1] == "0" else "off"
    return Verdict(
        "share button", "ok", f"plotly's upload to its cloud is {shown} by default; labkit.draw turns it off"
    )


CHECKS = (versions, kernels, memory, browser, share_button)
