import pytest

from service.engine.device_loop import DeviceLoop
from service.engine.engine import Engine, EngineLimits
from service.engine.vision_cache import VisionCache
from service.errors import ModelNotFound
from service.instances.catalogue import Catalogue
from service.instances.description import ModelDescription
from service.instances.instance import Instance
from tests.fakes import LEXICON, FakeModel, SilentObserver


def instance(name: str, resolution: int) -> Instance:
    observer, model = SilentObserver(), FakeModel(resolution=resolution)
    description = ModelDescription(
        name=name, resolution=resolution, dtype="float32", device="cpu", state="warm", tasks=("caption",), adapters=(),
        max_tokens=model.max_tokens, source=name, created=0,
    )  # fmt: skip
    return Instance(description, model, Engine(name, DeviceLoop(), EngineLimits(), observer), VisionCache(name, 0, 1, observer), LEXICON)


CATALOGUE = [("b-448", 448), ("a-224", 224), ("other-224", 224), ("c-896", 896)]


def catalogue() -> Catalogue:
    return Catalogue([instance(name, resolution) for name, resolution in CATALOGUE])


def test_the_first_is_the_default() -> None:
    assert catalogue().route(None, None, None).name == "b-448"


def test_by_name_and_by_resolution() -> None:
    assert catalogue().route("c-896", None, None).name == "c-896"
    assert catalogue().route(None, 224, None).name == "a-224"


@pytest.mark.parametrize(
    ("shorter_side", "name"),
    [(1, "a-224"), (448, "a-224"), (449, "b-448"), (896, "b-448"), (897, "c-896"), (1792, "c-896"), (9000, "c-896")],
)
def test_auto_takes_the_lowest_that_shrinks_by_two_at_most(shorter_side: int, name: str) -> None:
    assert catalogue().route(None, "auto", shorter_side).name == name


def test_what_is_not_served_is_refused_with_a_list_of_what_is() -> None:
    with pytest.raises(ModelNotFound, match="b-448, a-224, other-224, c-896"):
        catalogue().route("nobody", None, None)
    with pytest.raises(ModelNotFound, match="224, 448, 896"):
        catalogue().route(None, 1024, None)


def test_never_silently_another_resolution_than_asked() -> None:
    with pytest.raises(ModelNotFound, match="resolution 224"):
        catalogue().route("a-224", 448, None)


def test_names_are_unique_and_there_is_one() -> None:
    with pytest.raises(ValueError, match="same name"):
        Catalogue([instance("a", 224), instance("a", 448)])
    with pytest.raises(ValueError, match="at least one"):
        Catalogue([])
