"""What every reader must do: the ledger of a file equals brute force over what was said, in every row."""

import json

import pytest

import labkit as lk
from labkit import thinking
from tests import logs


@pytest.fixture(scope="module")
def tokenizer():
    return lk.load("nano").tokenizer


def openai_requests(story):
    """A log of requests and responses."""
    rows = [
        {"request": {"messages": sent, "tools": tools}, "response": {"choices": [{"message": reply}]}}
        for sent, reply, tools in story.exchanges()
    ]
    return "\n".join(json.dumps(row) for row in rows)


@pytest.mark.parametrize("policy", ["strip", "preserve", "drop"])
@pytest.mark.parametrize(("branches", "compacted"), [(0, False), (2, False), (1, True)])
def test_the_ledger_of_a_log_is_brute_force(tmp_path, tokenizer, policy, branches, compacted):
    for seed in range(3):
        story = logs.Story(seed, branches=branches, compacted=compacted)
        path = tmp_path / "log.jsonl"
        path.write_text(openai_requests(story), encoding="utf-8")
        session = thinking.read_session(path)
        assert logs.same(session, story.exchanges()) and not session.problems
        found = logs.ledger(session, tokenizer, policy)
        assert found == logs.counted(story.exchanges(), tokenizer, policy)
        assert len(found) > 4 and any(row[2] > 40 for row in found)
