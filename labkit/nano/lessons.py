"""The curriculum: what is drawn at which stage of the training.

Binding a value to its key comes as a jump after a plateau at "one of the values seen". Few keys in short rows make it
come within a minute; longer rows, more keys, other phrasings and other tasks are then learned on top of it, each lesson
when the last one holds. Most rows are of the newest lesson, the others of all before it.

Left alone, attention takes over all recall as soon as rows get long, and the recurrent states forget how. So in a share
of the rows that ask for facts the attention mixers are silenced: what these rows ask for must be held in the states.
"""

import dataclasses

import torch

from labkit.nano import chat, tasks, text


@dataclasses.dataclass(frozen=True)
class Lesson:
    """Rows of up to `room` tokens, `batch` of them a step, from `tasks`: pairs (name, options), each as likely as any
    other. It is over when every task of it is right on the share `holds` of its answers, or after `most` tokens.
    `silenced` is the share of rows about facts that are read without attention; they do not count for `holds`.
    """

    room: int
    batch: int
    tasks: tuple
    holds: float = 0.9
    most: float = 2e6
    silenced: float = 0.4


def _pairs(**options):
    return ("pairs", options)


FEW = dict(keys=12, values=8, distinct=12, styles=("plain",), ends=("",), overwrite=0.0)
MANY = FEW | dict(keys=64, values=16)
PLAIN = (("story", {}), ("docstrings", {}))
FACTS = ("pairs", "scattered", "values", "chat")
LESSONS = (
    Lesson(32, 16, (_pairs(**FEW),), holds=0.95, silenced=0.0),
    Lesson(64, 16, (_pairs(**MANY),)),
    Lesson(96, 12, (_pairs(overwrite=0.05), *PLAIN)),
    Lesson(128, 12, (_pairs(distinct=24), ("scattered", dict(facts=6)), ("copy", {}), ("order", {}), *PLAIN), most=1e6),
    Lesson(
        192,
        10,
        (
            _pairs(distinct=24, overwrite=0.15),
            ("scattered", dict(facts=12)),
            ("order", dict(items=8)),
            ("values", {}),
            ("chat", {}),
            ("copy", {}),
            *PLAIN,
        ),
        most=1e6,
    ),
    Lesson(
        512,
        6,
        (
            _pairs(distinct=24, overwrite=0.2),
            ("scattered", {}),
            ("scattered", dict(facts=3)),
            ("order", {}),
            ("order", dict(items=8)),
            ("values", {}),
            ("chat", {}),
            ("chat", {}),
            ("copy", {}),
            *PLAIN,
        ),
    ),
)


class Deck:
    """Draws batches.

    Args:
        tokenizer: `tokenizers.Tokenizer`.
        docstrings: token ids of plain text; the last twentieth is never drawn, and stays in `held_out`.
        draw: local `random.Random`.
        lessons: the curriculum.
    """

    def __init__(self, tokenizer, docstrings, draw, lessons=LESSONS):
        from labkit.nano.tokens import wrapped

        self.reader, self.draw, self.lessons = tasks.Reader(tokenizer), draw, lessons
        cut = len(docstrings) * 19 // 20
        self.docstrings, self.held_out = docstrings[:cut], docstrings[cut:]
        self.pad = tokenizer.token_to_id("<|endoftext|>")
        self._template = wrapped(tokenizer)

    def render(self, messages: list[dict], preserve: bool, tools: list[dict] | None = None, **options) -> str:
        """The text of a conversation, by the tokenizer's chat template."""
        return self._template.apply_chat_template(
            messages, tokenize=False, preserve_thinking=preserve, tools=tools, **options
        )

    def row(self, name: str, room: int, **options) -> tuple[list[int], list[bool]]:
        """(ids, answers) of one row of at most `room` tokens."""
        if name == "docstrings":
            return text.passage(self.draw, room, self.docstrings), [False] * room
        if name == "story":
            written = text.story(self.draw, room, self.reader.size)
        elif name == "chat":
            written = chat.chat(self.draw, room, self.reader.size, self.render, **options)
        else:
            written = getattr(tasks, name)(self.draw, room, self.reader.size, **options)
        ids, answers = self.reader.read(written)
        return ids[:room], answers[:room]

    def batch(
        self, newest: int
    ) -> tuple[list[tuple[int, str]], torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """A batch of the lessons up to `newest`.

        Returns:
            names: the task of each row, with the lesson's number: (lesson, name).
            ids [batch, room]; answers, real [batch, room] bool: which tokens are answers, and which are no padding;
            heard [batch]: 1 for rows with attention, 0 for rows without.
        """
        lead = newest if self.draw.random() < 0.6 else self.draw.randrange(newest + 1)
        lesson = self.lessons[lead]
        names, rows, heard = [], [], []
        for _ in range(lesson.batch):
            of = lead if self.draw.random() < 0.6 else self.draw.randrange(lead + 1)
            name, options = self.draw.choice(self.lessons[of].tasks)
            heard.append(float(name not in FACTS or self.draw.random() >= lesson.silenced))
            names.append((of, name if heard[-1] else f"{name} unheard"))
            rows.append(self.row(name, lesson.room, **options))
        shape = (len(rows), lesson.room)
        ids, answers, real = torch.full(shape, self.pad), *(torch.zeros(shape, dtype=torch.bool) for _ in range(2))
        for i, (row, marks) in enumerate(rows):
            ids[i, : len(row)], answers[i, : len(row)] = torch.tensor(row), torch.tensor(marks)
            real[i, : len(row)] = True
        return names, ids, answers, real, torch.tensor(heard)
