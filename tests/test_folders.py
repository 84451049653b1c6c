"""Folders that results are kept in: whole or not at all, one writer, damage named, room tried first."""

import collections
import contextlib
import dataclasses
import errno
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping

import pytest
import safetensors.torch
import tiny
import torch

import labkit
from figures import _golden
from labkit import deltanet, folders, stream, yarn
from labkit.errors import CheckpointError, InputError
from labkit.rotary import Scaling
from labkit.spec.memory import kv_bytes_per_token
from labkit.stream import points
from labkit.yarn.answers import Answers, interruptible

IDS = tiny.ids(90)


def streamed(lab, folder=None, probes=None, **options):
    """The stream of this file: six checkpoints of 16 tokens, the last of 10."""
    probes = probes or [deltanet.gates(block=16), stream.capture("resid_post", tokens=[5, 40, 89], layers=[0, 2])]
    return lab.stream(IDS, probes=probes, chunk=16, checkpoint=folder, **{"every": 1} | options)


def flip(path, at=-9):
    """Flip one bit of a file."""
    raw = bytearray(path.read_bytes())
    raw[at] ^= 4
    path.write_bytes(raw)


def sign(path, **changes):
    """Change facts of a signed file and sign it again."""
    facts = {name: value for name, value in json.loads(path.read_text()).items() if name != "sha256"}
    path.write_text(folders.signed(facts | changes))


@pytest.fixture
def fills_up(monkeypatch):
    """A function: the disk is full at the n-th sync from now."""

    def at(count):
        left, real = [count], os.fsync

        def fsync(file):
            left[0] -= 1
            if left[0] < 0:
                raise OSError(errno.ENOSPC, "No space left on device")
            real(file)

        monkeypatch.setattr(folders.os, "fsync", fsync)

    return at


# ------------------------------------------------------------------------------------------------------- whole files


def test_a_file_or_folder_is_replaced_whole_or_not_at_all(tmp_path, fills_up):
    path = tmp_path / "a.txt"
    folders.write_text(path, "before")
    with pytest.raises(KeyboardInterrupt), folders.whole(path) as draft:
        draft.write_text("half")
        raise KeyboardInterrupt
    assert path.read_text() == "before" and list(tmp_path.iterdir()) == [path]
    with pytest.raises(ValueError), folders.whole(tmp_path / "folder") as draft:
        draft.mkdir()
        (draft / "inside").write_text("half")
        raise ValueError
    assert list(tmp_path.iterdir()) == [path]
    with folders.whole(tmp_path / "folder") as draft:
        draft.mkdir()
        (draft / "inside").write_text("all")
    assert (tmp_path / "folder" / "inside").read_text() == "all"
    fills_up(0)
    with pytest.raises(OSError):
        folders.write_text(path, "after")
    assert path.read_text() == "before" and len(list(tmp_path.iterdir())) == 2


def test_a_signed_file_that_was_changed_is_refused(tmp_path, monkeypatch):
    path, facts = tmp_path / "a.json", {"format": 7, "n": [1.5, None, "é"], "d": {"x": True}}
    path.write_text(folders.signed(facts))
    assert folders.read_signed(path, 7, "a book") == facts
    text = path.read_text()
    for old, new in (("1.5", "1.6"), ("true", "null"), ("7", "8"), ("x", "y"), ("sha256", "sha257"), ("}", "")):
        path.write_text(text.replace(old, new, 1))
        with pytest.raises(CheckpointError, match="(?s)a book is damaged.*a.json"):
            folders.read_signed(path, 7, "a book")
    for raw in (b"", b"[1]", b"\xff", b"[" * 100_000, b'{"format": 7, "a": ' + 900 * b"[" + 900 * b"]" + b"}"):
        path.write_bytes(raw)
        with pytest.raises(CheckpointError, match="a book is damaged"):
            folders.read_signed(path, 7, "a book")
    path.write_text('{"format": 6}')
    with pytest.raises(InputError, match="(?s)unknown format of a book.*got: 6.*expected: 7"):
        folders.read_signed(path, 7, "a book")
    path.write_text(text)
    monkeypatch.setattr(folders, "BOOK_LIMIT", len(text) - 1)
    with pytest.raises(CheckpointError, match="a book is damaged"):
        folders.read_signed(path, 7, "a book")
    with pytest.raises(CheckpointError, match="(?s)a book cannot be read.*No such file"):
        folders.read_signed(tmp_path / "none", 7, "a book")


