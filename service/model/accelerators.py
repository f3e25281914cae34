"""Which accelerators torch sees here, and what hinders it."""

import re
import warnings
from dataclasses import dataclass
from pathlib import Path

import torch

DRIVER = Path("/proc/driver/nvidia/version")
DEVICE_FILES = (Path("/dev/nvidiactl"), Path("/dev/kfd"), Path("/dev/dxg"))
"""Of a driver for NVIDIA's or AMD's cards, or for either in WSL."""

BFLOAT16 = (8, 0)
"""The least compute capability that has products of bfloat16."""


@dataclass(frozen=True, slots=True)
class Accelerator:
    """A device. ``capability``: of CUDA, major and minor; ``is_built_for``: whether torch's kernels were compiled for it."""

    name: str
    capability: tuple[int, int]
    total_bytes: int
    is_built_for: bool

    @property
    def is_slice(self) -> bool:
        """Whether it is a part of a card (MIG)."""
        return "MIG" in self.name


@dataclass(frozen=True, slots=True)
class Sight:
    """What torch sees. ``toolkit``: for which it was built, such as "CUDA 13.0"; empty: for CPUs alone.

    ``driver``: the version of NVIDIA's, empty where there is none; ``hindrance``: what torch says where it sees nothing.
    """

    torch: str
    toolkit: str
    accelerators: tuple[Accelerator, ...]
    driver: str
    hindrance: str

    @property
    def has_driver(self) -> bool:
        """Whether this machine seems to have a card."""
        return bool(self.driver) or any(path.exists() for path in DEVICE_FILES)


def look() -> Sight:
    """Ask torch, and the kernel."""
    hip = getattr(torch.version, "hip", None)
    toolkit = f"ROCm {hip}" if hip else f"CUDA {torch.version.cuda}" if torch.version.cuda else ""
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        found: tuple[Accelerator, ...] = ()
        hindrance = ""
        try:
            if torch.cuda.is_available():
                found = tuple(_seen(number) for number in range(torch.cuda.device_count()))
        except RuntimeError as error:
            hindrance = str(error)
    hindrance = hindrance or next((str(each.message) for each in told), "")
    return Sight(torch.__version__, toolkit, found, _driver(), hindrance.partition("\n")[0])


def _seen(number: int) -> Accelerator:
    facts = torch.cuda.get_device_properties(number)
    capability = (int(facts.major), int(facts.minor))
    return Accelerator(str(facts.name), capability, int(facts.total_memory), _is_built_for(capability))


def _is_built_for(capability: tuple[int, int]) -> bool:
    """Kernels for a card run on later ones of its major version; those in PTX on all later ones."""
    if getattr(torch.version, "hip", None):
        return True
    built = [re.fullmatch(r"(sm|compute)_(\d+)(\d)[a-z]?", each) for each in torch.cuda.get_arch_list()]
    for each in built:
        if each and (int(each[2]), int(each[3])) <= capability and (each[1] == "compute" or int(each[2]) == capability[0]):
            return True
    return not built


def _driver() -> str:
    try:
        found = re.search(r"Kernel Module(?: for \S+)?\s+(\d[\d.]+)", DRIVER.read_text(encoding="utf-8"))
    except OSError:
        return ""
    return found[1] if found else "unknown"
