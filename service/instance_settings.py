"""What an operator may set of one instance and of its adapters."""

from typing import Annotated, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"

MORE_ADAPTERS = 8
"""Places for adapters where some are named and their number is not set."""


class AdapterSettings(BaseModel):
    """A LoRA adapter that an instance begins with: a folder as peft writes it, or a hub id."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(min_length=1, max_length=100, pattern=NAME)
    source: str = Field(min_length=1)
    revision: str | None = None


class InstanceSettings(BaseModel):
    """One instance: a checkpoint, and how it is held. What is None is chosen by the service: see ``Source``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(min_length=1, max_length=100, pattern=NAME)
    source: str = Field(min_length=1)
    revision: str | None = None
    resolution: Literal[224, 448, 896] | None = None
    enlarge: Literal[1, 2, 4] = 1
    preload: bool = True
    pinned: bool = False
    dtype: Literal["float32", "bfloat16", "float16"] | None = None
    quantization: Literal["int8", "int8-dynamic", "int4"] | None = None
    device: str | None = None
    slots: Annotated[int, Field(ge=1, le=1024)] | Literal["auto"] | None = None
    max_prompt_tokens: int = Field(default=256, ge=8, le=4096)
    max_tokens: int = Field(default=1024, ge=1, le=1024)
    mask_decoder: str | None = None
    sliding_window: Literal["transformers", "reference"] = "transformers"
    compile: bool = False
    vision_cache_bytes: int = Field(default=256_000_000, ge=0)
    prompt_style: Literal["standard", "bare-question", "choices", "science-qa", "referring", "drawn-box"] = "standard"
    max_images: int = Field(default=1, ge=1, le=16)
    max_adapters: int | None = Field(default=None, ge=0, le=64)
    max_adapter_rank: int = Field(default=16, ge=1, le=256)
    adapters: tuple[AdapterSettings, ...] = ()

    @field_validator("adapters")
    @classmethod
    def _adapters_named_apart(cls, value: tuple[AdapterSettings, ...]) -> tuple[AdapterSettings, ...]:
        return apart(value)

    @model_validator(mode="after")
    def _room_for_adapters(self) -> Self:
        if self.max_adapters is not None and self.max_adapters < len(self.adapters):
            raise ValueError(f"max_adapters is {self.max_adapters}, and {len(self.adapters)} adapters are named")
        return self

    @property
    def adapter_places(self) -> int:
        """Adapters that can be there at once: what is set, or room for some more where any is named."""
        if self.max_adapters is not None:
            return self.max_adapters
        return max(MORE_ADAPTERS, len(self.adapters)) if self.adapters else 0


Named = TypeVar("Named", InstanceSettings, AdapterSettings)


def apart(named: tuple[Named, ...]) -> tuple[Named, ...]:
    """The same, if no two have one name. Errors: ValueError."""
    names = [each.name for each in named]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"the name {name} is given twice")
    return named
