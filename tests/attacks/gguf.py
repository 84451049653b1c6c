"""Damaged and hostile .gguf files: counts, lengths, types and offsets of the header, and settings that contradict."""

import dataclasses
import importlib.util
import pathlib
import random
import struct

import checkpoints
import tiny

from tests.attacks import attack, families, tried
from tests.attacks.checkpoints import told

FORMATS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<B", 10: "<Q", 11: "<q", 12: "<d"}
SIZES = checkpoints.BLOCKS | dict(num_hidden_layers=3, layer_types=["linear_attention"] * 2 + ["full_attention"])
SIZES |= dict(hidden_size=32, intermediate_size=48)
HUGE = (0, 1, 2, 3, 2**16, 2**31, 2**32 - 1, 2**60, 2**63, 2**64 - 1)
ALIGNMENT = 32


class Writer:
    """A .gguf file in parts: settings [name, type, value] and tensors [name, dimensions, type, offset, bytes].

    The methods are those of `gguf.GGUFWriter` that `checkpoints.write_gguf` calls.
    """

    def __init__(self, path=None, architecture=""):
        self.path, self.version, self.settings, self.tensors = path, 3, [], []
        self.add("general.architecture", 8, architecture)

    def add(self, name, kind, value):
        self.settings.append([name, kind, value])

    def add_uint32(self, name, value):
        self.add(name, 4, value)

    def add_float32(self, name, value):
        self.add(name, 6, value)

    def add_string(self, name, value):
        self.add(name, 8, value)

    def add_array(self, name, values):
        self.add(name, 9, [8 if isinstance(values[0], str) else 5, values])

    def add_tokenizer_model(self, name):
        self.add("tokenizer.ggml.model", 8, name)

    def add_tokenizer_pre(self, name):
        self.add("tokenizer.ggml.pre", 8, name)

    def add_token_list(self, words):
        self.add_array("tokenizer.ggml.tokens", words)

    def add_token_types(self, kinds):
        self.add_array("tokenizer.ggml.token_type", kinds)

    def add_token_merges(self, merges):
        self.add_array("tokenizer.ggml.merges", merges)

    def add_eos_token_id(self, token):
        self.add_uint32("tokenizer.ggml.eos_token_id", token)

    def add_tensor(self, name, array, raw_dtype=0):
        end = self.tensors[-1][3] + len(self.tensors[-1][4]) if self.tensors else 0
        place = -(-end // ALIGNMENT) * ALIGNMENT
        self.tensors.append([name, list(array.shape)[::-1], raw_dtype, place, array.tobytes()])

    def write_header_to_file(self):
        pass

    write_kv_data_to_file = write_tensors_to_file = write_header_to_file

    def close(self):
        self.path.write_bytes(self.bytes())

    def bytes(self, counts=None) -> bytes:
        """The file; `counts` are what it says of its numbers of tensors and settings."""
        counts = counts or (len(self.tensors), len(self.settings))
        data = bytearray(b"GGUF" + struct.pack("<IQQ", self.version, *counts))
        for name, kind, value in self.settings:
            data += text(name) + struct.pack("<I", kind) + packed(kind, value)
        for name, dimensions, kind, offset, _ in self.tensors:
            data += text(name) + struct.pack("<I", len(dimensions))
            data += struct.pack(f"<{len(dimensions)}QIQ", *dimensions, kind, offset)
        data += bytes(-len(data) % ALIGNMENT)
        for *_, numbers in self.tensors:
            data += numbers + bytes(-len(numbers) % ALIGNMENT)
        return bytes(data)

    def copy(self) -> "Writer":
        """Another one that may be changed."""
        made = Writer()
        made.version = self.version
        made.settings, made.tensors = [list(entry) for entry in self.settings], [list(entry) for entry in self.tensors]
        return made


def written(path: pathlib.Path, model) -> Writer:
    """A file of a model, in parts and on disk."""
    made = []

    def writer(path, architecture):
        made.append(Writer(path, architecture))
        return made[0]

    checkpoints.write_gguf(path, model, writer=writer)
    return made[0]


def text(value) -> bytes:
    """A string as the format has it; bytes stand as they are."""
    data = value if isinstance(value, bytes) else value.encode("utf-8")
    return struct.pack("<Q", len(data)) + data


def packed(kind, value) -> bytes:
    """A value of a type; bytes stand as they are."""
    if isinstance(value, bytes):
        return value
    if kind == 9:
        return struct.pack("<IQ", value[0], len(value[1])) + b"".join(packed(value[0], item) for item in value[1])
    return text(value) if kind == 8 else struct.pack(FORMATS[kind], value)


def setting(rng: random.Random, kind):
    """(type, value) of another value for a setting of a type."""
    if rng.random() < 0.5 and kind in (4, 5, 10):
        return 4, rng.choice((0, 1, 2, 3, 5, 7, 24, 33, 211, 212, 10_001, 2**31, 2**32 - 1))
    if rng.random() < 0.5 and kind == 6:
        return 6, rng.choice((0.0, -1.0, 1e-5, 0.5, 1.0, 2.0, 500.0, 3e38, float("nan"), float("inf"), -float("inf")))
    array = struct.pack("<IQ", rng.choice((0, 5, 8, 9, 99)), rng.choice(HUGE))
    return rng.choice(
        (
            (4, 3),
            (5, -3),
            (10, 2**60),
            (11, -(2**60)),
            (12, 1.5),
            (6, 2.0),
            (7, 1),
            (7, b"\7"),
            (0, 1),
            (8, ""),
            (8, "x"),
        )
        + (
            (8, b"\xff\xfe"),
            (8, "x" * 100_000),
            (9, [4, [1, 2, 3]]),
            (9, [4, []]),
            (9, [8, ["a", "b"]]),
            (9, [6, [1.5]]),
        )
        + ((9, [9, [[9, [[4, [1]]]]]]), (9, array), (8, struct.pack("<Q", rng.choice(HUGE))), (99, b""), (9, [7, [1]]))
        + ((9, struct.pack("<IQIQ", 9, 1, 9, 1) * 5_000),)
    )


def damaged(whole: Writer, rng: random.Random) -> tuple[bytes, str]:
    """(bytes of the file with something changed, what was changed)."""
    made, counts = whole.copy(), [len(whole.tensors), len(whole.settings)]
    how = rng.choice(
        ("setting",) * 5 + ("tensor",) * 4 + ("count", "bit", "cut", "magic", "twice", "drop", "alignment", "tokens")
    )
    entry, tensor = rng.choice(made.settings), rng.choice(made.tensors)
    what = f"{how} {entry[0]}"
    if how == "setting":
        entry[1:] = setting(rng, entry[1])
        what = f"{entry[0]} is {str(entry[1:])[:60]}"
    elif how == "tensor":
        place = rng.randrange(4)
        other = rng.choice(made.tensors)
        values = (
            (other[0], "", "x", tensor[0] + "x", b"\xff", "blk.2147483648.attn_q.weight", "x" * 100_000),
            (
                other[1],
                tensor[1][::-1],
                [],
                [0],
                [1] * 5,
                [2**63, 2],
                [2**32, 2**32],
                tensor[1] + [1],
                [1] * 1000,
                [2**62],
            ),
            (1, 2, 8, 12, 30, 31, 99, 2**32 - 1),
            (other[3], 1, tensor[3] + 32, 2**63, 2**64 - 32),
        )[place]
        tensor[place] = rng.choice(values)
        what = f"tensor {str(tensor[:4])[:90]}"
    elif how == "count":
        counts[rng.randrange(2)] = rng.choice((*HUGE, counts[0] - 1, counts[0] + 1, counts[1] - 1, counts[1] + 1))
        what = f"counts {counts}"
    elif how == "twice":
        made.settings.append([entry[0], *setting(rng, entry[1])])
        counts = None
    elif how == "drop":
        part, gone = (made.settings, entry) if rng.random() < 0.7 else (made.tensors, tensor)
        part.remove(gone)
        counts, what = None, f"drop {gone[0]}"
    elif how == "alignment":
        made.settings.append(["general.alignment", 4, rng.choice((0, 1, 3, 8, 16, 32, 64, 2**31))])
        counts, what = None, f"alignment {made.settings[-1][2]}"
    elif how == "tokens":
        known = {entry[0]: entry for entry in made.settings}
        name = rng.choice(("tokens", "token_type", "merges"))
        items = list(known[f"tokenizer.ggml.{name}"][2][1])
        change = rng.choice(("less", "more", "same", "none", "odd"))
        items = {
            "less": items[:-1],
            "more": items + items[-1:],
            "same": items[:1] * len(items),
            "none": [],
            "odd": items[::-1],
        }[change]
        known[f"tokenizer.ggml.{name}"][2] = [known[f"tokenizer.ggml.{name}"][2][0], items]
        what = f"{name} {change}"
    elif how == "magic":
        made.version = rng.choice((0, 1, 2, 4, 2**31))
        what = f"version {made.version}"
    data = bytearray(made.bytes(counts))
    if how == "bit":
        at = rng.randrange(len(data) - sum(len(entry[4]) for entry in made.tensors))
        data[at] ^= 1 << rng.randrange(8)
        what = f"bit of byte {at}"
    elif how == "cut":
        data = data[: rng.randrange(len(data))]
        what = f"cut at {len(data)}"
    return bytes(data), what


@attack("gguf", short=60, long=900)
def gguf(tries, seed, folder):
    """Headers and settings, under `labkit plan`, the doctor and at loading."""
    models = [tiny.model(**SIZES), tiny.model(experts=True, **experts()), tiny.model(family="qwen3_next", **experts())]
    wholes = [written(folder / f"whole{number}.gguf", model) for number, model in enumerate(models)]
    originals = [families.computed(families.opened(made.path)) for made in wholes]
    packages = importlib.util.find_spec("accelerate") is not None

    def right(found, which, path):
        """Whether that is the original or what transformers makes of the file; without its packages, what it reads."""
        import torch

        lab, logits = found["lab"], found["logits"]
        if not logits.isfinite().all() or not told(lab) or len(found["encoded"]) < 4:
            return False
        if torch.equal(logits, originals[which]["logits"]):
            return True
        return torch.equal(logits, theirs(lab, path)) if packages else agreed(path)

    for number in range(tries):
        rng, which = random.Random(seed + number), number % len(wholes)
        data, what = damaged(wholes[which], rng)
        path = folder / "copy.gguf"
        path.write_bytes(data)
        answer = lambda found: right(found, which, path)  # noqa: B023, E731
        yield tried(lambda: families.agree(path), answer, f"{seed + number}: {what}")  # noqa: B023


def agreed(path: pathlib.Path) -> bool:
    """Whether transformers' reader finds the same in the file."""
    from transformers.integrations.gguf import reader

    from labkit.zoo import gguf as route

    header, found = route.opened(path)[0], reader.GgufHeader.from_file(str(path))
    same = [dataclasses.astuple(entry) for entry in header.tensors] == [tuple(entry) for entry in found.tensors]
    ends = [found.data_start + entry.offset + entry.nbytes for entry in found.tensors]
    return same and header.end == max(ends) and header.settings == reader.read_gguf_metadata(str(path))[0]


def theirs(lab, path: pathlib.Path):
    """Logits of what transformers makes of the file."""
    import torch
    from transformers import GgufConfig

    from labkit.zoo import loading

    with loading.quiet(), torch.no_grad():
        options = dict(gguf_file=path.name, quantization_config=GgufConfig(dequantize=True), dtype="float32")
        made = type(lab.model).from_pretrained(path.parent, **options)
        return made.eval()(families.IDS[None]).logits[0]


def experts():
    """Sizes of a small hybrid with experts."""
    sizes = dict(
        SIZES, moe_intermediate_size=32, shared_expert_intermediate_size=16, num_experts=5, num_experts_per_tok=3
    )
    sizes.pop("intermediate_size")
    return sizes
