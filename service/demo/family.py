"""The embedded models: which there are, and where their weights are."""

from pathlib import Path
from typing import NamedTuple

CHECKPOINTS = Path(__file__).parent / "checkpoints"
ADAPTERS = Path(__file__).parent / "adapters"


class Member(NamedTuple):
    """One model of the family: a checkpoint, and how many times larger its pictures are than that was trained for."""

    name: str
    resolution: int
    checkpoint: str
    enlarge: int = 1


FAMILY = (Member("shapes-224", 224, "shapes-224"), Member("shapes-448", 448, "shapes-448"), Member("shapes-896", 896, "shapes-448", 2))
"""The first is served where a request does not choose. Its mask decoder is everyone's."""
MASK_DECODER = CHECKPOINTS / FAMILY[0].checkpoint / "mask_decoder.safetensors"
ADAPTER = ADAPTERS / "part-codes-224"
"""For the first of the family."""
