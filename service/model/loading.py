"""Reading a checkpoint from a folder or the hub: safetensors only, no code of the checkpoint's, PaliGemma only."""

import ctypes
import gc
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import torch
import transformers
from safetensors import SafetensorError
from transformers import AutoProcessor, PaliGemmaConfig, PaliGemmaForConditionalGeneration
from transformers.models.paligemma.processing_paligemma import PaliGemmaProcessor

from service.errors import OperatorError
from service.model.config_files import ConfigError, check_config_files
from service.model.enlarging import enlarge_config, enlarge_patches
from service.model.folder_rights import warn_of_others
from service.model.hub import HUB_ID, FetchError, cached_config, fetch
from service.model.quantizing import check_quantization, quantize
from service.model.weight_files import WeightFileError, check_weights, weight_files

ACTIVATION = "gelu_pytorch_tanh"
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
MASK_DECODER_FILES = ("mask_decoder.safetensors", "vae-oid.npz")


class CheckpointError(OperatorError):
    """A checkpoint cannot be served."""


@dataclass(frozen=True, slots=True)
class Source:
    """Where a checkpoint is: a folder or a hub id with a revision; and how it is to be held in memory.

    ``device`` is a torch device name or "auto": CUDA where there is one, else the CPU. ``dtype`` None: float32 on a CPU, bfloat16 on CUDA.
    ``mask_decoder`` names a file that is not in the folder itself. ``enlarge``: see ``enlarging``; ``quantization``: see ``quantizing``.
    """

    checkpoint: str
    revision: str | None = None
    dtype: str | None = None
    device: str = "auto"
    mask_decoder: Path | None = None
    enlarge: int = 1
    quantization: str | None = None


