"""Attacks on saved runs: damaged bytes, and files that are signed and lie.

What is opened all the same must be what an independent reading of the files says, and must serve readings.
"""

import json
import pathlib
import random
import shutil
from collections.abc import Iterator

import safetensors.torch
import tiny
import torch

import labkit
from labkit import attention, deltanet, folders
from labkit.errors import LabError
from labkit.trace import Run
from tests.attacks import Outcome, attack, tried
from tests.attacks.folders import Kill, at_line, changed, damaged, raiser

TRACE = str(pathlib.Path(labkit.__file__).parent / "trace" / "saved.py")
PLACES = (TRACE, folders.__file__)


def saved(folder: pathlib.Path) -> Run:
    """A run after cached tokens, with chosen positions, saved there."""
    lab = tiny.make_lab(tiny.model())
    cache = lab.cache()
    lab.trace(tiny.ids(7), cache=cache)
    run = lab.trace(tiny.ids(11, seed=2), cache=cache, logits=[2, -1], layers=[0, 2], position_ids=range(9, 20))
    deltanet.memory(run, layer=0)
    run.save(folder)
    return run


def plain(run: Run) -> tuple[dict, dict]:
    """(facts, tensors) of a run, as its files would name them."""
    facts = dict(tokens=list(run.tokens), prompt_length=run.prompt_length, model=run.model, length=run.start.length)
    facts |= dict(placed=run.start.placed, spec=dict(vars(run.spec)), scaling=dict(vars(run.scaling)))
    facts["spec"]["kinds"] = list(run.spec.kinds)
    facts["parity"] = [[layer, reading, error] for (layer, reading), error in run.parity.items()]
    tensors = {"ids": run.ids, "logits": run.logits, "logit_tokens": run.logit_tokens}
    tensors |= {"rotary/cos": run.rotary[0], "rotary/sin": run.rotary[1], "position_ids": run.position_ids}
    tensors["start_position_ids"] = run.start.position_ids
    for group, pairs in (("seams", run.seams), ("parameters", run.parameters)):
        tensors |= {f"{group}/{layer}/{name}": value for (layer, name), value in pairs.items()}
    for part in ("conv", "state", "keys", "values"):
        tensors |= {f"start/{part}/{layer}": value for layer, value in getattr(run.start, part).items()}
    return facts, {name: value for name, value in tensors.items() if value is not None}


def says(folder: pathlib.Path, run: Run) -> bool:
    """Whether a run is what its files say, read by other means; and whether readings of it end as they should."""
    facts, tensors = plain(run)
    stored = json.loads((folder / "run.json").read_text())
    bytes_of = safetensors.torch.load((folder / "run.safetensors").read_bytes())
    if any(stored[name] != value for name, value in facts.items()) or set(tensors) != set(bytes_of):
        return False
    for name, value in tensors.items():
        if value.dtype != bytes_of[name].dtype or not torch.equal(value.nan_to_num(7), bytes_of[name].nan_to_num(7)):
            return False
    repr(run), repr(run.spec), run.positions, run.layers
    for layer, reading in ((0, deltanet.memory), (2, attention.pattern)):
        try:
            reading(run, layer=layer)
        except LabError:
            continue
    return True


@attack("saved runs: damaged bytes", short=60, long=1500)
def damage(tries: int, seed: int, folder: pathlib.Path) -> Iterator[Outcome]:
    """A bit, a cut, zeros, a file gone: of one of the two files."""
    saved(folder / "whole")
    for i in range(tries):
        draw, place = random.Random(seed + i), folder / str(i)
        shutil.copytree(folder / "whole", place)
        what = damaged(place / draw.choice(["run.json", "run.safetensors"]), draw)
        yield tried(lambda: labkit.open_run(place), lambda run: says(folder / "whole", run), what)  # noqa: B023
        shutil.rmtree(place)


