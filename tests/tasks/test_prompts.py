from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.errors import InvalidRequest
from service.tasks import prompts
from service.tasks.prompts import CaptionStyle, PromptStyle
from service.tasks.results import Box, ImageSize

SIZE = ImageSize(width=640, height=480)
LINE_BREAKS = "\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029"


def refused_fields(error: pytest.ExceptionInfo[InvalidRequest]) -> list[str]:
    return [problem.field for problem in error.value.fields]


@pytest.mark.parametrize(
    ("style", "expected"),
    [(CaptionStyle.STANDARD, "caption en"), (CaptionStyle.SHORT, "cap en"), (CaptionStyle.DETAILED, "describe en")],
)
def test_captions_by_style(style: CaptionStyle, expected: str) -> None:
    assert prompts.caption("en", style) == expected


def test_the_wording_of_every_task() -> None:
    assert prompts.caption("fr", CaptionStyle.STANDARD) == "caption fr"
    assert prompts.answer("en", "Where is the cow standing?") == "answer en Where is the cow standing?"
    assert prompts.answer("zh", " 这是什么? ") == "answer zh 这是什么?"
    assert prompts.detect(["cat"]) == "detect cat"
    assert prompts.detect(["cat", " black dog "]) == "detect cat ; black dog"
    assert prompts.segment(["cat", "dog"]) == "segment cat ; dog"
    assert prompts.read() == "ocr"


@pytest.mark.parametrize(
    "prompt", ["caption en", "Question: a\nContext: b\nOptions: (A) x, (B) y\nAnswer:", "answer en  which? choose from: a \t b", ""]
)
def test_generate_takes_a_prefix_as_it_is_but_for_the_blanks_around_it(prompt: str) -> None:
    assert prompts.generate(f" \n{prompt}\n ") == prompt


def test_there_are_the_35_languages_of_the_pretraining_and_quechua() -> None:
    assert len(prompts.LANGUAGES) == 36
    assert {"en", "fr", "zh", "quz"} <= prompts.LANGUAGES


@pytest.mark.parametrize("language", ["", "EN", "english", "en ", "en\n", "la", "en fr"])
def test_an_unknown_language_is_refused(language: str) -> None:
    for task in (partial(prompts.caption, language, CaptionStyle.STANDARD), partial(prompts.answer, language, "why?")):
        with pytest.raises(InvalidRequest) as error:
            task()
        assert refused_fields(error) == ["language"]
        assert "en" in error.value.fields[0].problem


@pytest.mark.parametrize("question", ["", "   ", "\t", "\n"])
def test_an_empty_question_is_refused(question: str) -> None:
    with pytest.raises(InvalidRequest) as error:
        prompts.answer("en", question)
    assert refused_fields(error) == ["question"]


@pytest.mark.parametrize("line_break", LINE_BREAKS)
def test_threat_37_a_line_break_cannot_end_the_prefix_early(line_break: str) -> None:
    with pytest.raises(InvalidRequest) as error:
        prompts.answer("en", f"what{line_break}is it?")
    assert refused_fields(error) == ["question"]
    with pytest.raises(InvalidRequest) as error:
        prompts.detect(["cat", f"black{line_break}dog"])
    assert refused_fields(error) == ["objects.1"]


@pytest.mark.parametrize("name", ["cat ; dog", "cat;dog", ";", "cat ;"])
def test_threat_37_a_name_cannot_hold_the_separator(name: str) -> None:
    for task in (prompts.detect, prompts.segment):
        with pytest.raises(InvalidRequest) as error:
            task(["owl", name])
        assert refused_fields(error) == ["objects.1"]


@pytest.mark.parametrize("count", [0, 17, 1000])
def test_the_number_of_objects_is_bounded(count: int) -> None:
    with pytest.raises(InvalidRequest) as error:
        prompts.detect(["cat"] * count)
    assert refused_fields(error) == ["objects"]


def test_sixteen_objects_are_taken() -> None:
    assert prompts.detect(["cat"] * 16).count("cat") == 16


def test_an_empty_name_is_refused_by_its_place() -> None:
    with pytest.raises(InvalidRequest) as error:
        prompts.segment(["cat", "dog", " "])
    assert refused_fields(error) == ["objects.2"]


