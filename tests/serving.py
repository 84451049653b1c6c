"""A JupyterLab or Notebook 7 for the tests: on a folder, with settings, data and workspaces of its own, and quiet."""

import contextlib
import json
import os
import pathlib
import secrets
import socket
import subprocess
import sys
import time
import urllib.request

import nbformat
import pytest

ROOT = pathlib.Path(__file__).parent.parent
STARTED = 60  # seconds that the server may take
QUIET = {
    "@jupyterlab/apputils-extension:notification": {"fetchNews": "false", "checkForUpdates": False},
    "@jupyterlab/notebook-extension:tracker": {"windowingMode": "none"},
}
LAB, NOTEBOOK = "jupyterlab", "notebook"
OPTIONS = {LAB: "LabApp", NOTEBOOK: "JupyterNotebookApp"}  # where each keeps its settings
PATHS = {LAB: "doc/tree", NOTEBOOK: "notebooks"}  # of one notebook on the server
OWN = {"CONFIG_DIR": "config", "DATA_DIR": "data", "RUNTIME_DIR": "runtime"}

IDLE = "() => window.jupyterapp?.shell?.currentWidget?.sessionContext?.session?.kernel?.status === 'idle'"
RUN = "() => window.jupyterapp.commands.execute('notebook:run-all-cells')"
CELLS = "() => [...window.jupyterapp.shell.currentWidget.content.model.cells].map(cell => cell.toJSON())"


@contextlib.contextmanager
def jupyterlab(files, home, app=LAB):
    """(address, token) of a server on a folder of files, as long as the block lasts; `home` holds all it writes."""
    (home / "settings").mkdir()
    (home / "settings" / "overrides.json").write_text(json.dumps(QUIET))
    token, port = secrets.token_hex(8), _free_port()
    address = f"http://127.0.0.1:{port}"
    words = ["--no-browser", "--allow-root", "--ip=127.0.0.1", f"--port={port}", "--ServerApp.port_retries=0"]
    words += [f"--IdentityProvider.token={token}", f"--ServerApp.root_dir={files}"]
    own = {"app_settings_dir": home / "settings", "expose_app_in_browser": True}
    own |= {"extension_manager": "readonly"} if app == LAB else {}
    words += [f"--{OPTIONS[app]}.{key}={value}" for key, value in own.items()]
    env = os.environ | {f"JUPYTER_{key}": str(home / name) for key, name in OWN.items()}
    env |= {f"JUPYTERLAB_{key}_DIR": str(home / key.lower()) for key in ("WORKSPACES", "SETTINGS")}
    env["PYTHONPATH"] = os.pathsep.join([str(ROOT), *filter(None, [env.get("PYTHONPATH")])])
    with open(home / "log", "w") as log:
        server = subprocess.Popen([sys.executable, "-m", app, *words], stdout=log, stderr=log, env=env)
    try:
        _wait(f"{address}/api/status?token={token}", server, home / "log")
        yield address, token
    finally:
        server.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.wait(20)
        server.kill()


@contextlib.contextmanager
def served(home, notebooks, app=LAB):
    """The same on notebooks, `{name: notebook}`, which are written into `home`."""
    (home / "files").mkdir()
    for name, notebook in notebooks.items():
        nbformat.write(notebook, home / "files" / f"{name}.ipynb")
    with jupyterlab(home / "files", home, app) as place:
        yield place


def run_all(page, address, token, name, app=LAB):
    """Open a notebook and run all of its cells, to the end."""
    page.goto(f"{address}/{PATHS[app]}/{name}?token={token}&reset")
    page.wait_for_function(IDLE)
    page.evaluate(RUN)


def _free_port():
    with socket.socket() as place:
        place.bind(("127.0.0.1", 0))
        return place.getsockname()[1]


def _wait(address, server, log):
    end = time.monotonic() + STARTED
    while time.monotonic() < end and server.poll() is None:
        with contextlib.suppress(OSError):
            return urllib.request.urlopen(address, timeout=2)
        time.sleep(0.2)
    return pytest.fail(f"JupyterLab did not start: {log.read_text()[-2000:]}")
