"""Damaged safetensors headers, shards that are not what their index says, and what is no file at all."""

import json
import pathlib
import random

import checkpoints

from tests.attacks import attack
from tests.attacks.checkpoints import Original, tries_on
from tests.attacks.json_damage import VALUES, changed, dumped, garbled, put


def parts(path: pathlib.Path) -> tuple[dict, bytes]:
    """(header, numbers) of a safetensors file."""
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    return json.loads(data[8 : 8 + length]), data[8 + length :]


def write_parts(path: pathlib.Path, text: str, numbers: bytes, length: int | None = None) -> None:
    """A safetensors file, its header as text; `length` is what it says of its header."""
    path.unlink(missing_ok=True)
    header = text.encode("utf-8", "surrogateescape")
    path.write_bytes((len(header) if length is None else length).to_bytes(8, "little") + header + numbers)


def damaged_entry(table: dict, rng: random.Random) -> str:
    """Change what a header says of one tensor."""
    name, other = rng.sample([name for name in table if name != "__metadata__"], 2)
    how = rng.choice(("dtype", "shape", "offsets", "swap", "drop", "rename", "same", "more", "notes", "value", "turn"))
    entry, start = table[name], table[name]["data_offsets"][0]
    if how == "dtype":
        entry["dtype"] = rng.choice(
            ("F16", "BF16", "F64", "I32", "U32", "F8_E4M3", "I8", "BOOL", "f32", "", None, 5, ["F32"])
        )
    elif how == "shape":
        entry["shape"] = rng.choice(
            ([2**62, 4], [-1, -1], [], None, [0], [1.5], "2", [1] * 1000, entry["shape"] + [1], [True])
        )
    elif how == "turn":
        entry["shape"] = entry["shape"][::-1]
    elif how == "offsets":
        end = entry["data_offsets"][1]
        entry["data_offsets"] = rng.choice(
            ([start - 4, end - 4], [start + 4, end + 4], [start, end + 4], [end, start], [2**63, 2**63 + 4], [0, 2**62])
            + ([start], [], None, "ab", [start, end, end], [float(start), end], [-4, 4], table[other]["data_offsets"])
        )
    elif how == "swap":
        entry["data_offsets"], table[other]["data_offsets"] = table[other]["data_offsets"], entry["data_offsets"]
    elif how == "drop":
        del table[name]
    elif how == "rename":
        table[
            rng.choice((name + "x", "", "mtp.x", "x" * 10_000, name.replace("model.", "model.language_model.", 1)))
        ] = table.pop(name)
    elif how == "same":
        table[name + "_scale"] = entry
    elif how == "more":
        table |= {f"mtp.{index}": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for index in range(20_000)}
    elif how == "notes":
        table["__metadata__"] = rng.choice(
            (5, [], {"format": 5}, {"format": "tf"}, {"format": "x" * 10**6}, None, {"format": {}})
        )
    else:
        table[name] = rng.choice(VALUES)
    return f"{how} {name}"


def damaged(copy: pathlib.Path, rng: random.Random) -> str:
    """Damage a safetensors file or the index of a folder; returns how."""
    shards = sorted(copy.glob("*.safetensors"))
    path, index = rng.choice(shards), copy / "model.safetensors.index.json"
    table, numbers = parts(path)
    how = rng.choice(("entry", "entry", "entry", "length", "bytes", "cut", "text", "index", "index", "files"))
    if how == "entry":
        what = damaged_entry(table, rng)
        write_parts(path, dumped(table), numbers)
    elif how == "length":
        length = rng.choice((0, 1, 7, 2**31, 2**63, 2**64 - 1, len(numbers), 100_000_001))
        write_parts(path, dumped(table), numbers, length)
        what = f"length {length}"
    elif how == "bytes":
        data = bytearray(path.read_bytes())
        at = rng.randrange(len(data) - len(numbers))
        data[at] ^= 1 << rng.randrange(8)
        path.unlink()
        path.write_bytes(data)
        what = f"bit of byte {at}: {bytes(data[max(0, at - 20) : at + 20])!r}"
    elif how == "cut":
        at = rng.randrange(path.stat().st_size)
        data = path.read_bytes()
        path.unlink()
        path.write_bytes(data[:at] if rng.random() < 0.7 else data + data[:at])
        what = f"cut at {at}"
    elif how == "text":
        text, what = garbled(dumped(table), rng)
        write_parts(path, text, numbers)
    elif how == "index" and index.exists():
        content = json.loads(index.read_text())
        if rng.random() < 0.5:
            name = rng.choice(list(content["weight_map"]))
            value = rng.choice((*VALUES, "../x.safetensors", "/etc/passwd", ".", "..", path.name, "config.json"))
            content["weight_map"][name] = value
            text, what = dumped(content), f"{name} in {str(value)[:40]!r}"
        else:
            text, what = changed(content, rng, {})
        put(index, text)
    else:
        kind = rng.choice(("gone", "empty", "folder", "loop", "swap", "sparse"))
        what = f"{path.name} {kind}"
        if kind == "swap" and len(shards) > 1:
            path.rename(copy / "x")
            shards[shards.index(path) - 1].rename(path)
            (copy / "x").rename(shards[shards.index(path) - 1])
            return what
        path.unlink()
        if kind == "empty":
            path.touch()
        elif kind == "folder":
            path.mkdir()
        elif kind == "loop":
            path.symlink_to(path.name)
        elif kind == "sparse":
            with path.open("wb") as file:
                file.write((90_000_000).to_bytes(8, "little"))
                file.truncate(10**11)
    return f"{how}: {what}"


@attack("checkpoint weights", short=24, long=700)
def weights(tries, seed, folder):
    """Bytes of safetensors headers, whole shards, and the index."""
    whole = [
        Original(folder / "one", checkpoints.text_only),
        Original(folder / "shards", checkpoints.image_text, shards=3),
        Original(folder / "experts", checkpoints.text_only, experts=True, apart=True, shards=2),
    ]

    yield from tries_on(whole, tries, seed, folder, damaged)
