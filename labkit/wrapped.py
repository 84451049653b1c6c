"""A model that is wrapped: where it is, what it is made of, which weights and edits compute, what is open on it."""

import dataclasses

import torch

from labkit.families import FAMILIES
from labkit.identity import Identity
from labkit.rotary import Scaling, constants, scaling_of
from labkit.scopes import scopes_of
from labkit.trace import decoder
from labkit.weights import digest


class Wrapped:
    """What a `Lab` knows of its model without running it."""

    def __init__(self, model, tokenizer, spec, backend=None, name="", processor=None):
        self.model, self.tokenizer, self.spec, self.backend = model, tokenizer, spec, backend
        self.processor = processor
        self.source = None  # a function without arguments that makes this lab in another process; set by `load`
        self.name = name or spec.name
        self.scopes = scopes_of(model, decoder(model), FAMILIES[spec.family], constants(spec))

    def __repr__(self):
        return f"Lab({self.name}, {self.spec.strip()}, {str(self.dtype).removeprefix('torch.')} on {self.device})"

    @property
    def device(self) -> torch.device:
        """Where the embeddings live, hence where token ids must go."""
        return decoder(self.model).embed_tokens.weight.device

    @property
    def dtype(self) -> torch.dtype:
        """Type of the activations."""
        return decoder(self.model).norm.weight.dtype

    @property
    def window(self) -> int:
        """Positions the model accepts: the native window, or what an open `yarn.scaled` scope made of it."""
        if (scope := self.scopes.scaled) is not None:
            return scope.reach
        allowed, own = self.scopes.rotation.allowed, self.native
        # A configuration may leave the native window as it was.
        return max(allowed, int(own.factor * own.original)) if own.original else allowed

    @property
    def scaling(self) -> Scaling:
        """The `rotary.Scaling` in force: the configuration's own, or that of an open `yarn.scaled` scope."""
        return self.scopes.scaling or self.native

    @property
    def native(self) -> Scaling:
        """The `rotary.Scaling` that the checkpoint's configuration states."""
        return scaling_of(decoder(self.model).config)

    @property
    def final_norm(self) -> torch.nn.Module:
        """The norm between the last layer and the unembedding: `lab.unembedding(lab.final_norm(x))` are logits."""
        return decoder(self.model).norm

    @property
    def unembedding(self) -> torch.nn.Module:
        """The linear layer from the residual stream to the vocabulary, [vocab, hidden]."""
        return self.model.get_output_embeddings()

    def projection(self, layer: int) -> torch.nn.Module:
        """The linear layer from a mixer's heads to the residual stream, [hidden, heads * channels]."""
        path = FAMILIES[self.spec.family].projections[self.spec.kind(layer)]
        return decoder(self.model).layers[layer].get_submodule(path)

    def branch_norm(self, layer: int) -> torch.nn.Module | None:
        """The norm that a mixer's branch passes before it is added to the stream; None where it is added as it is."""
        path = FAMILIES[self.spec.family].branch_norms.get(self.spec.kind(layer))
        return None if path is None else decoder(self.model).layers[layer].get_submodule(path)

    @property
    def seen(self) -> Identity:
        """`identity()` as of the last pass, with the edits and the scaling of now."""
        if self.scopes.seen is None:
            self.scopes.seen = self.scopes.watched.identity(self.name, self.dtype)
        facts = dict(scaling=str(self.scaling.plain(self.spec.window)), edits=tuple(e.text for e in self.scopes.edits))
        return dataclasses.replace(self.scopes.seen, **facts)

    def look(self) -> None:
        """See whether the model changed since the last pass, unless a call is running, which has looked already."""
        if not self.scopes.calls:
            self.scopes.watched.look()
            self.scopes.seen = self.scopes.watched.identity(self.name, self.dtype)

    def identity(self, *, full: bool = False) -> Identity:
        """What computes now: weights, adapters, dtype, kernels, scaling, open edits with what they do, versions.

        Runs and snapshots carry it, checkpoint folders are compared by it.

        Args:
            full: also a digest of every byte of the weights.
        """
        self.scopes.watched.look(closely=True)
        self.scopes.seen = None
        return dataclasses.replace(self.seen, digest=digest(self.model)) if full else self.seen
