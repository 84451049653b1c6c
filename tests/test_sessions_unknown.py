"""Files that are no session say what they are; a session that came out empty while its file is not is an error."""

import gzip
import io
import json
import sqlite3
import zipfile

import pytest

from labkit import thinking
from labkit.errors import InputError
from labkit.thinking.sessions import parts, reading
from labkit.thinking.sessions.format import Format


def zipped():
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        archive.writestr("conversations.json", "[]")
    return data.getvalue()


def database(folder):
    home = sqlite3.connect(folder / "made.db")
    home.execute("create table messages (role text, content text)")
    home.commit()
    home.close()
    return (folder / "made.db").read_bytes()


WHAT = {
    "a zip archive": (zipped(), "unpack"),
    "packed by gzip": (gzip.compress(b'{"messages": []}'), "unpack"),
    "a Parquet table": (b"PAR1\x15\x04\x15\x00PAR1", "JSON object on a line"),
    "a PDF": (b"%PDF-1.7\n", "export"),
    "an empty file": (b"", None),
    "an empty file ": (b"\xef\xbb\xbf \n\n", None),
    "an empty list": (b"[]", None),
    "an empty object": (b"{}", None),
    "an empty object ": (b"{}\n{}\n", None),
    "a page (HTML)": (b"\n<!DOCTYPE html>\n<html><body>hi</body></html>", None),
    "XML": (b'<?xml version="1.0"?><a/>', None),
    "a table (CSV)": (b'role,content\nuser,"why, then?"\nassistant,so\n', None),
    "a table (CSV) ": (b"role\tcontent\nuser\twhy\n", None),
    "YAML": (b"---\nrole: user\ncontent: why\n", None),
    "YAML ": (b"- role: user\n  content: why\n- role: assistant\n", None),
    "plain text": (b"User: why?\nIt is so.\n", None),
    "damaged": (b'{"messages": [{"role": "user", "content": "why', None),
    "a list of values that are no objects (int, str)": (b'[1, "a"]', None),
    "an SQLite database": (None, "export"),
}


@pytest.mark.parametrize("what", WHAT)
def test_a_file_that_is_no_session_says_what_it_is(tmp_path, what):
    data, hint = WHAT[what]
    path = tmp_path / "log.bin"
    path.write_bytes(database(tmp_path) if data is None else data)
    with pytest.raises(InputError) as error:
        thinking.read_session(path)
    assert what.strip() in str(error.value) and "role None" not in str(error.value)
    assert path.name in error.value.got and (hint is None or hint in error.value.hint)


def test_a_file_of_no_known_format_says_what_is_nearest(tmp_path):
    near = {
        '{"conversations": [{"who": "me"}], "id": 1}': ("objects with 'conversations', 'id'", "sharegpt"),
        '{"role": "bot", "content": "hi"}': (
            "objects with 'role', 'content'",
            "openai, which holds something else under",
        ),
        '[{"mapping": [], "title": "t"}]': ("a list of objects with 'mapping', 'title'", "nearest is chatgpt"),
        '{"trajectory": 7, "history": 1}': ("'trajectory', 'history'", "swe-agent"),
        '{"a": 1}\n{"b": 2}': ("objects with 'a'", "none of the names"),
    }
    for text, words in near.items():
        path = tmp_path / "x.json"
        path.write_text(text)
        with pytest.raises(InputError, match="unknown format") as error:
            thinking.read_session(path)
        assert all(word in error.value.got for word in words) and "None" not in error.value.got, text


# --------------------------------------------------------------------------------------- sessions that came out empty


def made_up(monkeypatch, keeps, **settings):
    """A format whose reader keeps some names of its messages alone."""

    def read(rows, gathered):
        said = []
        for line, row in rows:
            if row.get("hidden"):
                gathered.leave_out("hidden rows", row if settings.get("given") else None)
            elif row.get("role"):
                said.append((line, parts.message({name: row[name] for name in keeps if name in row})))
        gathered.unseen_thinking |= settings.get("unseen", False)
        gathered.conversation([message for _, message in said], [line for line, _ in said])

    monkeypatch.setitem(reading.FORMATS, "made-up", Format("made-up", "made up", (), read))


