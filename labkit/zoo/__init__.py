"""From a name, or a model that is already there, to a `Lab`, and a record of what will compute it.

    lab = labkit.load()
    lab = labkit.wrap(lab.model, lab.tokenizer)           # a model of transformers that is already there

    load()                                   $LABKIT_MODEL, else the embedded "nano"
    load("folder")                           text-only or image-text layout, one or many safetensors files
    load("Qwen/Qwen3.6-27B")                 a hub id, through the ordinary Hugging Face cache
    load("model.gguf")                       unpacked at load; so is a folder that holds only that
    load("packed")                           stored in fp8, bitsandbytes, torchao, compressed-tensors, gptq, awq, mlx
    load(..., quantize="nf4")                on the way in, by transformers' own quantisation
    load("adapter", base="folder")           an adapter of PEFT and its base
    load("folder", images=True)              the image-text class with its tower and processor
    load(model), wrap(model)                 one of transformers that is already there

One mechanism per file: `routes` loads, `finding` goes from names to files, `files` reads safetensors headers and
refuses what is not whole, `names` takes away what stands before the model's own, `matching` compares with the model,
`settings` lets checked settings through to transformers, `precision` decides device, dtype and quantisation and refuses
what would not fit. Of weights that are stored packed, `held` says which a device multiplies as they are, `unpacking`
finds the parts of the others, `packings` and `words` hold the arithmetic. `gguf` does all that for its format, with
`gguf_header`, `gguf_settings` and `gguf_weights`. `tokens` finds a tokenizer, `towers` is about the image-text class,
`adapters` reads PEFT's, `wrapping` takes a model in memory, `backend` records and rebinds kernels. What differs between
families stands in `labkit.families`.
"""

from labkit.zoo.backend import Backend
from labkit.zoo.routes import load
from labkit.zoo.wrapping import exact_rotation, wrap

__all__ = ["Backend", "exact_rotation", "load", "wrap"]


def __dir__():
    return sorted(__all__)
