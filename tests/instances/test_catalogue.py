import asyncio

import pytest

from service.errors import ModelNotFound
from service.instances.catalogue import Catalogue
from tests.instances.instance_fake import instance, keeper_of, warm

CATALOGUE = [("b-448", 448), ("a-224", 224), ("other-224", 224), ("c-896", 896)]


def catalogue(cold: tuple[str, ...] = ()) -> Catalogue:
    keepers = [keeper_of(instance(name, resolution)) for name, resolution in CATALOGUE]
    return Catalogue([keeper if keeper.name in cold else warm(keeper) for keeper in keepers])


def test_the_first_is_the_default() -> None:
    assert catalogue().choose(None, None, None).name == "b-448"


def test_by_name_and_by_resolution() -> None:
    assert catalogue().choose("c-896", None, None).name == "c-896"
    assert catalogue().choose(None, 224, None).name == "a-224"


@pytest.mark.parametrize(
    ("shorter_side", "name"),
    [(1, "a-224"), (448, "a-224"), (449, "b-448"), (896, "b-448"), (897, "c-896"), (1792, "c-896"), (9000, "c-896")],
)
def test_auto_takes_the_lowest_that_shrinks_by_two_at_most(shorter_side: int, name: str) -> None:
    assert catalogue().choose(None, "auto", shorter_side).name == name


def test_what_is_not_served_is_refused_with_a_list_of_what_is() -> None:
    with pytest.raises(ModelNotFound, match="b-448, a-224, other-224, c-896"):
        catalogue().choose("nobody", None, None)
    with pytest.raises(ModelNotFound, match="224, 448, 896"):
        catalogue().choose(None, 1024, None)


def test_never_silently_another_resolution_than_asked() -> None:
    with pytest.raises(ModelNotFound, match="resolution 224"):
        catalogue().choose("a-224", 448, None)


def test_names_are_unique_and_there_is_one() -> None:
    with pytest.raises(ValueError, match="same name"):
        Catalogue([keeper_of(instance("a", 224)), keeper_of(instance("a", 448))])
    with pytest.raises(ValueError, match="at least one"):
        Catalogue([])


def test_auto_and_a_resolution_take_what_is_warm() -> None:
    some = catalogue(cold=("a-224", "b-448"))
    assert some.choose(None, "auto", 100).name == "other-224"
    assert some.choose(None, "auto", 500).name == "c-896"
    assert some.choose(None, 224, None).name == "other-224"
    # Asked for by itself, it is loaded rather than replaced.
    assert some.choose(None, 448, None).name == "b-448"
    none = catalogue(cold=tuple(name for name, _ in CATALOGUE))
    assert none.choose(None, "auto", 100).name == "a-224"


def test_a_lease_is_of_what_was_chosen() -> None:
    async def leased() -> str:
        async with catalogue_cold().lease("a-224", None, None) as found:
            return found.name

    def catalogue_cold() -> Catalogue:
        return Catalogue([keeper_of(instance(name, resolution)) for name, resolution in CATALOGUE])

    assert asyncio.run(leased()) == "a-224"