@attack("saved runs: signed facts that lie", short=60, long=1500)
def lies(tries: int, seed: int, folder: pathlib.Path) -> Iterator[Outcome]:
    """One value of run.json changed, and the file signed again."""
    saved(folder / "whole")
    facts = json.loads((folder / "whole" / "run.json").read_text())
    facts.pop("sha256")
    for i in range(tries):
        draw, place = random.Random(seed + i), folder / str(i)
        shutil.copytree(folder / "whole", place)
        part = draw.choice(["spec", "scaling", "parity", "tokens", ""])
        lie, what = changed(facts[part] if part else facts, draw, part)
        lie = facts | {part: lie} if part else lie
        (place / "run.json").write_text(folders.signed(lie) if isinstance(lie, dict) else json.dumps(lie))
        yield tried(lambda: labkit.open_run(place), lambda run: says(place, run), what)  # noqa: B023
        shutil.rmtree(place)


def bent(tensors: dict, draw: random.Random) -> str:
    """Change one tensor of a file; returns how."""
    name, value = draw.choice(list(tensors.items()))
    how = draw.choice(["gone", "renamed", "moved", "longer", "shorter", "turned", "flat", "dtype", "value", "nothing"])
    tensors.pop(name)
    kinds = [torch.float16, torch.float64, torch.int32, torch.int64, torch.bool, torch.uint8, torch.complex64]
    kinds += [torch.float8_e4m3fn, torch.bfloat16]
    if how == "renamed":
        odd = [name + "x", name.upper(), "x/" + name, "", "seams", "seams/0", "seams/0/x/y", "start/x/1"]
        tensors[draw.choice(odd)] = value
    elif how == "moved":
        other = draw.choice([0, 1, 2, 3, 4, 5, -1, "00", "x", 10**30])
        tensors["/".join(str(other) if part.isdigit() else part for part in name.split("/"))] = value
    elif how == "longer":
        tensors[name] = torch.cat([value, value[:1]])
    elif how == "shorter":
        tensors[name] = value[: draw.choice([0, -1])]
    elif how == "turned":
        tensors[name] = value.transpose(0, -1).contiguous()
    elif how == "flat":
        tensors[name] = value.reshape(-1)
    elif how == "dtype":
        tensors[name] = value.to(draw.choice(kinds))
    elif how == "value":
        odd = [0, 1, -1, 2**40] + ([float("nan"), float("inf"), 1e30] if value.is_floating_point() else [])
        tensors[name] = value.clone()
        tensors[name].view(-1)[draw.randrange(value.numel())] = draw.choice(odd)
    elif how == "nothing":
        tensors[name] = torch.zeros(draw.choice([(), (0,), (0, 3), (1, 1, 1, 1, 1)]), dtype=value.dtype)
    return f"{name} {how}"


@attack("saved runs: signed tensors that lie", short=60, long=1500)
def tensors_lie(tries: int, seed: int, folder: pathlib.Path) -> Iterator[Outcome]:
    """One tensor gone, renamed, of another shape, dtype or value, and both files signed again."""
    saved(folder / "whole")
    facts = json.loads((folder / "whole" / "run.json").read_text())
    whole = safetensors.torch.load_file(folder / "whole" / "run.safetensors")
    for i in range(tries):
        draw, place = random.Random(seed + i), folder / str(i)
        place.mkdir()
        tensors = dict(whole)
        what = bent(tensors, draw)
        known = folders.write_tensors(place / "run.safetensors", tensors)
        lie = {name: value for name, value in facts.items() if name != "sha256"} | {"tensors": known}
        (place / "run.json").write_text(folders.signed(lie))
        yield tried(lambda: labkit.open_run(place), lambda run: says(place, run), what)  # noqa: B023
        shutil.rmtree(place)


@attack("saved runs: stopped at any line", short=20, long=400)
def stopped(tries: int, seed: int, folder: pathlib.Path) -> Iterator[Outcome]:
    """An exception at a line of `Run.save`: nothing is there, or all."""
    run = saved(folder / "whole")
    with at_line(0, print, PLACES) as lines:
        run.save(folder / "count")
    for i in range(tries):
        number, place = random.Random(seed + i).randrange(1, lines[0] + 1), folder / str(i)
        try:
            with at_line(number, raiser(Kill()), PLACES):
                run.save(place)
        except Kill:
            pass
        if not place.exists():
            run.save(place)
        yield tried(lambda: labkit.open_run(place), lambda run: says(folder / "whole", run), f"line {number}", clear=())  # noqa: B023
        shutil.rmtree(place, ignore_errors=True)
