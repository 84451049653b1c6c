"""nano: the embedded checkpoint, its tokenizer, its model card and the recipe that made them.

    python -m labkit.nano train       resumable, seeded; writes its state into a folder
    python -m labkit.nano evaluate    held-out samples, model card README.md
    python -m labkit.nano export      weights, tokenizer, configs and checksums into this folder

In this folder: `tokens` (the tokenizer), `tasks` (the generated data), `recipe` (training, evaluation, export).
"""

import pathlib

FOLDER = pathlib.Path(__file__).parent
