"""Tables say the same in every look, escape what they are given and keep their columns."""

import html
import re

from labkit.tables import Coloured, Table, as_html, as_text, columns, markdown

HOSTILE = "<script>alert(1)</script> & <think>"


class Two(Table):
    title = HOSTILE

    def facts(self):
        return [("sizes", "a <b>", "12 · 345"), ("sizes", "kinds", Coloured("D A · <i>", {"D": "#123456"}))]


def test_text_and_html_say_the_same():
    page = Two()._repr_html_()
    words = html.unescape(re.sub("<[^>]*>", " ", page)).split()
    assert repr(Two()).split() == words and words.count("sizes") == 1
    assert not {"<script", "<think", "<i>", "<b>12"} & set(re.findall("<script|<think|<i>|<b>12", page))


def test_only_coloured_words_are_badges():
    rows = [("", "D", "D and A"), ("", "kinds", Coloured("D A · D", {"D": "#123456"}))]
    page = as_html("title", rows)
    assert page.count("#123456") == 2 and ">D and A</td>" in page
    assert as_text("title", rows).splitlines() == ["title", "  D      D and A", "  kinds  D A · D"]
    assert Coloured("D A", {}) == "D A"


def test_long_values_break_at_middle_dots_alone():
    lines = as_text("title", [("", "name", " · ".join(["seven words that belong to each other"] * 9))]).splitlines()
    assert len(lines) > 3 and all(len(line) <= 108 and line.startswith("  ") for line in lines[1:])
    assert all(line.endswith(("other ·", "other")) for line in lines[1:])


def test_columns_stand_under_their_names():
    text = columns(["policy", "scheme", "tokens"], [["strip", "every 64", "1,234,567"], ["x", "y", "7"]], left=2)
    assert text.splitlines() == [
        "policy  scheme       tokens",
        "strip   every 64  1,234,567",
        "x       y                 7",
    ]
    assert markdown(["a", "b"], [["1", ""]]) == "| a | b |\n|---|---|\n| 1 |  |\n"
