"""What callers may know of an instance."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ModelDescription:
    """``source`` is a hub id or a folder's name, never a path. ``created`` is when it was loaded, in seconds since 1970."""

    name: str
    resolution: int
    dtype: str
    device: str
    state: str
    tasks: tuple[str, ...]
    adapters: tuple[str, ...]
    max_tokens: int
    source: str
    created: int
