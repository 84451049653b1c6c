"""A model under watch: which weights it has, which modules, hooks and modes; cheap to look at before every pass.

Weights are told apart by samples: of every parameter up to 64 numbers (all of a small one), its name, shape and dtype.
Afterwards PyTorch's version counters say which parameters changed in place; of those the sums of all rows count too.
`digest(model)` reads every byte.
"""

import hashlib
import platform

import torch
import transformers

import labkit.families.kernels as kernels
from labkit.families import Family
from labkit.fingerprint import flat
from labkit.identity import Identity

SAMPLES, WHOLE = 64, 4096  # numbers of a parameter; up to WHOLE of them all count
COMPILED = "_compiled_call_impl"
VERSIONS = f"python {platform.python_version()}, torch {torch.__version__}, transformers {transformers.__version__}"


class Watched:
    """A model under watch: its modules, and the identity of its weights, renewed when they change.

    Attributes:
        modules: `{name: module}` of the whole model, as of the last `look`. absent: parameters without numbers.
        training, compiled: names of modules in training mode, of compiled ones. hooked: modules with hooks, by name.
    """

    def __init__(self, model: torch.nn.Module, stack: torch.nn.Module, family: Family):
        self.model, self.stack, self.family = model, stack, family
        self.modules, self.absent, self._children, self._weights = {}, [], [], []
        self.training, self.compiled, self.hooked = [], [], {}
        self._blocks = {}  # (layer, path) -> module
        self._hashes = {}  # name of a parameter -> (parameter, first version, version, hash)
        self._made = None  # (key, Identity)
        self.look()

    def look(self) -> None:
        """See whether modules or weights changed since the last look; some microseconds if none did."""
        if not self._children or any([*children.values()] != before for children, before in self._children):
            self._walk()
        for held, name, weight, version in self._weights:
            if held.get(name) is not weight or _version(weight) != version:
                self._hash()
                break
        marks = [
            (name, facts)
            for name, facts in self._facts
            if facts["training"] or facts["_forward_hooks"] or facts["_forward_pre_hooks"] or COMPILED in facts
        ]
        self.training = [name for name, facts in marks if facts["training"]]
        self.compiled = self._wrapped + [name for name, facts in marks if facts.get(COMPILED) is not None]
        self.hooked = {name: facts for name, facts in marks if facts["_forward_hooks"] or facts["_forward_pre_hooks"]}

    def _walk(self):
        """Note all modules, and those of other makers that labkit must know of."""
        self.modules = dict(self.model.named_modules())
        self._blocks = {}
        self._children = [(each._modules, [*each._modules.values()]) for each in self.modules.values() if each._modules]
        self._facts = [(name, each.__dict__) for name, each in self.modules.items() if "training" in each.__dict__]
        self._adapted = [(name, each) for name, each in self.modules.items() if hasattr(each, "merged_adapters")]
        self._wrapped = [name for name, each in self.modules.items() if type(each).__name__ == "OptimizedModule"]
        self._hash()

    def _hash(self):
        """Hash parameters that are new or were written into; the others keep their hashes."""
        known, self._hashes, self._weights = self._hashes, {}, []
        for path, module in self.modules.items():
            for name, weight in module._parameters.items():
                if weight is None:
                    continue
                place, version = f"{path}.{name}".lstrip("."), _version(weight)
                before = known.get(place)
                if before is None or before[0] is not weight:
                    before = (weight, version, None, b"")
                if before[2] != version:
                    before = (weight, before[1], version, _sampled(weight, version != before[1]))
                self._hashes[place] = before
                self._weights.append((module._parameters, name, weight, version))
        self.absent = [place for place, (weight, *_) in self._hashes.items() if weight.is_meta]
        self._made = None

    def module(self, layer: int, path: str) -> torch.nn.Module:
        """A module of a decoder layer, by its path there; "" is the layer."""
        found = self._blocks.get((layer, path))
        if found is None:
            found = self._blocks[layer, path] = self.stack.layers[layer].get_submodule(path)
        return found

    def identity(self, name: str, dtype: torch.dtype) -> Identity:
        """The identity of the model as it was at the last `look`, without edits and scaling."""
        config, computed = self.stack.config, kernels.resolved(self.family)
        attention, experts = config._attn_implementation, getattr(config, "_experts_implementation", None)
        key = (name, dtype, tuple(computed.values()), attention, experts, self._switches(), self.hooks())
        if self._made is None or self._made[0] != key:
            hashed = hashlib.sha256()
            for path, (*_, part) in sorted(self._hashes.items()):
                hashed.update(path.encode() + part)
            *_, switches, hooks = key
            device = next(weight.device.type for weight, *_ in self._hashes.values())
            parts = {**computed, "attention": attention} | ({"experts": experts} if experts else {})
            self._made = (
                key,
                Identity(
                    model=name,
                    weights=hashed.hexdigest()[:16],
                    adapters=switches,
                    hooks=hooks,
                    dtype=str(dtype).removeprefix("torch."),
                    kernels=", ".join(f"{part} {kernel}" for part, kernel in parts.items()) + f" on {device}",
                    versions=VERSIONS,
                ),
            )
        return self._made[1]

    def _switches(self):
        """Which adapters there are, which of them act, and how strongly."""
        states = {}
        for path, each in self._adapted:
            active = () if each.disable_adapters else tuple(each.active_adapters)
            strength = (
                {name: each.scaling.get(name) for name in active} if hasattr(each, "scaling") else dict.fromkeys(active)
            )
            text = ", ".join(f"{name} x {strength[name]:g}" if strength[name] is not None else name for name in active)
            text = text or "switched off"
            text += f", merged {', '.join(each.merged_adapters)}" if each.merged_adapters else ""
            states.setdefault(text, []).append(path)
        if len(states) < 2:
            return next(iter(states), "")
        return "; ".join(f"{text} at {len(at)} modules from {at[0]}" for text, at in states.items())

    def hooks(self) -> tuple[str, ...]:
        """`function at module` of hooks that others placed on the model."""
        return tuple(
            f"{named(hook)} at {name or 'the model'}"
            for name, facts in self.hooked.items()
            for hook in (*facts["_forward_pre_hooks"].values(), *facts["_forward_hooks"].values())
            if not getattr(hook, "of_labkit", False)
        )


