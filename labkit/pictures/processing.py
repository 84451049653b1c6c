"""transformers' own processor of a checkpoint: chat template, tokenizer, and what makes patches of pictures."""

import importlib.util
import pathlib

from labkit.errors import BackendError, CheckpointError, one_line


def processor(folder: str | pathlib.Path):
    """The processor of a checkpoint folder, for `pictures.see`; nothing is fetched.

    With torchvision it is what transformers' `AutoProcessor` gives. With Pillow alone it is the same class, whose
    pictures are resized by Pillow and whose films, arrays of frames, by torch (`films`).

    Args:
        folder: with a tokenizer, and the settings of the image processor beside it.

    Raises:
        BackendError: Pillow is missing. CheckpointError: no processor can be read there.
    """
    if importlib.util.find_spec("PIL") is None:
        raise BackendError("pictures are read by Pillow", got="no package PIL", hint="pip install pillow")
    folder = pathlib.Path(folder)
    if not folder.is_dir():
        raise CheckpointError("no folder of a checkpoint", got=str(folder), expected="a folder with a processor")
    try:
        return whole(folder) if importlib.util.find_spec("torchvision") is not None else without_torchvision(folder)
    except (OSError, ValueError, TypeError, KeyError, ImportError, AttributeError, RuntimeError) as error:
        expected = "preprocessor_config.json or processor_config.json beside a tokenizer"
        raise CheckpointError("no processor can be read here", got=one_line(error), expected=expected) from error


def whole(folder: pathlib.Path):
    """transformers' own choice, which needs torchvision."""
    from transformers import AutoProcessor

    return AutoProcessor.from_pretrained(folder, local_files_only=True, trust_remote_code=False)


def without_torchvision(folder: pathlib.Path):
    """transformers gives no video processor without torchvision, and its class insists on one of its own lists."""
    from transformers import AutoTokenizer, Qwen2VLImageProcessorPil
    from transformers.models.qwen3_vl.processing_qwen3_vl import Qwen3VLProcessor

    from labkit.pictures.films import Films

    class Processor(Qwen3VLProcessor):
        def check_argument_for_proper_class(self, argument_name, argument):
            if argument_name != "video_processor":
                return super().check_argument_for_proper_class(argument_name, argument)
            return None

    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    patches = Qwen2VLImageProcessorPil.from_pretrained(folder, local_files_only=True)
    films = Films.from_pretrained(folder, local_files_only=True)
    return Processor(patches, tokenizer, films, chat_template=tokenizer.chat_template)