def test_room_and_permission_are_tried(tmp_path, fills_up):
    folders.check_room(tmp_path / "new" / "one", 10)
    assert list((tmp_path / "new" / "one").iterdir()) == []
    with pytest.raises(CheckpointError, match=r"(?s)no room on the disk.*MiB free.*expected: 1,099,511,627,777\.0 MiB"):
        folders.check_room(tmp_path, 2**60)
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match="(?s)cannot be written.*file/inside: Not a directory.*another folder"):
        folders.check_room(tmp_path / "file" / "inside", 0)
    fills_up(0)
    with pytest.raises(CheckpointError, match="(?s)cannot be written.*No space left.*make room"):
        folders.check_room(tmp_path, 0)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "new"]


# -------------------------------------------------------------------------------------------------------------- locks


def elsewhere(call):
    """What a call in another thread raises, or None."""
    raised = []

    def run():
        try:
            call()
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return raised[0] if raised else None


def held(path):
    with folders.lock(path):
        pass


def test_a_second_writer_is_told_who_the_first_is(tmp_path):
    path = tmp_path / "new" / "a.lock"
    with folders.lock(path):
        error = elsewhere(lambda: held(path))
    assert isinstance(error, InputError)
    assert f"process {os.getpid()} on {socket.gethostname()} holds {path}" in str(error)
    assert elsewhere(lambda: held(path)) is None


def test_a_lock_ends_with_its_process_in_whatever_way(tmp_path):
    path = tmp_path / "a.lock"
    code = "import sys, time; from labkit import folders\n"
    code += "with folders.lock(folders.pathlib.Path(sys.argv[1])): print('held', flush=True); time.sleep(60)"
    other = subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, env=os.environ)
    try:
        assert other.stdout.readline() == b"held\n"
        with pytest.raises(InputError, match=f"(?s)another process writes.*process {other.pid} on"):
            held(path)
    finally:
        other.send_signal(signal.SIGKILL)
        other.communicate()
    held(path)


def test_what_an_interrupted_call_left_locked_is_taken_by_the_next_of_its_thread(tmp_path):
    path, left = tmp_path / "a.lock", contextlib.ExitStack()
    left.enter_context(folders.lock(path))  # never closed, as by an interrupt at the wrong line
    assert isinstance(elsewhere(lambda: held(path)), InputError)
    held(path)
    assert elsewhere(lambda: held(path)) is None
    left.close()


def test_where_the_file_system_knows_no_locks_the_file_itself_is_one(tmp_path, monkeypatch):
    monkeypatch.setattr(folders, "fcntl", None)
    path, host = tmp_path / "a.lock", socket.gethostname()
    with folders.lock(path):
        assert isinstance(elsewhere(lambda: held(path)), InputError)
    held(path)
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    path.write_text(json.dumps({"pid": gone.pid, "host": host}))
    held(path)
    for pid, where in ((1, host), (gone.pid, "another")):
        words = json.dumps({"pid": pid, "host": where})
        path.write_text(words)
        with pytest.raises(InputError, match="another process writes"):
            held(path)
    for words in ("", "[]", '{"pid": "x"}', '{"pid": -1}', '{"pid": 1e99}'):
        path.write_text(words)
        held(path)


# ------------------------------------------------------------------------------------------------------------ streams


def test_states_are_kept_the_denser_the_newer():
    for n in range(1, 400):
        kept = points.kept(n)
        assert kept <= points.kept(n - 1) | {n} and {n, max(n - 1, 1)} <= kept
        assert len(kept) <= 2 * n.bit_length()
        for lost in range(1, n):  # the last so many checkpoints are damaged
            assert n - max(m for m in kept | {0} if m <= n - lost) < 2 * lost


