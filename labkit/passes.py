"""Forward passes: one prompt in one piece, in chunks, or split where an open state edit asks for it."""

import torch

from labkit.cache import PLACED, TORN, check_whole, is_placed, settle
from labkit.errors import InputError


@torch.no_grad()
def feed(lab, ids, *, columns, cache=None, mask=None, positions=None, chunk=None):
    """Forward passes over ids [batch, T], split where chunks or open state edits ask for it.

    Returns:
        logits [batch, len(columns), vocab] of these columns.
    """
    length = ids.shape[1]
    first = 0 if cache is None else cache.get_seq_length()
    cuts = {cut - first for cut in lab._cuts if first < cut <= first + length}
    if cuts and mask is not None and len(ids) > 1:
        raise InputError("a state edit needs rows of one length", hint="trace the prompts one by one")
    if chunk is not None:
        if chunk < 1:
            raise InputError("a chunk holds at least one token", got=chunk)
        cuts |= set(range(chunk, length, chunk))
    if cuts and cache is None:
        cache = lab.cache()
    if cache is not None:
        check_whole(cache)
        settle(cache, lab.scaling, lab.native, lab.spec.window, unrotated=lab._keys_layer is not None)
        if is_placed(cache) and positions is None:
            got, hint = "no positions for the rest", "lab.trace(rest, cache=cache, positions=...)"
            raise InputError("this cache's tokens stand at chosen positions", got=got, hint=hint)
        setattr(cache, TORN, True)  # until every layer has read every token
    edges = [0, *sorted(cuts - {length}), length]
    found = []
    for a, b in zip(edges, edges[1:], strict=False):
        here = [column - a for column in columns if a <= column < b]
        out = lab.model(
            input_ids=ids[:, a:b].to(lab.device),
            attention_mask=None if mask is None else mask[:, : first + b].to(lab.device),
            position_ids=None if positions is None else positions[:, a:b].to(lab.device),
            past_key_values=cache,
            use_cache=cache is not None,
            logits_to_keep=logits_to_keep(here, b - a, lab.device),
        )
        if here:
            found.append(out.logits)
    if cache is not None:
        setattr(cache, TORN, False)
    if cache is not None and positions is not None and len(ids) == 1:
        setattr(cache, PLACED, True)
    if cache is not None and len(ids) == 1:
        known = lab._fed.get(cache, torch.empty(0, dtype=torch.long))
        if len(known) == first:
            lab._fed[cache] = torch.cat([known, ids[0].cpu()])
    return torch.cat(found, 1) if found else None


def logits_to_keep(columns, length, device):
    """What transformers calls `logits_to_keep`, in its plainest form: 0 is all, 1 the last."""
    if len(columns) == length:
        return 0
    return torch.tensor(columns, device=device) if columns and columns != [length - 1] else 1
