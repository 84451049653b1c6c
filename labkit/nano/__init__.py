"""nano: the embedded checkpoint, its tokenizer, its model card and the recipe that made them.

    python -m labkit.nano train       resumable, seeded; writes its state into a folder
    python -m labkit.nano evaluate    questions from other seeds, counted: exam.json and the model card README.md
    python -m labkit.nano export      weights, tokenizer, configs and checksums into this folder

In this folder: `tokens` (words and tokenizer), `text`, `tasks` and `chat` (the generated data), `lessons` (the
curriculum), `shape` and `mtp` (the model), `recipe` (training), `questions`, `exam`, `card`, `export`.
"""

import pathlib

FOLDER = pathlib.Path(__file__).parent
