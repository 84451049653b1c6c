"""The explorer: what the kernel's part of a first view and of a click takes.

`tests/test_browser_explore.py` measures the same in a browser, the way there and back included, and writes it out.
"""

import statistics

from tests.benchmarks.tools import seconds

PROMPT = " fox red. whale blue. crow green. lion gold. fox white. bear black." * 40
PICKS = [
    {"layer": 4},
    {"token": 300},
    {"head": 3},
    {"query_head": 9},
    {"deltanet": "state"},
    {"token": 301},
    {"deltanet": "ledger"},
    {"attention": "map"},
    {"layer": 7},
    {"stream": "logit"},
    {"token": 40},
]


def explorer_clicks():
    """`lab.explore` on nano: milliseconds from a run of 512 tokens to its views, and of a click. Goals: 2,000 and 300.

    Without the browser. A click is the median of ten; `edit_ms` is one that runs the prompt again, under an edit.
    """
    import labkit as lk

    lab = lk.load("nano")
    text = lab.tokenizer.decode(lab.encode(PROMPT)[:512])
    panel, rounds = lab.explore(text, name=None), []
    for _ in range(3):
        first = seconds(lambda: panel.answer({"do": "run", "prompt": text}))
        picks = [seconds(lambda changes=changes: panel.answer({"do": "pick", "changes": changes})) for changes in PICKS]
        edit = seconds(lambda: panel.answer({"do": "toggle", "toggle": ["mixer", 4, None, None]}))
        panel.answer({"do": "toggle", "toggle": ["mixer", 4, None, None]})
        rounds.append((first, statistics.median(picks), edit))
    first, click, edit = (1000 * min(part) for part in zip(*rounds, strict=True))
    return dict(tokens_read=panel.explorer.length, first_view_ms=first, click_ms=click, edit_ms=edit)


QUESTIONS = [explorer_clicks]
