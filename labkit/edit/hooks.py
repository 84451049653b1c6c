"""Edits held on a model: hooks for as long as a block lasts, and what is done to a state between two passes."""

from collections.abc import Sequence

import torch

from labkit.cache import is_linear, with_book
from labkit.edit.kinds import SeamEdit, StateEdit
from labkit.errors import InputError, LayerError
from labkit.hooks import Place
from labkit.trace import Pass, decoder


class Interventions:
    """The hooks of some edits, and what they have done: every edit must act wherever the passes have its tokens.

    Attributes:
        places: hooks, for a `Scope`.
    """

    def __init__(self, lab, edits: Sequence[SeamEdit | StateEdit]):
        self.lab, self.stack, self.spec, self.edits = lab, decoder(lab.model), lab.spec, tuple(edits)
        self.states = [item for item in edits if isinstance(item, StateEdit)]
        self.seams = [item for item in edits if isinstance(item, SeamEdit)]
        self.done, self.reached = set(), 0  # ids of the edits that ever acted; tokens read
        self.current, self.acted = None, set()  # the pass that is running, and ids of the edits that acted in it
        self.elsewhere = 0  # passes of other threads and tasks
        self.places = [Place(self.stack, "before", self._enter, kwargs=True), Place(self.stack, "after", self._leave)]
        self.places.append(Place(self.stack, "before", self._count, everywhere=True))
        # What a module returns first decides what comes after it: so do the edits.
        self.places += [self._place(item) for item in sorted(self.seams, key=lambda item: self._seam(item).entry)]

    def check(self) -> None:
        """Refuse edits that found no place in any pass, once there was one.

        Raises:
            InputError: names them; or all passes were of other threads or tasks, which the edits do not reach.
        """
        if not self.reached and self.elsewhere > 0 and self.edits:
            hint = "open the block inside the function that the thread runs"
            got, expected = f"{self.elsewhere} passes elsewhere", "passes of the thread or task that opened it"
            raise InputError("an edit saw no pass of its own thread", got=got, expected=expected, hint=hint)
        idle = [repr(item) for item in self.edits if id(item) not in self.done]
        if idle and self.reached:
            got = f"{', '.join(idle)}; passes read up to {self.reached} tokens"
            raise InputError(
                "an edit found no place", got=got, expected="tokens that the prompts have, layers that run"
            )

    def _count(self, module, args):
        self.elsewhere += 1

    def _enter(self, module, args, kwargs):
        self.elsewhere -= 1  # counted by the hook that acts everywhere
        current = Pass.of(module, args, kwargs)
        seen, tokens = current.before, current.tokens
        self.current, self.acted = current, set()
        self.positions = (torch.arange(tokens) + seen).expand(current.batch, -1)
        if current.mask is not None:  # real tokens count, wherever the padding is
            real = current.mask.cpu() != 0
            self.positions = torch.where(real, real.cumsum(1) - 1, -1)[:, -tokens:]
        # What was read before this block was read under these edits, or the cache would be refused.
        self.done |= {id(item) for item in self.edits if item.tokens is not None and item.acts_on(0, seen)}
        for item in self.states:
            if seen <= item.at < seen + tokens - 1 or (current.cache is None and item.at < tokens):
                raise InputError(
                    f"{item!r} lies inside this forward pass",
                    got=f"tokens {seen} to {seen + tokens - 1} in one pass"
                    + (", no cache" if current.cache is None else ""),
                    expected=f"a pass that ends with token {item.at}",
                    hint="lab.trace, lab.generate and lab.stream split there by themselves",
                )
        return with_book(self.lab, module, args, kwargs)

    def _leave(self, module, args, output):
        cache = self.current.cache
        seen = 0 if cache is None else cache.get_seq_length()
        for item in self.states:
            if item.at == seen - 1:
                _operate(cache.layers[item.layer], item)
                self._act(item)
        self.reached = max(self.reached, self.current.before + self.current.tokens)
        missed = [item for item in self.seams if id(item) not in self.acted and self._rows(item).any()]
        if missed:
            raise InputError(
                "an edit did not act, though its tokens were read",
                got=", ".join(map(repr, missed)),
                expected="layers that run as the lab found them",
                hint="no compiled or exchanged layers: open the edit anew on a model of plain modules",
            )
        self.current = None

    def _act(self, item):
        self.acted.add(id(item))
        self.done.add(id(item))

    def _rows(self, item):
        """[batch, token] where a seam edit acts in the running pass."""
        rows, span = self.positions >= 0, item.span
        if span is not None:
            return rows & (self.positions >= span.start) & (self.positions < span.stop)
        return rows if item.tokens is None else rows & torch.isin(self.positions, torch.tensor(item.tokens))

    def _seam(self, item):
        return self.spec.seams[self.spec.kind(item.layer)][item.seam]

    def _place(self, item):
        seam = self._seam(item)
        module = self.stack.layers[item.layer].get_submodule(seam.path)

        def changed(tensor):
            if self.current is None:
                raise InputError(f"{item!r} acts in a pass of the whole stack", got="a call of one of its layers")
            rows, shape = self._rows(item), (self.current.batch, self.current.tokens)
            if not rows.any():
                return None
            self._act(item)
            whole = tensor.clone(memory_format=torch.contiguous_format)
            values = seam.read(whole, self.spec, *shape)
            heads = slice(None) if item.heads is None else list(item.heads)
            old = values[:, :, heads]
            new = _checked(item, item.change(old.clone(), self.positions), old)
            chosen = rows.to(values.device).view(*rows.shape, *[1] * (old.ndim - 2))
            values[:, :, heads] = torch.where(chosen, new.to(old), old)
            seam.write(whole, values, self.spec, *shape)
            return whole

        if seam.side == "in":

            def before(module, args):
                new = changed(args[0])
                return None if new is None else (new, *args[1:])

            return Place(module, "before", before)

        def after(module, args, output):
            parts = list(output) if isinstance(output, tuple) else [output]
            new = changed(parts[seam.entry])
            if new is None or not isinstance(output, tuple):
                return new
            parts[seam.entry] = new
            if seam.follow is not None:  # at its own tokens: another edit may have changed the rest
                rows = self._rows(item).flatten().to(new.device)
                for entry, made in enumerate(seam.follow(new, self.spec), seam.entry + 1):
                    parts[entry] = torch.where(rows.view(-1, *[1] * (made.ndim - 1)), made, parts[entry])
            return tuple(parts)

        return Place(module, "after", after)


def _operate(layer, item):
    if not is_linear(layer):
        raise LayerError("no recurrent state in the cache here", got=type(layer).__name__)
    held, window = layer.recurrent_states[0], layer.conv_states[0]
    if item.change is not None:
        chosen = slice(None) if item.heads is None else list(item.heads)
        held[:, chosen] = _checked(item, item.change(held[:, chosen].clone()), held[:, chosen]).to(held)
    if item.window is not None:
        window.copy_(_checked(item, item.window(window.clone()), window))


def _checked(item, new, old):
    """What an edit's function gave, if it can take the place of what it was given."""
    if not isinstance(new, torch.Tensor) or new.is_complex() or new.dtype == torch.bool:
        got = str(new.dtype) if isinstance(new, torch.Tensor) else type(new).__name__
        raise InputError(f"{item!r} gave no real numbers", got=got, expected=f"a tensor {list(old.shape)}")
    if tuple(new.shape) != tuple(old.shape):
        raise InputError(f"{item!r} changed the shape", got=tuple(new.shape), expected=tuple(old.shape))
    return new