@pytest.mark.parametrize(
    ("file", "goes_on"),
    [
        ("kv-000000090", 80),
        ("kv-000000064", 48),
        ("kv-000000048", 32),
        ("states-000000090", 80),
        ("stream.json", 80),
        ("stream.before.json", None),
        ("states-000000032", None),
    ],
)
@pytest.mark.parametrize("how", ["flip", "cut", "gone"])
def test_damage_is_named_and_the_stream_goes_on_before_it(lab, tmp_path, file, goes_on, how, recwarn):
    whole = streamed(lab, tmp_path)
    path = tmp_path / file if file.endswith("json") else tmp_path / f"{file}.safetensors"
    if how == "flip":
        flip(path, len(path.read_bytes()) // 2)
    elif how == "cut":
        path.write_bytes(path.read_bytes()[:-5])
    else:
        path.unlink()
    if goes_on is None:  # nothing that is needed now
        assert streamed(lab, tmp_path).identical(whole)
        return
    with pytest.warns(UserWarning, match=f"goes on from token {goes_on}: .*{path.name}"):
        again = streamed(lab, tmp_path)
    assert again.identical(whole)
    assert streamed(lab, tmp_path).identical(whole), "and the folder is sound again"


def test_two_damages_cost_the_earlier_one(lab, tmp_path):
    whole = streamed(lab, tmp_path)
    flip(tmp_path / "kv-000000080.safetensors")
    flip(tmp_path / "states-000000064.safetensors")
    with pytest.warns(UserWarning, match="(?s)from token 48: .*kv-000000080.*; .*states-000000064"):
        assert streamed(lab, tmp_path).identical(whole)


def test_damage_of_all_is_an_error_that_names_the_first(lab, tmp_path):
    streamed(lab, tmp_path)
    flip(tmp_path / "kv-000000016.safetensors")
    with pytest.raises(CheckpointError, match="(?s)nothing of this checkpoint.*kv-000000016.*delete the folder"):
        streamed(lab, tmp_path)
    flip(tmp_path / "stream.json")
    flip(tmp_path / "stream.before.json")
    with pytest.raises(CheckpointError, match="(?s)nothing of this checkpoint.*stream.json"):
        streamed(lab, tmp_path)


@pytest.mark.parametrize(
    ("name", "change", "says"),
    [
        ("kv-000000064", {"keys/2": (1, 2, 15, 16)}, r"keys/2 \[1, 2, 15, 16\]"),
        ("kv-000000064", {"values/4": None}, "values/4 none"),
        ("kv-000000064", {"keys/0": (1, 2, 16, 16)}, r"keys/0 \[1, 2, 16, 16\]"),
        ("kv-000000064", {"probe/0/keep": (2, 3, 9)}, "states-000000090.*rows of probes"),
        ("states-000000090", {"state/1": (1, 9, 14, 10)}, r"state/1 \[1, 9, 14, 10\]"),
        ("states-000000090", {"logits": None}, "logits none"),
    ],
)
def test_lengths_that_do_not_add_up_are_named(lab, tmp_path, name, change, says):
    """Files and book agree on every byte; their contents do not."""
    whole = streamed(lab, tmp_path)
    path, book = tmp_path / f"{name}.safetensors", tmp_path / "stream.json"
    tensors = safetensors.torch.load(path.read_bytes())
    for key, shape in change.items():
        tensors.pop(key, None)
        tensors |= {} if shape is None else {key: torch.zeros(shape)}
    listed = json.loads(book.read_text())["points"]
    mark = folders.write_tensors(path, tensors)
    at = next(point for point in listed if point["done"] == int(name[-9:]))
    at["piece" if name.startswith("kv") else "states"] = mark
    sign(book, points=listed)
    with pytest.warns(UserWarning, match=says):
        assert streamed(lab, tmp_path).identical(whole)


@pytest.mark.parametrize(
    "bad",
    [
        lambda p: [],
        lambda p: None,
        lambda p: p[::-1],
        lambda p: [*p, p[-1]],
        lambda p: [p[0] | {"done": 17}],
        lambda p: [p[0] | {"done": True}],
        lambda p: [p[0] | {"more": 1}],
        lambda p: [p[0] | {"rows": {"7/keep": 1}}],
        lambda p: [p[0] | {"rows": [1]}],
        lambda p: [p[0] | {"states": 3}],
        lambda p: [p[0] | {"piece": None}],
        lambda p: [p[0] | {"done": 160}],
        lambda p: ["x"],
    ],
)
def test_a_book_that_contradicts_itself_is_damaged(lab, tmp_path, bad):
    whole, book = streamed(lab, tmp_path), tmp_path / "stream.json"
    sign(book, points=bad(json.loads(book.read_text())["points"]))
    with pytest.warns(UserWarning, match="from token 80: .*stream.json: entry"):
        assert streamed(lab, tmp_path).identical(whole)


def test_pieces_that_nobody_names_are_swept_and_other_files_are_not(lab, tmp_path):
    for name in ("kv-000000003.safetensors", "mine.safetensors", "states-x.safetensors", ".stream.json.01234567.new"):
        (tmp_path / name).write_text("x")
    streamed(lab, tmp_path)
    states = [f"states-{min(16 * n, 90):09d}.safetensors" for n in sorted(points.kept(6))]
    pieces = [f"kv-{min(16 * n, 90):09d}.safetensors" for n in range(1, 7)]
    books = ["stream.before.json", "stream.json", "stream.lock"]
    found = sorted(path.name for path in tmp_path.iterdir())
    assert found == sorted([*states, *pieces, *books, "mine.safetensors", "states-x.safetensors"])
    assert len(states) == 5


@pytest.mark.parametrize("count", [2, 3, 9, 12, 17, 38])
def test_a_full_disk_hands_over_what_is_finished_and_the_folder_goes_on(lab, tmp_path, fills_up, monkeypatch, count):
    whole = streamed(lab)
    fills_up(count)
    with pytest.raises(
        stream.Unwritten, match="(?s)a checkpoint could not be written.*No space left.*make room"
    ) as error:
        streamed(lab, tmp_path)
    done = error.value.dataset
    assert isinstance(error.value, CheckpointError) and done.block.size == -(-done.attrs["tokens"] // 16) > 0
    assert done.keep.equals(whole.keep.isel(block=slice(done.block.size)))
    assert not list(tmp_path.glob("*.new")) + list(tmp_path.glob(".*"))
    monkeypatch.undo()
    assert streamed(lab, tmp_path).identical(whole)


def test_a_full_disk_at_an_interrupt_hands_over_what_is_finished(lab, tmp_path, fills_up):
    def stop(*_):
        calls.append(1)
        if len(calls) > 3:
            fills_up(0)
            raise KeyboardInterrupt

    calls: list[int] = []
    handle = lab.model.model.layers[1].mlp.register_forward_hook(stop)
    try:
        with pytest.raises(stream.Unwritten, match="No space left") as error:
            streamed(lab, tmp_path, every=10)
    finally:
        handle.remove()
    assert error.value.dataset.block.size == 3


def test_room_for_keys_values_and_states_is_tried_before_the_first_pass(lab, tmp_path, monkeypatch):
    asked = []
    usage = collections.namedtuple("Usage", "free")(2**20)
    monkeypatch.setattr(folders.shutil, "disk_usage", lambda path: asked.append(path) or usage)
    monkeypatch.setattr(stream.feed.passes, "feed", lambda *_, **__: pytest.fail("the stream ran"))
    with pytest.raises(CheckpointError, match="(?s)no room on the disk.*1.0 MiB free"):
        streamed(lab, tmp_path)
    assert asked
    needed = []
    monkeypatch.setattr(stream.store.folders, "check_room", lambda folder, count: needed.append(count) or 1 / 0)
    with pytest.raises(ZeroDivisionError):
        streamed(lab, tmp_path)
    keys = 90 * kv_bytes_per_token(lab.spec, "float32")
    assert keys < needed[0] < keys + 12 * (9 * 10 * 14 + 186 * 4) * 3 * 4


def test_two_streams_into_one_folder(lab, tmp_path):
    """The second is refused while the first runs, and not afterwards."""
    told = []

    class Second(type(deltanet.gates())):
        def eat(self, run):
            super().eat(run)
            told.append(elsewhere(lambda: streamed(lab, tmp_path)))

    probe = deltanet.gates(block=16)
    probe.__class__ = Second
    streamed(lab, tmp_path, probes=[probe])
    assert len(told) == 6 and all(isinstance(error, InputError) and str(os.getpid()) in str(error) for error in told)


def test_rows_of_a_chunk_that_is_not_counted_yet_are_not_kept(lab, tmp_path, monkeypatch):
    """Ctrl-C after the probes have eaten and before the chunk counts."""
    whole, states, calls = streamed(lab), stream.feed._states, []

    def interrupted(cache):
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return states(cache)

    monkeypatch.setattr(stream.feed, "_states", interrupted)
    with pytest.raises(stream.Interrupted, match="after 32 of 90") as error:
        streamed(lab, tmp_path, every=10)
    assert error.value.dataset.block.size == 2
    assert streamed(lab, tmp_path).identical(whole)


def test_a_folder_of_another_format_is_refused(lab, tmp_path):
    (tmp_path / "stream.json").write_text(json.dumps({"format": 1, "done": 16, "pieces": []}))
    with pytest.raises(InputError, match="(?s)unknown format of the book of a checkpoint.*got: 1.*another folder"):
        streamed(lab, tmp_path)


# ------------------------------------------------------------------------------------------------------------ answers


def answered(lab, folder, count=5):
    """Answers of a folder after so many were asked."""
    with Answers(folder, lab) as answers:
        for n in range(count):
            answers.write(answers.key("needle", Scaling(), 64, n / 4, n), n + 0.5, n % 2 == 0)
    return answers.known


@pytest.mark.parametrize(("line", "left"), [(0, 5), (1, 4), (3, 4), (5, 4)])
@pytest.mark.parametrize("how", ["flip", "junk", "gone"])
def test_a_damaged_line_costs_that_line(lab, tmp_path, line, left, how):
    known, path = answered(lab, tmp_path), tmp_path / "answers.jsonl"
    lines = path.read_bytes().split(b"\n")
    lines[line] = {"flip": lines[line].replace(b"5", b"4", 1), "junk": b"\xff{", "gone": None}[how]
    path.write_bytes(b"\n".join(part for part in lines if part is not None))
    silent = how == "gone" or (how == "flip" and lines[line] == known)
    with contextlib.nullcontext() if silent else pytest.warns(UserWarning, match="1 of 6 lines are damaged"):
        again = answered(lab, tmp_path, 0)
    assert len(again) == left and again.items() <= known.items()
    assert answered(lab, tmp_path) == known, "asked again, and nothing is damaged any more"


def test_answers_of_another_lab_are_refused_even_without_their_first_line(lab, tmp_path):
    answered(tiny.make_lab(tiny.model(seed=9), "other"), tmp_path)
    with pytest.raises(InputError, match="(?s)answers of another model or edits.*weights .*, now .*those of tiny"):
        answered(lab, tmp_path)
    path = tmp_path / "answers.jsonl"
    path.write_text("".join(path.read_text().splitlines(True)[1:]))
    with pytest.raises(InputError, match="(?s)answers of another model or edits.*lines of another first line"):
        answered(lab, tmp_path)


def test_one_writer_of_answers_and_a_full_disk(lab, tmp_path, monkeypatch):
    with Answers(tmp_path, lab):
        assert "another process writes" in str(elsewhere(lambda: answered(lab, tmp_path)))
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match="cannot be written"):
        answered(lab, tmp_path / "file")
    options = dict(total=1, unit="answer", show=False, hint="")
    with Answers(tmp_path, lab) as answers:
        (tmp_path / "answers.jsonl").unlink()
        (tmp_path / "answers.jsonl").mkdir()
        refused = pytest.raises(stream.Unwritten, match="(?s)an answer could not be written")
        with refused as error, interruptible(lambda: "what was answered", **options):
            answers.write(answers.key("needle", Scaling(), 64, 0.5, 1), 1.0, True)
    assert error.value.dataset == "what was answered" and len(answers.known) == 1


# --------------------------------------------------------------------------------------------------------- saved runs


@pytest.fixture
def run(lab):
    """A run after cached tokens."""
    cache = lab.cache()
    lab.trace(IDS[:7], cache=cache)
    return lab.trace(IDS[7:20], cache=cache, layers=[0, 2], logits=[3, -1])


def test_saved_runs_are_whole_or_not_there(run, tmp_path, fills_up, monkeypatch):
    for count in range(8):
        fills_up(count)
        with pytest.raises(CheckpointError, match="(?s)a run could not be saved.*No space left"):
            run.save(tmp_path / "run")
        assert count == 7 or list(tmp_path.iterdir()) == []
        monkeypatch.undo()
        if (tmp_path / "run").exists():
            break
    assert labkit.open_run(tmp_path / "run").tokens == run.tokens
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match="could not be saved"):
        run.save(tmp_path / "file")
    (tmp_path / "empty").mkdir()
    run.save(tmp_path / "empty")
    assert sorted(path.name for path in (tmp_path / "empty").iterdir()) == ["run.json", "run.safetensors"]