def session(tmp_path, *rows):
    path = tmp_path / "log.jsonl"
    path.write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in rows), encoding="utf-8")
    return thinking.read_session(path, format="made-up")


LONG = "let me think of this for a while"
ALL = ("role", "content", "reasoning", "tool_calls")
ASK, SAID = {"role": "user", "content": "why?"}, {"role": "assistant", "content": "so"}


def test_words_and_thinking_that_a_reader_loses_are_an_error(monkeypatch, tmp_path):
    made_up(monkeypatch, ("role",))
    with pytest.raises(InputError, match="left out, 1: answers without a word"):
        session(tmp_path, ASK, SAID)
    lost = lambda rows, gathered: [gathered.call([row | {"content": ""}], None, line=line) for line, row in rows]  # noqa: E731
    monkeypatch.setitem(reading.FORMATS, "made-up", Format("made-up", "made up", (), lost))
    with pytest.raises(InputError, match="no message of this session has words"):
        session(tmp_path, ASK)
    made_up(monkeypatch, ("role", "content"))
    for name in ("reasoning", "reasoning_content", "thinking"):
        with pytest.raises(InputError, match="thinking stands in this file"):
            session(tmp_path, ASK, SAID | {name: LONG})
    with pytest.raises(InputError, match="thinking stands in this file"):  # of another language, and late in the file
        session(
            tmp_path, *[ASK, SAID] * 40, SAID | {"blocks": [{"thinking": 'er sagte: „so“, dann \\ "nein", und weiter'}]}
        )
    with pytest.raises(InputError, match="thinking stands in this file"):
        session(tmp_path, ASK, SAID | {"text": f"<think>\n{LONG}\n</think>\nso"})


def test_what_looks_like_thinking_and_is_none_is_no_error(monkeypatch, tmp_path):
    made_up(monkeypatch, ALL)
    call = {"function": {"name": "think", "arguments": {"thinking": LONG, "thought": LONG + " again"}}}
    fine = {
        "settings": [ASK | {"thinking": {"type": "enabled", "budget_tokens": 31999}}, SAID],
        "a setting of few words": [ASK | {"reasoning": "high"}, SAID],
        "an argument of a tool": [ASK, SAID | {"tool_calls": [call]}],
        "a user who writes of it": [ASK | {"content": "what does <think> mean here, and why is it there?"}, SAID],
        "a tag that is empty": [ASK, SAID | {"text": "<think>\n\n</think>\n\nso"}],
        "a file that a tool shows": [ASK, SAID, {"role": "tool", "content": json.dumps({"thinking": LONG})}, SAID],
        "the same words twice": [ASK, SAID | {"content": LONG + ": so", "thought": LONG + ": so"}],
        "signs that JSON escapes": [ASK, SAID | {"content": f'"{LONG}"\tü', "thought": f'"{LONG}"\tü'}],
    }
    for name, rows in fine.items():
        assert len(session(tmp_path, *rows).calls) >= 1, name
    made_up(monkeypatch, ("role", "content"), unseen=True)
    assert session(tmp_path, ASK, SAID | {"thinking": LONG}).calls  # a reader said that it cannot be read


def test_thinking_of_rows_that_are_left_out_is_missed_nowhere(monkeypatch, tmp_path):
    hidden = SAID | {"hidden": True, "thinking": LONG}
    made_up(monkeypatch, ALL, given=True)
    assert session(tmp_path, ASK, hidden, SAID).left_out == ((1, "hidden rows"),)
    made_up(monkeypatch, ALL)  # a reader that does not say what it leaves out
    with pytest.raises(InputError, match=r"(?s)thinking stands in this file.*left out, 1: hidden rows"):
        session(tmp_path, ASK, hidden, SAID)


def test_an_empty_list_steals_no_file(tmp_path):
    """A list without entries fits every sign of a list, and tells nothing."""
    path = tmp_path / "x.json"
    talk = [{"role": "user", "content": "why?"}, {"role": "assistant", "content": "so"}]
    path.write_text(json.dumps({"messages": talk, "trajectory": [], "history": [], "conversations": [], "info": {}}))
    assert thinking.read_session(path).format == "openai"
