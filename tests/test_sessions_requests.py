"""Logs of requests: the ledger of a file equals brute force over what was sent, whoever wrote it."""

import json

import pytest

import labkit as lk
from labkit import reuse, thinking
from labkit.errors import InputError
from tests import logs
from tests import writers_requests as writers

EVERY = dict(branches=1, compacted=True)
WRITTEN = {  # writer: (format, what stories it can hold)
    "openai": ("openai", EVERY),
    "openai_list": ("openai", EVERY),
    "openai_sides": ("openai", EVERY),
    "openai_texts": ("openai", EVERY),
    "openai_events": ("openai", EVERY),
    "openai_chunks": ("openai", EVERY),
    "openai_snapshots": ("openai", EVERY),
    "openai_batch": ("openai-batch", EVERY),
    "llama_log": ("openai", EVERY),
    "langsmith": ("langsmith", EVERY),
    "langsmith_lines": ("langsmith", EVERY),
}
RENDERED = {"vllm": "vllm", "sglang": "sglang", "llama_server": "llama-server"}
FIRST = {"vllm": 1, "sglang": 2, "sglang_ids": 2, "llama_server": 1}  # line of the first call
IDS = {"vllm_ids": "vllm", "sglang_ids": "sglang"}
FORMATS = {name: format for name, (format, _) in WRITTEN.items()} | RENDERED | IDS
FILES = {name: (format, getattr(writers, name)(logs.Story(3, turns=3))) for name, format in FORMATS.items()}


@pytest.fixture(scope="module")
def tokenizer():
    return lk.load("nano").tokenizer


def written(folder, rows, name="log.jsonl"):
    """A file of rows, or of a text."""
    path = folder / name
    path.write_text(rows if isinstance(rows, str) else writers.lines(rows), encoding="utf-8")
    return path


def told(session):
    """Problems but for the other lines of a server's log."""
    return [reason for _, reason in session.problems if "other lines of a log" not in reason]


@pytest.mark.parametrize("policy", ["strip", "preserve", "drop"])
@pytest.mark.parametrize("name", WRITTEN)
def test_the_ledger_of_a_log_is_brute_force(tmp_path, tokenizer, name, policy):
    format, holds = WRITTEN[name]
    for seed in range(2):
        story = logs.Story(seed, turns=3, **holds)
        session = thinking.read_session(written(tmp_path, getattr(writers, name)(story)))
        assert session.format == format and not told(session), session
        assert logs.same(session, story.exchanges())
        found = logs.ledger(session, tokenizer, policy)
        assert found == logs.counted(story.exchanges(), tokenizer, policy)
        assert len(found) > 4 and any(row[2] > 40 for row in found)


@pytest.mark.parametrize("policy", ["strip", "preserve", "drop"])
@pytest.mark.parametrize("name", RENDERED)
def test_rendered_prompts_are_read_back(tmp_path, tokenizer, name, policy):
    for seed in range(2):
        story = logs.Story(seed, turns=3, **EVERY)
        session = thinking.read_session(written(tmp_path, getattr(writers, name)(story)))
        assert session.format == RENDERED[name]
        assert [(line, "read back into messages" in reason) for line, reason in session.problems] == [
            (FIRST[name], True)
        ]
        assert logs.ledger(session, tokenizer, policy) == logs.counted(story.exchanges(), tokenizer, policy)


@pytest.mark.parametrize("policy", ["strip", "drop"])
@pytest.mark.parametrize("name", IDS)
def test_token_ids_are_taken_at_their_word(tmp_path, tokenizer, name, policy):
    story = logs.Story(1, turns=3, **EVERY)
    session = thinking.read_session(written(tmp_path, getattr(writers, name)(story)))
    assert session.format == IDS[name]
    assert [(line, "taken at their word" in reason) for line, reason in session.problems] == [
        (FIRST.get(name, 1), True)
    ]
    assert logs.ledger(session, tokenizer, policy) == logs.counted(story.exchanges(), tokenizer, "preserve")