def test_a_flipped_bit_of_a_saved_run_is_noticed(run, tmp_path):
    for file in ("run.safetensors", "run.json"):
        run.save(tmp_path / file)
        path = tmp_path / file / file
        flip(path, path.read_bytes().rindex(b"[") + 9 if file.endswith("json") else 2000)
        with pytest.raises(CheckpointError, match=f"(?s)damaged.*{file}"):
            labkit.open_run(tmp_path / file)


def test_a_saved_run_of_the_format_before_is_refused(run, tmp_path):
    run.save(tmp_path / "run")
    (tmp_path / "run" / "run.json").write_text('{"format": 2}')
    with pytest.raises(InputError, match="(?s)unknown format of a saved run.*got: 2.*expected: 3.*make it again"):
        labkit.open_run(tmp_path / "run")


def made_in_every_way(lab):
    """(name, run) of every kind of run that a lab makes."""
    cache, placed, turned = lab.cache(), lab.cache(), None
    lab.trace(IDS[:1], cache=cache)
    lab.trace(IDS[:7], cache=placed, position_ids=range(50, 57))
    yield "all", lab.trace(IDS, logits="all", chunk=32)
    yield "one seam", lab.trace(IDS, seams=["q"])
    yield "two seams of one kind", lab.trace(IDS, layers=[0, 2], seams=["qkv", "z"])
    yield "after one token", lab.trace(IDS[1:], cache=cache, layers=[2, 3])
    yield "placed", lab.trace(IDS[7:], cache=placed, position_ids=range(60, 143))
    yield "padded", lab.trace([IDS, IDS[:5]], layers=1)[1]
    yield "generated", lab.generate(IDS[:9], max_new_tokens=3)
    yield "with gradients", lab.trace(IDS[:9], grad=True)
    with yarn.scaled(lab, 4, ramp="paper"):
        yield "scaled", lab.trace(IDS)
    with yarn.dynamic(lab):
        turned = lab.cache()
        lab.trace(IDS[:7], cache=turned)
        yield "before rotation", lab.trace(IDS[7:], cache=turned)


