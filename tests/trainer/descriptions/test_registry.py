"""A kind of thing whose descriptions are files of a folder; what is wrong with them is told at once."""

from __future__ import annotations

import itertools
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest
from pydantic import ValidationError

from trainer.config.choice import UNREAD_TAKEN, Choosing, with_keys
from trainer.descriptions.registry import Description, Registry
from trainer.utils.errors import UserError
from trainer.utils.schema import key

NUMBER = itertools.count()
HEAD = """
from tests.trainer.descriptions.test_registry import Fruit
from trainer.utils.schema import Count, Paths, key
"""


class Fruit(Description):
    """One kind, for these tests."""

    seeds: ClassVar[int]


APPLE = """
class Apple(Fruit):
    name, help, seeds, implementation = "apple", "round", 5, "json:loads"
    class Keys(Fruit.Keys):
        ripe: Count = key(3, "days until it is ripe", "days", ge=1)
        names: Paths = key((), "who may eat it")
"""
PLUM = """
from {package}.a import Apple
class Plum(Fruit):
    name, help, seeds, implementation = "plum", "blue", 1, "json:gone"
    class Keys(Apple.Keys):
        stone: bool = key(True, "whether the stone is in it")
    def misfits(self, group):
        return ["stone: a plum that is not ripe keeps its stone"] if group.ripe > 9 and not group.stone else []
"""


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Registry[Fruit]]:
    monkeypatch.syspath_prepend(tmp_path)

    def make(**files: str) -> Registry[Fruit]:
        package = f"fruits{next(NUMBER)}"
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").touch()
        for name, text in files.items():
            (tmp_path / package / f"{name}.py").write_text(HEAD + textwrap.dedent(text).format(package=package))
        return Registry("fruit", package, Fruit)

    return make


def group(registry: Registry[Fruit]) -> type[Any]:
    class Bowl(Choosing):
        """A bowl."""

        CHOICES: ClassVar = {"name": registry}
        name: str = key("apple", "what is in the bowl")
        size: int = key(1, "how many fit")

    return with_keys(Bowl)


def test_files_of_a_folder_are_found_and_imported_on_use(registry: Any) -> None:
    found = registry(a=APPLE, b=PLUM, c="VALUE = 1")
    assert list(found) == ["apple", "plum"] and found["plum"].seeds == 1
    assert found.readers("ripe") == ["apple", "plum"] and found.readers("stone") == ["plum"]
    assert found.implementation("apple")("[1]") == [1]
    with pytest.raises(UserError, match=r"fruit: no 'aple' \(did you mean 'apple'\?\); there are apple, plum"):
        found["aple"]
    with pytest.raises(UserError, match="fruit plum: no implementation at json:gone"):
        found.implementation("plum")


def test_its_keys_join_the_group_with_their_types_and_bounds(registry: Any) -> None:
    bowl = group(registry(a=APPLE, b=PLUM))
    assert bowl().model_dump() == {"name": "apple", "size": 1, "ripe": 3, "names": (), "stone": True}
    assert bowl(ripe="2k", names="ann").model_dump(include={"ripe", "names"}) == {"ripe": 2000, "names": ("ann",)}
    for wrong in ({"ripe": 0}, {"ripe": 1.5}, {"name": "pear"}, {"colour": "red"}):
        with pytest.raises(ValidationError):
            bowl(**wrong)
    with pytest.raises(ValidationError, match="stone: fruit=apple does not read it; plum does"):
        bowl(stone=False)
    with pytest.raises(ValidationError, match="stone: a plum that is not ripe keeps its stone"):
        bowl(name="plum", ripe=10, stone=False)
    assert not bowl(name="plum", stone=False).stone


def test_a_configuration_of_before_keeps_what_nothing_reads(registry: Any) -> None:
    bowl = group(registry(a=APPLE, b=PLUM))
    kept = bowl.model_validate({"stone": False}, context=UNREAD_TAKEN)
    assert not kept.stone and kept.unread == {"stone": "stone: fruit=apple does not read it; plum does"}
    assert bowl(name="plum", stone=False).unread == {}
    with pytest.raises(ValidationError, match="keeps its stone"):  # a value that does not fit is none to keep
        bowl.model_validate({"name": "plum", "ripe": 10, "stone": False}, context=UNREAD_TAKEN)


def test_a_group_in_which_all_take_part(registry: Any) -> None:
    class Salad(Choosing):
        """A salad."""

        ALL: ClassVar = registry(a=APPLE, b=PLUM)
        size: int = key(1, "how many fit")

    salad = with_keys(Salad)
    assert salad(stone=False, ripe=4).model_dump() == {"size": 1, "ripe": 4, "names": (), "stone": False}
    with pytest.raises(ValidationError, match="stone: a plum that is not ripe"):
        salad(stone=False, ripe=10)


@pytest.mark.parametrize(
    ("second", "line"),
    [
        (
            'class Plum(Fruit):\n    name, help = "plum", ""\n',
            "b.Plum lacks implementation, seeds: every fruit states it",
        ),
        (APPLE.replace("Apple(", "Apfel("), "the fruit 'apple' already; choose another name"),
        ("class Plum(Fruit:", "b cannot be read: SyntaxError"),
        (
            APPLE.replace('"apple"', '"pear"').replace("ge=1", "ge=2"),
            "b.Apple: the key 'ripe' is another one than that of",
        ),
    ],
)
def test_what_is_wrong_with_a_description_is_one_line(registry: Any, second: str, line: str) -> None:
    with pytest.raises(UserError) as told:
        list(registry(a=APPLE, b=second))
    assert line in str(told.value) and "\n" not in str(told.value)


def test_a_key_that_the_group_has_already(registry: Any) -> None:
    taken = APPLE.replace("ripe:", "size:")
    with pytest.raises(UserError, match="fruit apple: the key 'size' is another key of the same group already"):
        group(registry(a=taken))
