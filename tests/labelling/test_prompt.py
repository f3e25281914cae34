import pytest

from service.errors import InvalidRequest, OperatorError
from service.labelling.prompt import LabelPrompt, parse_prompt


@pytest.mark.parametrize(
    ("text", "names", "masks"),
    [
        ("detect cat", ("cat",), False),
        ("  segment cat;dog ", ("cat", "dog"), True),
        ("detect red circle ; sign ; red circle ;", ("red circle", "sign"), False),
        ("detect ; é ;  ; 猫", ("é", "猫"), False),
    ],
)
def test_it_is_read_one_way(text: str, names: tuple[str, ...], masks: bool) -> None:
    prompt = parse_prompt(text)
    assert prompt == LabelPrompt(names, masks)
    assert parse_prompt(prompt.text) == prompt


@pytest.mark.parametrize("text", ["", "ocr", "caption en", "detect", "detect  ; ", "Detect cat", "detection cat", "answer en what is it?"])
def test_others_are_refused_with_what_would_be_right(text: str) -> None:
    with pytest.raises(OperatorError, match='"detect A ; B"'):
        parse_prompt(text)


@pytest.mark.parametrize("text", ["detect " + ";".join(map(str, range(17))), "segment a ; b\nc"])
def test_the_tasks_own_limits_hold(text: str) -> None:
    with pytest.raises(InvalidRequest):
        parse_prompt(text)