NAMES = st.text(st.characters(codec="utf-8", exclude_characters=";" + LINE_BREAKS), min_size=1, max_size=20).filter(str.strip)


@given(st.lists(NAMES, min_size=1, max_size=16), st.sampled_from([("detect", prompts.detect), ("segment", prompts.segment)]))
def test_threat_37_names_come_back_out_of_the_prefix(names: list[str], task: tuple[str, object]) -> None:
    word, build = task
    assert callable(build)
    prefix = build(names)
    assert prefix.startswith(f"{word} ")
    assert len(prefix.splitlines()) == 1
    assert prefix.removeprefix(f"{word} ").split(" ; ") == [name.strip() for name in names]


@given(st.lists(st.text(max_size=10), max_size=20))
def test_threat_37_any_names_are_a_prefix_of_the_grammar_or_refused(names: list[str]) -> None:
    try:
        prefix = prompts.detect(names)
    except InvalidRequest:
        return
    assert prefix.count(";") == len(names) - 1
    assert len(prefix.splitlines()) == 1


def test_a_region_is_four_locations_in_1024ths() -> None:
    assert prompts.caption_region(Box(160, 120, 320, 240), SIZE) == "caption <loc0256><loc0256><loc0512><loc0512>"
    assert prompts.caption_region(Box(0, 0, 640, 480), SIZE) == "caption <loc0000><loc0000><loc1023><loc1023>"
    assert prompts.caption_region(Box(64, 0, 128, 480), SIZE) == "caption <loc0000><loc0102><loc1023><loc0204>"


@pytest.mark.parametrize(
    "box",
    [
        Box(-1, 0, 10, 10),
        Box(0, 0, 641, 10),
        Box(10, 0, 10, 10),
        Box(20, 0, 10, 10),
        Box(float("nan"), 0, 10, 10),
        Box(0, 0, float("inf"), 10),
        Box(0, -0.1, 10, 10),
        Box(0, 0, 10, 480.5),
        Box(0, float("nan"), 10, float("nan")),
    ],
)
def test_threat_35_a_box_outside_the_picture_is_refused(box: Box) -> None:
    with pytest.raises(InvalidRequest) as error:
        prompts.caption_region(box, SIZE)
    assert set(refused_fields(error)) == {"box"}
    assert "640 x 480" in error.value.message


FLOATS = st.floats(allow_nan=True, allow_infinity=True)


@given(st.tuples(FLOATS, FLOATS, FLOATS, FLOATS), st.integers(1, 70_000), st.integers(1, 70_000))
def test_threat_35_any_box_gives_four_valid_locations_or_is_refused(
    corners: tuple[float, float, float, float], width: int, height: int
) -> None:
    try:
        prefix = prompts.caption_region(Box(*corners), ImageSize(width, height))
    except InvalidRequest:
        return
    bins = [int(piece[:4]) for piece in prefix.removeprefix("caption <loc").split("<loc")]
    assert len(bins) == 4
    assert 0 <= bins[0] <= bins[2] <= 1023
    assert 0 <= bins[1] <= bins[3] <= 1023


@pytest.mark.parametrize(
    ("question", "framed"),
    [
        ("why?", "Question: why?\nAnswer:"),
        ("Question: why?\nContext: c\nOptions: (A) x, (B) y", "Question: why?\nContext: c\nOptions: (A) x, (B) y\nAnswer:"),
        (" Question: why?\nAnswer: ", "Question: why?\nAnswer:"),
    ],
)
def test_the_frame_of_science_questions_is_put_where_it_lacks(question: str, framed: str) -> None:
    assert prompts.answer("en", question, PromptStyle.SCIENCE_QA) == framed


def test_styles_keep_the_checks() -> None:
    for style in PromptStyle:
        with pytest.raises(InvalidRequest):
            prompts.answer("en", "  ", style)
        with pytest.raises(InvalidRequest):
            prompts.answer("klingon", "why?", style)
        with pytest.raises(InvalidRequest):
            prompts.segment([" "], style)
        with pytest.raises(InvalidRequest):
            prompts.caption_region(Box(0, 0, 641, 480), SIZE, style)