def named(hook) -> str:
    """How a hook is called, for messages."""
    return f"{getattr(hook, '__module__', '')}.{getattr(hook, '__qualname__', type(hook).__qualname__)}".lstrip(".")


def digest(model: torch.nn.Module) -> str:
    """SHA-256 of every byte of a model's parameters, their names, shapes and dtypes; as long as reading them takes."""
    hashed = hashlib.sha256()
    for name, weight in model.named_parameters():
        for part in _plain(weight):
            hashed.update(f"{name} {part.dtype} {tuple(part.shape)}".encode())
            for piece in part.reshape(-1).split(2**24):
                hashed.update(_bytes(piece))
    return hashed.hexdigest()


def _version(weight):
    return 0 if weight.is_inference() else weight._version


def _sampled(weight, changed) -> bytes:
    """A hash of samples of a parameter, and of the sums of its rows where it `changed`."""
    hashed = hashlib.sha256()
    for part in _plain(weight):
        hashed.update(f"{part.dtype} {tuple(part.shape)} ".encode())
        if part.is_meta or not part.numel():
            continue
        flat = part.reshape(-1)
        step = 1 if len(flat) <= WHOLE else len(flat) // SAMPLES
        hashed.update(_bytes(flat[::step][: WHOLE if step == 1 else SAMPLES]))
        if changed and step > 1:
            hashed.update(_bytes(_bits(part.reshape(len(part), -1)).sum(-1)))
    return hashed.digest()


def _plain(tensor) -> list[torch.Tensor]:
    """The plain tensors of a parameter; a packed one has several."""
    tensor = tensor.detach()
    if hasattr(tensor, "__tensor_flatten__"):
        names, _ = tensor.__tensor_flatten__()
        return [part for name in names for part in _plain(getattr(tensor, name))]
    return [tensor.as_subclass(torch.Tensor)]


def _bits(tensor):
    """The numbers as whole numbers of the same bits: their sum tells every single change."""
    whole = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[tensor.element_size()]
    return flat(tensor).view(whole).view(tensor.shape)


def _bytes(tensor) -> bytes:
    return flat(tensor.detach()).view(torch.uint8).cpu().numpy().tobytes()