@dataclass(frozen=True, slots=True)
class Weights:
    """Which weights to read, and how they are to be held in memory."""

    folder: Path
    dtype: str
    device: str
    enlarge: int = 1
    quantization: str | None = None


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint without its weights. ``mask_decoder`` is None where none was found: then segment answers boxes without masks."""

    weights: Weights
    config: PaliGemmaConfig
    processor: PaliGemmaProcessor
    mask_decoder: Path | None


def open_checkpoint(source: Source) -> Checkpoint:
    """Fetch a checkpoint where it is not here yet, and read everything but its weights. Errors: CheckpointError."""
    folder = _folder(source)
    warn_of_others(folder)
    _check_config(folder)
    files = _weight_files(folder)
    device, dtype = held_as(source)
    if source.mask_decoder is not None and not source.mask_decoder.is_file():
        raise CheckpointError(f"{source.mask_decoder}: the mask decoder is not a file.")
    try:
        config = PaliGemmaConfig.from_pretrained(folder, local_files_only=True)
        processor = AutoProcessor.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise CheckpointError(f"{source.checkpoint}: the checkpoint cannot be read: {error}") from error
    _check_activations(config, source.checkpoint)
    try:
        check_weights(files, config)
    except (OSError, WeightFileError) as error:
        raise CheckpointError(f"{source.checkpoint}: {error}") from error
    if not isinstance(processor, PaliGemmaProcessor):
        raise CheckpointError(f"{source.checkpoint}: its processor is a {type(processor).__name__}, not a PaliGemmaProcessor.")
    found = (folder / name for name in MASK_DECODER_FILES)
    mask_decoder = source.mask_decoder or next((path for path in found if path.is_file()), None)
    weights = Weights(folder, dtype, device, source.enlarge, source.quantization)
    return Checkpoint(weights, enlarge_config(config, source.enlarge), processor, mask_decoder)


def load_model(weights: Weights) -> PaliGemmaForConditionalGeneration:
    """Read the weights. Errors: CheckpointError."""
    try:
        model = PaliGemmaForConditionalGeneration.from_pretrained(
            weights.folder, dtype=DTYPES[weights.dtype], use_safetensors=True, trust_remote_code=False, local_files_only=True
        )
        if weights.enlarge > 1:
            enlarge_patches(model, weights.enlarge)
        model = model.to(weights.device)
        if weights.quantization:
            quantize(model, weights.quantization)
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise CheckpointError(f"{weights.folder}: the weights cannot be read: {error}") from error
    if weights.device == "cpu":
        for parameter in model.parameters():
            # As it is, it may be a view of the file, all of which then stays in memory as long as one of them does.
            if type(parameter) is torch.nn.Parameter:
                parameter.data = parameter.data.clone()
    return model


@dataclass(frozen=True, slots=True)
class Survey:
    """What a checkpoint is, by its config.json and the sizes of its files alone."""

    config: PaliGemmaConfig
    file_bytes: int

    @property
    def resolution(self) -> int:
        """Side of its pictures, in pixels."""
        return int(self.config.vision_config.image_size)

    @property
    def hidden_size(self) -> int:
        """Of the decoder."""
        return int(self.config.text_config.hidden_size)


def survey(source: Source) -> Survey | None:
    """Look without loading anything; None for a hub id that was not fetched yet. Errors: CheckpointError."""
    folder = Path(source.checkpoint)
    if not folder.is_dir():
        cached = cached_config(source.checkpoint, source.revision)
        if cached is None:
            return None
        folder = cached.parent
    _check_config(folder)
    try:
        config = PaliGemmaConfig.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, KeyError) as error:
        raise CheckpointError(f"{source.checkpoint}: its config.json cannot be read: {error}") from error
    try:
        file_bytes = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    except OSError as error:
        raise CheckpointError(f"{error.filename}: {error.strerror or 'cannot be read'}.") from error
    return Survey(enlarge_config(config, source.enlarge), file_bytes)


def free_bytes(device: str) -> int:
    """Memory of an accelerator that nothing uses."""
    return int(torch.cuda.mem_get_info(device)[0])


def held_as(source: Source) -> tuple[str, str]:
    """The device and the dtype that weights are held on and in. Errors: CheckpointError."""
    device = _device(source.device)
    dtype = source.dtype or ("bfloat16" if device.startswith("cuda") else "float32")
    if dtype not in DTYPES:
        raise CheckpointError(f"dtype {dtype!r} is not known: one of {', '.join(DTYPES)} is needed.")
    if source.quantization:
        check_quantization(source.quantization, dtype, device)
    return device, dtype


def _folder(source: Source) -> Path:
    """The checkpoint's folder; a hub id is fetched into the hub's cache first."""
    folder = Path(source.checkpoint)
    if folder.is_dir():
        return folder
    if not HUB_ID.fullmatch(source.checkpoint):
        raise CheckpointError(f"{source.checkpoint}: neither a folder nor a hub id such as google/paligemma-3b-mix-224.")
    try:
        return fetch(source.checkpoint, source.revision)
    except FetchError as error:
        raise CheckpointError(str(error)) from error


def _check_activations(config: PaliGemmaConfig, name: str) -> None:
    text = config.text_config
    asked = {config.vision_config.hidden_act, text.hidden_activation if text.model_type == "gemma2" else text.hidden_act}
    if asked != {ACTIVATION}:
        raise CheckpointError(f"{name}: its activation is {' and '.join(sorted(map(str, asked)))}; PaliGemma's is {ACTIVATION}.")


def _check_config(folder: Path) -> None:
    try:
        check_config_files(folder)
    except ConfigError as error:
        raise CheckpointError(f"{folder}: {error}") from error


def _weight_files(folder: Path) -> list[Path]:
    try:
        return weight_files(folder)
    except WeightFileError as error:
        raise CheckpointError(f"{folder}: {error}") from error


def _device(name: str) -> str:
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise CheckpointError(f"device {name!r}: torch sees no CUDA device here; use 'cpu' or 'auto'.")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise CheckpointError(f"device {name!r} is not known: cpu, cuda, cuda:1 or auto is needed.") from None
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise CheckpointError(f"device {name!r}: torch sees {torch.cuda.device_count()} CUDA devices here, counted from 0.")
    return name


def give_back_freed() -> None:
    """Let the system have what loading took and freed again: the C library keeps it, hundreds of megabytes, for itself."""
    gc.collect()
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def quiet_progress() -> None:
    """Do not draw the progress of loading: into a log, or across the bar of who waits for all that is loaded, by several processes."""
    transformers.utils.logging.disable_progress_bar()


def set_threads(count: int) -> None:
    """Let torch compute with ``count`` threads; 0 leaves the choice to torch."""
    if count > 0:
        torch.set_num_threads(count)
