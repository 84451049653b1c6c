"""A page as a PNG, by an installed Chromium."""

import os
import shutil
import subprocess

from labkit.draw.images import BROWSERS
from labkit.errors import BackendError

FLAGS = (
    "--headless",
    "--disable-gpu",
    "--hide-scrollbars",
    "--no-first-run",
    "--disable-background-networking",
)


def find_browser():
    """Path of an installed Chromium or Chrome.

    Raises:
        BackendError: there is none.
    """
    if found := next(filter(None, map(shutil.which, BROWSERS)), None):
        return found
    expected = ", ".join(BROWSERS)
    raise BackendError("a picture needs a browser", got="none", expected=expected, hint="leave out --png")


def shoot(browser, path, height):
    """A PNG beside a page: the figure without its words, 1,040 pixels wide."""
    root = ["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
    shot = [f"--screenshot={path.with_suffix('.png').resolve()}", f"--window-size=1040,{height + 40}"]
    wait = ["--virtual-time-budget=8000", f"{path.resolve().as_uri()}#picture"]
    words = [browser, *FLAGS, *root, *shot, *wait]
    done = subprocess.run(words, capture_output=True, timeout=120, check=False)
    if done.returncode or not path.with_suffix(".png").exists():
        raise BackendError("the browser drew no picture", got=done.stderr.decode(errors="replace")[-300:])
