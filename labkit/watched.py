"""A model under watch: which weights it has, which modules, hooks and modes; cheap to look at before every pass.

Weights are told apart by samples: of every parameter up to 64 numbers (all of a small one), its name, shape and dtype;
and by the sums of all its rows, but for very large models in host memory. PyTorch's version counters say what changed.
`digest(model)` reads every byte.
"""

import hashlib
import itertools
import operator
import platform
from collections.abc import Iterable, Mapping, Sequence

import torch
import transformers
from torch.nn.modules import module as torch_module

from labkit import kernels
from labkit.families import Family, Seam
from labkit.hooks import HOOKS
from labkit.identity import Identity
from labkit.kernels import lower_right
from labkit.spec import Spec
from labkit.weights import sampled

SUMMED = 4 * 2**30  # bytes of weights in host memory whose rows are summed
PROBED = 4  # weights that may be trained, and are looked at each time
SIZED = (torch.nn.Linear, torch.nn.Embedding, torch.nn.Conv1d)  # whose numbers are sizes of their weights
COMPILED = "_compiled_call_impl"
# What of a module's attributes is worth a closer look; the last two are there only where somebody changed it.
MARKS = [operator.itemgetter("training"), *map(operator.itemgetter, HOOKS.values())]
MARKS += [operator.methodcaller("__contains__", name) for name in ("forward", COMPILED)]
POINTER = torch.Tensor.data_ptr
EVERYWHERE = (torch_module._global_forward_pre_hooks, torch_module._global_forward_hooks)
VERSIONS = f"python {platform.python_version()}, torch {torch.__version__}, transformers {transformers.__version__}"


