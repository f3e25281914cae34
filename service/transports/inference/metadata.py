"""What the server and its models say of themselves."""

from dataclasses import dataclass

from service.transports.inference.questions import INPUTS, OUTPUTS, VERSION
from service.transports.inference.tensors import BYTES

SERVER = "paliserve"
PLATFORM = "paliserve_paligemma"
EXTENSIONS = ("binary_tensor_data",)


@dataclass(frozen=True, slots=True)
class TensorMetadata:
    """A tensor of a model; -1 stands for any number."""

    name: str
    datatype: str = BYTES
    shape: tuple[int, ...] = (-1,)


@dataclass(frozen=True, slots=True)
class ModelMetadata:
    """What a model takes and gives."""

    name: str
    versions: tuple[str, ...] = (VERSION,)
    platform: str = PLATFORM
    inputs: tuple[TensorMetadata, ...] = tuple(TensorMetadata(name) for name in INPUTS)
    outputs: tuple[TensorMetadata, ...] = tuple(TensorMetadata(name) for name in OUTPUTS)
