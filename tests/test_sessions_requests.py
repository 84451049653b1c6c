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
}
FILES = {name: (format, getattr(writers, name)(logs.Story(3, turns=3))) for name, (format, _) in WRITTEN.items()}


@pytest.fixture(scope="module")
def tokenizer():
    return lk.load("nano").tokenizer


def written(folder, rows, name="log.jsonl"):
    """A file of rows, or of a text."""
    path = folder / name
    path.write_text(rows if isinstance(rows, str) else writers.lines(rows), encoding="utf-8")
    return path


@pytest.mark.parametrize("policy", ["strip", "preserve", "drop"])
@pytest.mark.parametrize("name", WRITTEN)
def test_the_ledger_of_a_log_is_brute_force(tmp_path, tokenizer, name, policy):
    format, holds = WRITTEN[name]
    for seed in range(2):
        story = logs.Story(seed, turns=3, **holds)
        session = thinking.read_session(written(tmp_path, getattr(writers, name)(story)))
        assert session.format == format and not session.problems, session
        assert logs.same(session, story.exchanges())
        found = logs.ledger(session, tokenizer, policy)
        assert found == logs.counted(story.exchanges(), tokenizer, policy)
        assert len(found) > 4 and any(row[2] > 40 for row in found)
