"""Snapshots of a recurrent model cost more memory than its keys and values, until conversations get long

Bytes that keys, values and snapshots take at the end of a session, by where states are saved, for Qwen3.6-27B. A
snapshot is as large as the keys and values of some two thousand tokens, whatever the length.

Look at the schemes that save states on a fine grid. If snapshots were small beside keys and values, saving one every
few tokens would be the answer to everything, and the title would be wrong.

Source: sizes from the model's configuration, `labkit.spec`; accounting, `labkit.reuse.replay`.
"""

import numpy as np

from figures import session_timeline
from labkit import draw as plot
from labkit import reuse, spec
from labkit.notation import label

SCHEMES = ("live", "before_think", "end+before_think", "every 784", "every 64")


def data(lab):
    """size (term, scheme): GiB of keys and values, and of snapshots, at the end of the session."""
    calls = list(reuse.calls(session_timeline.session(), lab.tokenizer))
    ledgers = [reuse.replay(calls, snapshots=scheme) for scheme in SCHEMES]
    sizes = np.array([[float(ds[name][-1]) / 2**30 for ds in ledgers] for name in ("kv_bytes", "snapshot_bytes")])
    coords = {"term": ["keys and values", "snapshots"], "scheme": list(SCHEMES)}
    worth = spec.memory.snapshot_tokens(spec.read("Qwen3.6-27B"))
    values = {"size": (tuple(coords), sizes, "gibibytes"), "worth": ((), np.asarray(worth), "tokens")}
    return label(values, coords=coords, attrs=ledgers[0].attrs)


def draw(ds):
    """Stacked bars."""
    title = f"Memory by scheme; one snapshot is worth the keys and values of {float(ds.worth):,.0f} tokens"
    return plot.bars(ds, "size", x="scheme", color="term", stacked=True, title=title)