class Watched:
    """A model under watch: its modules, and the identity of its weights, renewed when they change.

    Attributes:
        modules: `{name: module}` of the whole model, as of the last `look`. absent: parameters without numbers.
        training, compiled: names of modules in training mode, of compiled ones. hooked: modules with hooks, by name.
        replaced: names of modules whose `forward` somebody replaced.
    """

    def __init__(self, model: torch.nn.Module, stack: torch.nn.Module, family: Family):
        self.model, self.stack, self.family = model, stack, family
        self.modules, self.absent, self._children = {}, [], None
        self.training, self.compiled, self.hooked, self.replaced = [], [], {}, []
        self._bounds = self._alike = None, []  # what was asked for last, and what was found
        self._hashes = {}  # name of a parameter -> (parameter, first version, version, pointer, hash)
        self._made = None  # (key, Identity)
        self.look()

    def look(self, *, closely: bool = False) -> None:
        """See whether modules or weights changed since the last look; some microseconds if none did.

        Of weights that may be trained some are sampled anew, since fused optimizers write past the version counters.

        Args:
            closely: sample everything anew, whatever the counters say; some milliseconds.
        """
        if closely or self._children is None or _inside(self._children[0]) != self._children[1]:
            self._walk(closely)
        elif self._tuned():
            self._walk()
        elif self._written():
            self._hash()
        elif any(sampled(weight, False) != sample for weight, sample in self._trained):
            self._hash(closely=True)
        names, held = self._facts
        odd = any(any(map(mark, held)) for mark in MARKS)  # as a rule none is
        marks = [each for each in zip(names, held, strict=True) if any(mark(each[1]) for mark in MARKS)] if odd else []
        self.training = [name for name, facts in marks if facts["training"]]
        self.compiled = self._wrapped + [name for name, facts in marks if _compiled(facts)]
        self.hooked = {name: facts for name, facts in marks if facts["_forward_hooks"] or facts["_forward_pre_hooks"]}
        self.replaced = [name for name, facts in marks if "forward" in facts and not _compiled(facts)]

    def _tuned(self):
        """Whether a number that a module computes with changed, such as the scale of attention."""
        try:
            return any(read(facts) != numbers for facts, read, numbers in self._numbers)
        except KeyError:
            return True

    def _written(self):
        """Whether a parameter was exchanged, written into or moved."""
        holders, held = self._held
        if _inside(holders) != held:
            return True
        weights, versions, pointers = self._weights
        return [each._version for each in weights] != versions or [*map(POINTER, weights)] != pointers

    def _walk(self, closely=False):
        """Note all modules, what they are, and those of other makers that labkit must know of."""
        self.modules, self._bounds = dict(self.model.named_modules()), (None, [])
        hashed = hashlib.sha256()
        parents = [each._modules for each in self.modules.values() if each._modules]
        self._children = parents, _inside(parents)
        known = [name for name, each in self.modules.items() if "training" in each.__dict__]
        self._facts = known, [self.modules[name].__dict__ for name in known]
        self._adapted = [(name, each) for name, each in self.modules.items() if hasattr(each, "merged_adapters")]
        self._wrapped = [name for name, each in self.modules.items() if type(each).__name__ == "OptimizedModule"]
        self._numbers = []  # (attributes of a module, what reads those that are plain, what they were)
        for name, each in self.modules.items():  # what computes beside the weights: classes, and numbers such as eps
            if each is getattr(self.stack, "rotary_emb", None) or hasattr(each, "merged_adapters"):
                continue  # told by scaling and switches
            facts = {key: fact for key, fact in each.__dict__.items() if type(fact) in (bool, int, float, str)}
            facts = {key: fact for key, fact in facts.items() if not key.startswith("_") and key != "training"}
            hashed.update(f"{name} {type(each).__qualname__} {sorted(facts.items())} ".encode())
            if facts and type(each) not in SIZED:
                read = operator.itemgetter(*facts)
                self._numbers.append((each.__dict__, read, read(each.__dict__)))
        self._structure = hashed.digest()
        self._hash(closely)

    def _hash(self, closely=False):
        """Hash parameters that are new or were written into; the others keep their hashes."""
        known, self._hashes, weights = self._hashes, {}, []
        held = [
            (f"{path}.{name}".lstrip("."), weight)
            for path, module in self.modules.items()
            for name, weight in module._parameters.items()
            if weight is not None
        ]
        # Sums of all rows tell every change; of weights in host memory by the dozens of gigabytes they would take long.
        small = sum(weight.nbytes for _, weight in held if not weight.is_cuda) <= SUMMED
        for place, weight in held:
            version, pointer = writes(weight), _pointer(weight)
            before = known.get(place)
            same = before is not None and before[0] is weight and before[2:4] == (version, pointer)
            if not same or closely:
                first = version if before is None or before[0] is not weight else before[1]
                before = (weight, first, version, pointer, sampled(weight, small or version != first))
            self._hashes[place] = before
            if pointer is not None:
                weights.append((weight, version, pointer))
        owners = [each._parameters for each in self.modules.values() if each._parameters]
        self._held = owners, _inside(owners)
        self._weights = [list(part) for part in zip(*weights, strict=True)] or [[], [], []]
        trained = [weight for _, weight in held if weight.requires_grad]
        self._trained = [(weight, sampled(weight, False)) for weight in trained[:: max(1, len(trained) // PROBED)]]
        self.absent = [place for place, (weight, *_) in self._hashes.items() if weight.is_meta]
        self._made, self._alike = None, (None, [])

    def boundaries(self, spec: Spec, wanted: Mapping[int, Sequence[str]]) -> list[tuple[tuple[int, str], Seam, dict]]:
        """((layer, name), seam, hooks on its side of its module) of the seams `{layer: names}`, found once."""
        key = [seam for seams in spec.seams.values() for seam in seams.values()]
        key += [(layer, *names) for layer, names in wanted.items()]
        if self._bounds[0] != key:
            found = [((layer, name), spec.seams[spec.kind(layer)][name]) for layer in wanted for name in wanted[layer]]
            inner = [self.stack.layers[layer].get_submodule(seam.path) for (layer, _), seam in found]
            sides = [HOOKS["before" if seam.side == "in" else "after"] for _, seam in found]
            self._bounds = key, [(*each, hooks) for each, hooks in zip(found, map(getattr, inner, sides), strict=True)]
        return self._bounds[1]

    def alike(self, spec: Spec, layers: Iterable[int]) -> list[tuple[list[tuple[int, str]], list[torch.Tensor]]]:
        """(places (layer, name), weights there) of the small weights that readings of these layers need, one pair for
        those of one name, dtype and device; found once.
        """
        key = [*layers]
        if self._alike[0] != key:
            groups = {}
            for layer in key:
                for name, path in self.family.parameters[spec.kind(layer)].items():
                    weight = self.stack.layers[layer].get_parameter(path)
                    places, weights = groups.setdefault((name, weight.dtype, weight.device), ([], []))
                    places.append((layer, name))
                    weights.append(weight)
            self._alike = key, [*groups.values()]
        return self._alike[1]

    def identity(self, name: str, dtype: torch.dtype) -> Identity:
        """The identity of the model as it was at the last `look`, without edits and scaling."""
        config, computed = self.stack.config, kernels.running(self.family, self.stack)
        attention = lower_right.told(config, self.stack.norm.weight.device, dtype)
        experts = getattr(config, "_experts_implementation", None)
        device = next(weight.device.type for weight, *_ in self._hashes.values())
        rounded = kernels.float32_as(device)
        told = f" on {device}" + ("" if rounded == "ieee" else kernels.TOLD + rounded)
        key = (name, dtype, tuple(computed.values()), told, attention, experts, self._switches(), self.hooks())
        if self._made is None or self._made[0] != key:
            hashed = hashlib.sha256(self._structure)
            for path, (*_, part) in sorted(self._hashes.items()):
                hashed.update(path.encode() + part)
            *_, switches, hooks = key
            parts = {**computed, "attention": attention} | ({"experts": experts} if experts else {})
            self._made = (
                key,
                Identity(
                    model=name,
                    weights=hashed.hexdigest()[:16],
                    adapters=switches,
                    hooks=hooks,
                    dtype=str(dtype).removeprefix("torch."),
                    kernels=", ".join(f"{part} {kernel}" for part, kernel in parts.items()) + told,
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
        own = [
            (hook, name or "the model")
            for name, facts in self.hooked.items()
            for hook in (*facts["_forward_pre_hooks"].values(), *facts["_forward_hooks"].values())
        ]
        own += [(hook, "every module") for hooks in EVERYWHERE for hook in hooks.values()]
        told = [f"{named(hook)} at {name}" for hook, name in own if not getattr(hook, "of_labkit", False)]
        return (*told, *(f"another forward at {name or 'the model'}" for name in self.replaced))


def named(hook) -> str:
    """How a hook is called, for messages."""
    return f"{getattr(hook, '__module__', '')}.{getattr(hook, '__qualname__', type(hook).__qualname__)}".lstrip(".")


def writes(tensor: torch.Tensor) -> int:
    """How often a tensor was written into; 0 of one that does not count."""
    try:
        return tensor._version
    except RuntimeError:  # made in inference mode
        return 0


def _inside(holders) -> list[int]:
    """Which objects dictionaries hold, by identity."""
    return [*map(id, itertools.chain.from_iterable(map(dict.values, holders)))]


def _pointer(weight):
    """Where a plain parameter lies; None for packed ones and those without a version."""
    plain = type(weight) in (torch.Tensor, torch.nn.Parameter) and not weight.is_inference()
    return weight.data_ptr() if plain else None


def _compiled(facts):
    """Whether `torch.compile` is behind a module or its forward."""
    return facts.get(COMPILED) is not None or hasattr(facts.get("forward"), "_torchdynamo_orig_callable")
