"""The law and the traps of Responses, Codex, Anthropic, Cline, Roo and Cursor."""

import json

import pytest

import labkit as lk
from labkit import thinking
from labkit.errors import InputError
from tests import logs, writers_items

WHOLE, FLAT = {}, {"system": False, "tools": False}  # what a format can hold
TEXTLESS = {"system": False}  # of a story with calls of tools, whose schemas the file does not hold
LAWS = {
    "responses": ("responses", [(0, False), (2, False), (1, True)], {}),
    "responses_chained": ("responses", [(0, False), (2, False)], {}),
    "responses_events": ("responses", [(0, False), (1, True)], {}),
    "responses_sse": ("responses", [(0, False), (1, True)], {}),
    "responses_items": ("responses", [(0, False)], {"schemas": False}),
    "codex": ("codex", [(0, False), (0, True)], {"schemas": False}),
    "codex_before": ("codex", [(0, False), (0, True)], {"schemas": False}),
    "codex_bare": ("codex", [(0, False)], {"schemas": False}),
    "anthropic": ("anthropic", [(0, False), (2, False), (1, True)], {}),
    "anthropic_bodies": ("anthropic", [(0, False), (1, True)], {}),
    "anthropic_sse": ("anthropic", [(0, False), (1, True)], {}),
    "anthropic_events": ("anthropic", [(0, False), (1, True)], {}),
    "anthropic_list": ("anthropic", [(0, False)], {"schemas": False, "system": False}),
}


@pytest.fixture(scope="module")
def tokenizer():
    return lk.load("nano").tokenizer


def drawn(seed, branches=0, compacted=False, schemas=True, **more):
    """A story that a format can hold."""
    story = logs.Story(seed, branches=branches, compacted=compacted, **more)
    story.tools = story.tools if schemas else None
    return story


@pytest.mark.parametrize("name", LAWS)
def test_the_ledger_of_a_file_is_brute_force(tmp_path, tokenizer, name):
    form, shapes, more = LAWS[name]
    for seed, (branches, compacted) in enumerate(shapes):
        story = drawn(seed, branches, compacted, **more)
        path = tmp_path / f"session{seed}.json"
        path.write_text(getattr(writers_items, name)(story), encoding="utf-8")
        session = thinking.read_session(path)
        assert session.format == form and not session.problems
        assert logs.same(session, story.exchanges())
        for policy in ("strip", "preserve", "drop"):
            found = logs.ledger(session, tokenizer, policy)
            assert found == logs.counted(story.exchanges(), tokenizer, policy)
            assert len(found) > 3 and any(row[2] > 20 for row in found)
