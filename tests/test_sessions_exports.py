"""Runs that agents export, data sets of conversations, and exports of chat programs, read as they were sent."""

import pytest

import labkit as lk
from labkit import thinking
from labkit.thinking.sessions import chats
from labkit.thinking.sessions.formats import open_webui, swe_agent
from tests import logs
from tests import writers_exports as write

PLAIN, TREE, BOTH = [{}], [{}, {"branches": 2}], [{}, {"branches": 2}, {"compacted": True}]
LINE = [{}, {"compacted": True}]
BARE = {"tools": False, "thinks": False}
# name: (writer, format, what stories, what they have not)
CASES = {
    "swe-agent": (write.swe_agent, "swe-agent", BOTH, {}),
    "swe-agent before 1.1": (write.swe_agent_of_before, "swe-agent", PLAIN, {}),
    "mini-swe": (write.mini_swe, "mini-swe", PLAIN, {}),
    "mini-swe, responses": (write.mini_swe_responses, "mini-swe", PLAIN, {}),
    "openhands, logs": (write.openhands_logs, "openhands", BOTH, {}),
    "openhands, events": (write.openhands_events, "openhands", LINE, {"thinks": False}),
    "openhands-sdk, events": (write.sdk_events, "openhands-sdk", BOTH, {}),
    "openhands-sdk, logs": (write.sdk_logs, "openhands-sdk", BOTH, {}),
    "hermes": (write.hermes, "hermes", PLAIN, {}),
    "hermes, a session": (write.hermes_session, "hermes", PLAIN, {}),
    "hermes, rows": (write.hermes_rows, "hermes", PLAIN, {"system": False}),
    "sharegpt": (write.sharegpt, "sharegpt", PLAIN, {"tools": False}),
    "sharegpt, roles": (write.sharegpt_roles, "sharegpt", PLAIN, BARE),
    "lmsys": (write.lmsys, "lmsys", PLAIN, BARE | {"system": False}),
    "open-webui": (write.open_webui, "open-webui", TREE, {}),
    "open-webui, items": (write.open_webui_output, "open-webui", TREE, {}),
    "chatgpt": (write.chatgpt, "chatgpt", TREE, {}),
}
TOOLLESS = ("swe-agent", "mini-swe", "open-webui", "chatgpt")  # they keep no tools
FILES = {name: (case[1], case[0](write.story(0, **case[3]))) for name, case in CASES.items()}


@pytest.fixture(scope="module")
def tokenizer():
    return lk.load("nano").tokenizer


def read(tmp_path, text, name="log.json", **options):
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return thinking.read_session(path, **options)


def told(session):
    """Problems, but those that tell what the files of a format never hold."""
    known = (chats.TOOLLESS, swe_agent.WHOLE, open_webui.TOGETHER)
    return [problem for problem in session.problems if problem[1] not in known]


@pytest.mark.parametrize("name", CASES)
def test_the_ledger_is_brute_force(tmp_path, tokenizer, name):
    writer, form, stories, without = CASES[name]
    for seed, options in enumerate(stories):
        story = write.story(seed, **(options | without))
        expected = story.exchanges()
        if form in TOOLLESS:
            expected = [(sent, reply, None) for sent, reply, _ in expected]
        session = read(tmp_path, writer(story))
        assert session.format == form and not told(session)
        assert logs.same(session, expected)
        for policy in ("strip", "preserve", "drop"):
            found = logs.ledger(session, tokenizer, policy)
            assert found == logs.counted(expected, tokenizer, policy) and len(found) > 3


def test_a_byte_order_mark_changes_nothing(tmp_path):
    for name, (form, text) in FILES.items():
        assert read(tmp_path, "\ufeff" + text).calls == read(tmp_path, text).calls, (name, form)