def test_every_run_that_is_made_is_opened_as_it_was(lab, tmp_path):
    for name, run in made_in_every_way(lab):
        run.check_parity(0, "a reading", torch.ones(2), torch.ones(2))
        run.save(tmp_path / name)
        again = labkit.open_run(tmp_path / name)
        for field in dataclasses.fields(run):
            one, other = (getattr(each, field.name) for each in (run, again))
            if field.name != "graph":
                torch.testing.assert_close(flat(other), flat(one), rtol=0, atol=0, msg=f"{name}: {field.name}")


def flat(value):
    """A field of a run as plain dicts, so that tensors in it are compared as tensors."""
    if dataclasses.is_dataclass(value):
        value = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): flat(part) for key, part in value.items()}
    return value.detach() if isinstance(value, torch.Tensor) else torch.tensor(list(str(value).encode()))


def of_spec(**changes):
    return lambda facts: {"spec": facts["spec"] | changes}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda facts: {"tokens": facts["tokens"][1:], "prompt_length": 12}, r"ids \[13\].*\(12,\)"),
        (lambda facts: {"tokens": "abc"}, "tokens: abc"),
        (lambda facts: {"tokens": [1]}, "tokens: 1"),
        (lambda facts: {"prompt_length": 14}, "14 given of 13"),
        (lambda facts: {"prompt_length": 0}, "0 given of 13"),
        (lambda facts: {"prompt_length": True}, "prompt_length: True"),
        (lambda facts: {"length": 6}, r"start/keys/2 \[2, 7, 16\].*\(2, 6, 16\)"),
        (lambda facts: {"length": 0}, r"start/"),
        (lambda facts: {"model": None}, "model: None"),
        (lambda facts: {"placed": 1}, "placed: 1"),
        (lambda facts: {"parity": [[9, "x", 0.5]]}, r"parity of layers \[9\]"),
        (lambda facts: {"parity": [[1, "x"]]}, "parity: "),
        (lambda facts: {"parity": {"x": 1}}, "parity: "),
        (lambda facts: {"tensors": 3}, "tensors: 3"),
        (lambda facts: {"more": 3}, "other fields.*more"),
        (lambda facts: {"scaling": {"kind": "yarn"}}, "scaling: "),
        (lambda facts: {"scaling": facts["scaling"] | {"factor": 10**400}}, "scaling: 10000"),
        (lambda facts: {"scaling": facts["scaling"] | {"factor": 0.5}}, "scaling: the factor"),
        (of_spec(kinds=["deltanet"] * 5), "seams/2/"),
        (of_spec(kinds=["deltanet"]), "a tensor"),
        (of_spec(kinds=[3]), "spec: 3"),
        (of_spec(dv=7), r"parameters/0/conv1d.weight \[186, 1, 4\]"),
        (of_spec(vocab=50), "ids from"),
        (of_spec(rotary_dim=4), r"rotary/cos"),
        (of_spec(hidden=2**40), "spec: 1099511627776"),
        (of_spec(hidden=44.0), "spec: 44.0"),
        (of_spec(eps=float("nan")), "spec: nan"),
        (of_spec(eps=0), "spec: 0"),
        (of_spec(rope_theta=float("inf")), "spec: inf"),
        (of_spec(family=["x"]), "spec: "),
        (of_spec(vision={"depth": 3}), "spec: "),
        (of_spec(more=1), "spec: "),
        (of_spec(value_heads=8), "spec: value_heads do not divide"),
    ],
)
def test_facts_of_a_saved_run_agree_with_each_other_and_with_its_tensors(run, tmp_path, change, says):
    run.save(tmp_path / "run")
    path = tmp_path / "run" / "run.json"
    sign(path, **change(json.loads(path.read_text())))
    with pytest.raises(InputError, match=f"(?s)saved run.*{says}"):
        labkit.open_run(tmp_path / "run")


