"""The data nano learns from: sequences of `key value` pairs whose repeated keys must be answered, and plain text.

    " fox red whale blue fox"  ->  " red"

Every batch says which tokens are answers: values of keys that were seen before. A key can be overwritten later; then
its last value counts, and the overwriting itself is no answer, since nothing tells it in advance.
"""

import torch

from labkit.nano.tokens import KEYS, VALUES


class Tasks:
    """Batches from one seed.

    Args:
        tokenizer: `tokenizers.Tokenizer`.
        text: [N] token ids of plain text.
        generator: local `torch.Generator`.
    """

    def __init__(self, tokenizer, text, generator):
        one = lambda word: tokenizer.encode(" " + word).ids  # noqa: E731
        assert all(len(one(word)) == 1 for word in KEYS + VALUES), "every key and value is one token"
        self.keys, self.values = (torch.tensor([one(w)[0] for w in words]) for words in (KEYS, VALUES))
        self.comma = tokenizer.encode(",").ids[0]
        self.text, self.generator = text, generator

    def _below(self, top, *shape):
        return torch.randint(top, shape, generator=self.generator)

    def pairs(self, batch, pairs, *, overwrite=0.0, comma=0.0):
        """Pairs in a row, keys drawn again and again.

        Args:
            overwrite: probability that a known key gets a new value.
            comma: probability that the whole batch has a comma after each pair.

        Returns:
            (ids [batch, T], answers [batch, T] bool).
        """
        width = 3 if torch.rand((), generator=self.generator) < comma else 2
        ids = torch.full((batch, pairs, width), self.comma)
        answers = torch.zeros(batch, pairs, width, dtype=torch.bool)
        drawn = self._below(len(self.keys), batch, pairs)
        fresh = self._below(len(self.values), batch, pairs)
        again = torch.rand(batch, pairs, generator=self.generator) < overwrite
        for b in range(batch):
            now = {}
            for p in range(pairs):
                key = int(drawn[b, p])
                known = key in now and not again[b, p]
                if not known:
                    now[key] = int(fresh[b, p])
                ids[b, p, 0], ids[b, p, 1] = self.keys[key], self.values[now[key]]
                answers[b, p, 1] = known
        return ids.flatten(1), answers.flatten(1)

    def question(self, batch, pairs, *, overwritten=False, comma=False):
        """Distinct keys stated once (one of them twice with two values, if `overwritten`), then one is asked for.

        Returns:
            (ids [batch, T] that end with the asked key, answer [batch] token id).
        """
        ids, answers = [], []
        for _ in range(batch):
            keys = torch.randperm(len(self.keys), generator=self.generator)[:pairs]
            facts = [(int(k), int(v)) for k, v in zip(keys, self._below(len(self.values), pairs), strict=True)]
            asked, value = facts[int(self._below(pairs))]
            if overwritten:
                value = (value + 1 + int(self._below(len(self.values) - 1))) % len(self.values)
                place = 1 + max(i for i, fact in enumerate(facts) if fact[0] == asked)
                facts.insert(place + int(self._below(len(facts) - place + 1)), (asked, value))
            row = [t for k, v in facts for t in (self.keys[k], self.values[v], *([self.comma] if comma else []))]
            ids.append([*map(int, row), int(self.keys[asked])])
            answers.append(int(self.values[value]))
        return torch.tensor(ids), torch.tensor(answers)

    def plain(self, batch, tokens):
        """Random windows of plain text; nothing in them is an answer."""
        starts = self._below(len(self.text) - tokens, batch)
        return torch.stack([self.text[s : s + tokens] for s in starts]), torch.zeros(batch, tokens, dtype=torch.bool)
