"""What computes: torch's build, the cards it sees, and what instances ask for."""

import os
from collections.abc import Iterator

from service.doctor.findings import Finding, fine, problem, warning
from service.errors import OperatorError
from service.model.accelerators import BFLOAT16, Accelerator, Sight, look
from service.model.loading import held_as
from service.planning import demo_settings, source
from service.settings import Settings

GIGABYTE = 1e9
HIDING = ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES")


def devices(settings: Settings) -> Iterator[Finding]:
    """The build, each card, and each instance's device."""
    sight = look()
    yield from _build(sight)
    for number, each in enumerate(sight.accelerators):
        yield from _card(number, each, sight)
    for wanted in settings.instances or demo_settings():
        try:
            held_as(source(wanted, settings))
        except OperatorError as error:
            yield problem(
                f"{wanted.name}: {error}", 'Set its device to "auto", which takes CUDA where there is one, or mend what torch sees.'
            )


def _build(sight: Sight) -> Iterator[Finding]:
    if sight.accelerators:
        driver = f", driver {sight.driver}" if sight.driver else ""
        yield fine(f"torch {sight.torch}, built for {sight.toolkit}{driver}.")
    elif not sight.toolkit and sight.has_driver:
        yield warning(
            f"torch {sight.torch} is a build for CPUs, and this machine has a driver for cards ({sight.driver or 'no version told'}).",
            "pip install --force-reinstall torch, from the index that https://pytorch.org/get-started/locally names for this driver.",
        )
    elif sight.toolkit and sight.has_driver:
        hidden = [f"{name}={os.environ[name]}" for name in HIDING if name in os.environ]
        said = sight.hindrance or "it does not say why"
        mend = f"Look at {' and '.join(hidden)}, and at nvidia-smi." if hidden else "Install a newer driver, or a torch built for this one."
        yield warning(
            f"torch {sight.torch}, built for {sight.toolkit}, sees no card, and there is a driver: {said}.".replace("..", "."), mend
        )
    else:
        yield fine(f"torch {sight.torch}, built for {sight.toolkit or 'CPUs'}; there is no card here, and models run on the CPU.")


def _card(number: int, card: Accelerator, sight: Sight) -> Iterator[Finding]:
    name = f"cuda:{number} is {card.name}, {card.total_bytes / GIGABYTE:.1f} GB, capability {card.capability[0]}.{card.capability[1]}"
    if not card.is_built_for:
        yield problem(
            f"{name}, for which torch {sight.torch} was not built.", "Install a torch that was built for it, or set device to cpu."
        )
    elif card.capability < BFLOAT16 and sight.toolkit.startswith("CUDA"):
        yield warning(f"{name}, which has no products of bfloat16.", 'Set dtype = "float16" for its instances.')
    else:
        yield fine(f"{name}{', a slice of a card' if card.is_slice else ''}.")