@pytest.mark.parametrize(
    ("name", "change", "says"),
    [
        ("ids", lambda x: None, "no ids"),
        ("rotary/sin", lambda x: None, "no rotary/sin"),
        ("parameters/0/A_log", lambda x: None, "no parameters/0/A_log"),
        ("start/values/2", lambda x: None, "no start/values/2"),
        ("start/state/0", lambda x: None, "no start/state/0"),
        ("seams/3/qkv", lambda x: torch.zeros(13, 186), "no parameters/3/"),
        ("seams/0/q", lambda x: torch.zeros(13, 6, 16), "a tensor 'seams/0/q'"),
        ("seams/00/qkv", lambda x: torch.zeros(13, 186), "a tensor"),
        ("seams/0/qkv", lambda x: x[1:], r"seams/0/qkv \[12, 186\]"),
        ("seams/0/read", lambda x: x.transpose(1, 2).contiguous(), r"\[13, 14, 9\]"),
        ("seams/0/qkv", lambda x: x.long(), "of torch.int64"),
        ("seams/0/qkv", lambda x: x.to(torch.float8_e4m3fn), "of torch.float8"),
        ("ids", lambda x: x.int(), "of torch.int32"),
        ("ids", lambda x: x + 211, "ids from"),
        ("logit_tokens", lambda x: x + 1, "logit_tokens from 4 to 13"),
        ("logit_tokens", lambda x: x[1:], r"logits \[2, 211\]"),
        ("rotary/cos", lambda x: x / 0, "not finite"),
        ("parameters/0/conv1d.weight", lambda x: x[:, 0], r"\[186, 4\]"),
    ],
)
def test_tensors_of_a_saved_run_are_those_of_its_spec(run, tmp_path, name, change, says):
    run.save(tmp_path / "run")
    path = tmp_path / "run" / "run.safetensors"
    tensors = safetensors.torch.load(path.read_bytes())
    value = change(tensors.pop(name, None))
    mark = folders.write_tensors(path, tensors | ({} if value is None else {name: value}))
    sign(path.with_suffix(".json"), tensors=mark)
    with pytest.raises(InputError, match=f"(?s)a saved run contradicts itself.*{says}"):
        labkit.open_run(tmp_path / "run")


# -------------------------------------------------------------------------------------------------------- golden data


def test_golden_data_is_recorded_whole_or_stays(lab, tmp_path, fills_up):
    path, ds = tmp_path / "a.json", streamed(lab)
    _golden.write(path, ds)
    before = path.read_bytes()
    fills_up(0)
    with pytest.raises(CheckpointError, match="(?s)golden data could not be written.*No space left"):
        _golden.write(path, ds + 1)
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]
