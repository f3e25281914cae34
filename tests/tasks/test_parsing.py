import math
import re
import time
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.tasks.detokenizer import Detokenizer
from service.tasks.parsing import SEPARATOR, ObjectParser, ParsedObject, box_in_pixels, parse_objects
from service.tasks.ports import Vocabulary
from service.tasks.results import Box

FIRST_LOCATION = 1000
FIRST_SEGMENTATION = 3000
FIRST_CHARACTER = 10_000
PIECES = re.compile(r"<loc([0-9]{4})>|<seg([0-9]{3})>|(.)", re.DOTALL)


class Characters:
    """A vocabulary of locations, segmentation tokens, and one token for each character; it counts what it decodes."""

    def __init__(self) -> None:
        self.decoded = 0
        self.vocabulary = Vocabulary(FIRST_LOCATION, FIRST_SEGMENTATION, self.decode)

    def decode(self, ids: Sequence[int]) -> str:
        self.decoded += len(ids)
        return "".join(chr(token - FIRST_CHARACTER) for token in ids if FIRST_CHARACTER <= token < FIRST_CHARACTER + 0x110000)

    def ids(self, text: str) -> list[int]:
        tokens = []
        for location, segmentation, character in PIECES.findall(text):
            if location:
                tokens.append(FIRST_LOCATION + int(location))
            elif segmentation:
                tokens.append(FIRST_SEGMENTATION + int(segmentation))
            else:
                tokens.append(FIRST_CHARACTER + ord(character))
        return tokens


def parse(text: str, cut: bool = False) -> list[ParsedObject]:
    characters = Characters()
    tokens = characters.ids(text)
    return parse_objects(tokens, [1.0] * len(tokens), characters.vocabulary, cut=cut)


def rounded(box: Box) -> tuple[int, int, int, int]:
    return round(box.x_min), round(box.y_min), round(box.x_max), round(box.y_max)


def boxes(text: str, width: int, height: int) -> list[tuple[int, int, int, int]]:
    return [rounded(box_in_pixels(found.bins, width, height)) for found in parse(text)]


def edges(box: Box) -> tuple[float, float, float, float]:
    return box.x_min, box.y_min, box.x_max, box.y_max


# The example of the official parser (the Hugging Face space big-vision/paligemma).
OFFICIAL = (
    "<loc0000><loc0000><loc0930><loc1012> <seg114><seg074><seg106><seg044><seg030><seg027><seg119><seg119><seg120><seg117><seg082><seg082>"
    "<seg051><seg005><seg125><seg097> wall ; <loc0722><loc0047><loc0895><loc0378> <seg068><seg114><seg014><seg037><seg029><seg063><seg048>"
    "<seg104><seg010><seg056><seg021><seg056><seg019><seg017><seg102><seg121> car ; <loc0180><loc0596><loc0782><loc0961> <seg026><seg028>"
    "<seg028><seg026><seg104><seg026><seg029><seg022><seg000><seg068><seg092><seg125><seg003><seg127><seg121><seg043> david bowie ; "
    "<loc0234><loc0043><loc0736><loc0289> <seg068><seg008><seg091><seg064><seg007><seg055><seg017><seg090><seg042><seg052><seg068><seg086>"
    "<seg001><seg014><seg093><seg052> david bowie ; <loc0230><loc0300><loc0736><loc0499> <seg073><seg011><seg114><seg059><seg048><seg097>"
    "<seg091><seg022><seg007><seg036><seg091><seg022><seg016><seg009><seg003><seg036> david bowie"
)


def test_the_official_example_with_five_masks() -> None:
    found = parse(OFFICIAL)
    assert [one.label for one in found] == ["wall", "car", "david bowie", "david bowie", "david bowie"]
    assert found[0].codes == (114, 74, 106, 44, 30, 27, 119, 119, 120, 117, 82, 82, 51, 5, 125, 97)
    assert found[2].codes == (26, 28, 28, 26, 104, 26, 29, 22, 0, 68, 92, 125, 3, 127, 121, 43)
    assert all(one.codes is not None and one.score == pytest.approx(1.0) and not one.truncated for one in found)
    assert boxes(OFFICIAL, 100, 200) == [(0, 0, 99, 182), (5, 141, 37, 175), (58, 35, 94, 153), (4, 46, 28, 144), (29, 45, 49, 144)]
    assert boxes(OFFICIAL, 1024, 1024) == [
        (0, 0, 1012, 930),
        (47, 722, 378, 895),
        (596, 180, 961, 782),
        (43, 234, 289, 736),
        (300, 230, 499, 736),
    ]


@pytest.mark.parametrize(
    ("text", "size", "expected"),
    [
        # transformers' test_modeling_paligemma.py, "detect shoe"
        ("<loc0051><loc0309><loc0708><loc0646> shoe", (1000, 1000), [("shoe", (301.758, 49.805, 630.859, 691.406))]),
        # gemma-cookbook, PaliGemma 2 with Transformers.js
        ("<loc0199><loc0152><loc1021><loc0744> person", (400, 406), [("person", (59.375, 78.900, 290.625, 404.811))]),
        # roboflow/notebooks, with a trailing separator
        (
            "<loc0504><loc0430><loc0882><loc0815> 6 of clubs ; <loc0102><loc0482><loc0416><loc0840> 7 of clubs ; "
            "<loc0159><loc0180><loc0499><loc0486> 8 of clubs ; <loc0476><loc0102><loc0820><loc0424> 5 of clubs ; ",
            (640, 640),
            [
                ("6 of clubs", (268.75, 315, 509.375, 551.25)),
                ("7 of clubs", (301.25, 63.75, 525, 260)),
                ("8 of clubs", (112.5, 99.375, 303.75, 311.875)),
                ("5 of clubs", (63.75, 297.5, 265, 512.5)),
            ],
        ),
        # mlx-vlm, examples/object_detection.ipynb
        (
            "<loc0046><loc0538><loc0795><loc1022> cat ; <loc0110><loc0000><loc1022><loc0512> cat",
            (640, 480),
            [("cat", (336.25, 21.5625, 638.75, 372.656)), ("cat", (0, 51.5625, 320, 479.0625))],
        ),
        # roboflow/supervision, test_vlm.py
        ("<loc0256><loc0256><loc0768><loc0768> cat", (1000, 1000), [("cat", (250, 250, 750, 750))]),
        # nano-paligemma2 writes no label
        ("<loc0246><loc0229><loc0872><loc0904>", (1024, 1024), [("", (229, 246, 904, 872))]),
        ("<loc0222><loc0113><loc0933><loc0824> cat", (1024, 1024), [("cat", (113, 222, 824, 933))]),
        # gemma-cookbook, fine-tuning for detection
        (
            "<loc0170><loc0257><loc0529><loc0730> sweater ; <loc0505><loc0347><loc0930><loc0662> pants",
            (1024, 1024),
            [("sweater", (257, 170, 730, 529)), ("pants", (347, 505, 662, 930))],
        ),
    ],
)
def test_boxes_from_public_outputs(text: str, size: tuple[int, int], expected: list[tuple[str, tuple[float, ...]]]) -> None:
    found = parse(text)
    assert [one.label for one in found] == [label for label, _ in expected]
    assert all(one.codes is None for one in found)
    for one, (_, box) in zip(found, expected, strict=True):
        assert edges(box_in_pixels(one.bins, *size)) == pytest.approx(box, abs=6e-4)


def test_a_fine_tuned_suffix_without_a_blank_before_the_codes() -> None:
    codes = (
        "<seg041><seg041><seg064><seg103><seg004><seg068><seg060><seg038><seg019><seg041><seg057><seg022><seg099><seg049><seg019><seg074>"
    )
    (crack,) = parse(f"<loc0000><loc0360><loc1004><loc0440>{codes} crack")
    assert (crack.label, crack.bins) == ("crack", (0, 360, 1004, 440))
    assert crack.codes == (41, 41, 64, 103, 4, 68, 60, 38, 19, 41, 57, 22, 99, 49, 19, 74)


SIXTEEN = "".join(f"<seg{code:03d}>" for code in range(16))
BOX = "<loc0001><loc0002><loc0003><loc0004>"


def test_refcoco_writes_box_and_codes_without_a_label() -> None:
    (found,) = parse(BOX + SIXTEEN)
    assert (found.label, found.codes) == ("", tuple(range(16)))


@pytest.mark.parametrize(
    "text", ["", "\n", "a cat on a mat", "<loc0001><loc0002><loc0003> cat", f"{BOX}<loc0005> cat", f"{BOX}{BOX} cat", SIXTEEN]
)
def test_nothing_where_no_run_has_four_locations(text: str) -> None:
    assert parse(text) == []


@pytest.mark.parametrize(
    "label", ["cat", "black cat", "black-cat", "black_cat", "u.s. mail", "dog's bowl", "a <b> c", "学生", "6 of clubs"]
)
def test_labels_are_kept_whole(label: str) -> None:
    assert [one.label for one in parse(f"{BOX} {label} ; {BOX} {label}")] == [label, label]


@pytest.mark.parametrize("separator", [" ; ", ";", " ;", "; ", " ;\n", " ", ""])
def test_any_blanks_may_stand_around_a_separator(separator: str) -> None:
    assert [one.label for one in parse(f"{BOX} cat{separator}{BOX} dog{separator}")] == ["cat", "dog"]


@pytest.mark.parametrize("broken", ["<loc0001><loc0002><loc0003>", f"{BOX}<loc0005>"])
def test_scanning_goes_on_after_a_broken_run(broken: str) -> None:
    assert [one.label for one in parse(f"{BOX} cat ; {broken} dog ; {BOX} owl")] == ["cat", "owl"]


def test_a_leading_newline_and_text_are_passed_over() -> None:
    assert [one.label for one in parse(f"\nI see: {BOX} cat\n")] == ["cat"]


@pytest.mark.parametrize("count", [1, 15, 17, 32])
def test_another_number_of_codes_keeps_box_and_label(count: int) -> None:
    first, second = parse(f"{BOX} {'<seg007>' * count} cat ; {BOX} {SIXTEEN} dog")
    assert (first.label, first.codes) == ("cat", None)
    assert (second.label, second.codes) == ("dog", tuple(range(16)))


def test_codes_behind_a_label_are_no_mask() -> None:
    assert [(one.label, one.codes) for one in parse(f"{BOX} cat {SIXTEEN} ; {BOX} dog")] == [("cat", None), ("dog", None)]


def test_inverted_boxes_are_put_in_order() -> None:
    (found,) = parse("<loc0900><loc0800><loc0100><loc0200> cat")
    assert found.bins == (100, 200, 900, 800)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"{BOX} cat", [True]),
        (f"{BOX} cat ;", [False]),
        (f"{BOX} cat ; {BOX}", [False, True]),
        (f"{BOX} cat ; {BOX} <seg001><seg002>", [False, True]),
        (f"{BOX} cat ; <loc0001><loc0002>", [False]),
        (f"{BOX} cat<loc0001>", [False]),
    ],
)
def test_only_what_the_budget_cut_off_is_truncated(text: str, expected: list[bool]) -> None:
    assert [one.truncated for one in parse(text, cut=True)] == expected
    assert not any(one.truncated for one in parse(text))


@pytest.mark.parametrize(
    ("probabilities", "expected"),
    [
        ([0.9, 0.9, 0.9, 0.9], 0.9),
        ([1.0, 1.0, 1.0, 0.0625], 0.5),
        ([1.0, 0.0, 1.0, 1.0], 0.0),
        ([1.0, math.nan, 1.0, 1.0], 0.0),
        ([math.inf, 2.0, 1.0, 1.0], 1.0),
        ([-1.0, 1.0, 1.0, 1.0], 0.0),
        ([5e-324] * 4, 0.0),
        ([], 0.0),
    ],
)
def test_the_score_is_a_geometric_mean_within_bounds(probabilities: list[float], expected: float) -> None:
    characters = Characters()
    (found,) = parse_objects(characters.ids(BOX), probabilities, characters.vocabulary)
    assert found.score == pytest.approx(expected, abs=1e-12)


def test_the_score_belongs_to_the_object_and_not_to_its_neighbour() -> None:
    characters = Characters()
    tokens = characters.ids(f"{BOX}a;{BOX}b")
    found = parse_objects(tokens, [0.5] * 6 + [0.25] * 5, characters.vocabulary)
    assert [one.score for one in found] == pytest.approx([0.5, 0.25])


@pytest.mark.parametrize(("width", "height"), [(0, 10), (10, 0), (-1, 10), (10, -1)])
def test_a_picture_without_area_has_no_boxes(width: int, height: int) -> None:
    with pytest.raises(ValueError, match="positive"):
        box_in_pixels((0, 0, 1023, 1023), width, height)


TOKENS = st.one_of(
    st.integers(FIRST_LOCATION - 2, FIRST_LOCATION + 1025),
    st.integers(FIRST_SEGMENTATION - 2, FIRST_SEGMENTATION + 129),
    st.sampled_from([FIRST_CHARACTER + ord(character) for character in " ;\nab"]),
    st.integers(-(2**70), 2**70),
)


@given(st.lists(TOKENS, max_size=80), st.booleans(), st.data())
def test_threat_38_any_tokens_give_well_formed_objects(tokens: list[int], cut: bool, data: st.DataObject) -> None:
    probabilities = data.draw(st.lists(st.floats(), min_size=len(tokens), max_size=len(tokens)))
    found = parse_objects(tokens, probabilities, Characters().vocabulary, cut=cut)
    for one in found:
        y_min, x_min, y_max, x_max = one.bins
        assert 0 <= y_min <= y_max <= 1023
        assert 0 <= x_min <= x_max <= 1023
        assert one.codes is None or (len(one.codes) == 16 and all(0 <= code <= 127 for code in one.codes))
        assert 0.0 <= one.score <= 1.0
        assert one.label == one.label.strip()
        assert ";" not in one.label
        box = box_in_pixels(one.bins, 640, 480)
        assert 0 <= box.x_min <= box.x_max < 640
        assert 0 <= box.y_min <= box.y_max < 480
    assert not any(one.truncated for one in found[:-1])


WRITTEN = st.lists(
    st.one_of(
        st.lists(st.integers(FIRST_LOCATION, FIRST_LOCATION + 1023), min_size=3, max_size=5),
        st.lists(st.integers(FIRST_LOCATION, FIRST_LOCATION + 1023), min_size=4, max_size=4),
        st.lists(st.integers(FIRST_SEGMENTATION, FIRST_SEGMENTATION + 127), min_size=15, max_size=17),
        st.lists(st.integers(FIRST_SEGMENTATION, FIRST_SEGMENTATION + 127), min_size=16, max_size=16),
        st.text("ab; \n", max_size=4).map(lambda text: [FIRST_CHARACTER + ord(character) for character in text]),
        st.lists(TOKENS, max_size=3),
    ),
    max_size=12,
).map(lambda parts: [token for part in parts for token in part])


@given(WRITTEN, st.booleans(), st.data())
def test_objects_that_are_had_at_once_are_those_of_the_whole(tokens: list[int], cut: bool, data: st.DataObject) -> None:
    probabilities = data.draw(st.lists(st.floats(0, 1), min_size=len(tokens), max_size=len(tokens)))
    vocabulary = Characters().vocabulary
    parser, texts = ObjectParser(vocabulary), Detokenizer(vocabulary)
    found = [
        parser.add(token, probability, separates=SEPARATOR in texts.add(token))
        for token, probability in zip(tokens, probabilities, strict=True)
    ]
    assert [each for each in (*found, parser.end(cut)) if each is not None] == parse_objects(tokens, probabilities, vocabulary, cut)


def test_an_object_is_had_with_its_separator_or_the_next_mark() -> None:
    characters = Characters()
    parser = ObjectParser(characters.vocabulary)
    tokens = characters.ids(f"{BOX} a;b{BOX}{SIXTEEN}c<seg001>;{BOX};{BOX}")
    had = [index for index, token in enumerate(tokens) if parser.add(token, 1.0, separates=token == FIRST_CHARACTER + ord(";"))]
    assert had == [6, 29, 35]
    assert parser.end() is not None
    assert parser.end() is None


OBJECTS = st.lists(
    st.tuples(
        st.lists(st.integers(0, 1023), min_size=4, max_size=4),
        st.one_of(st.none(), st.lists(st.integers(0, 127), min_size=16, max_size=16)),
        st.text(st.characters(codec="utf-8", exclude_characters=";"), max_size=12).map(str.strip),
    ),
    max_size=6,
)


@given(OBJECTS)
def test_what_the_grammar_writes_is_read_back(objects: list[tuple[list[int], list[int] | None, str]]) -> None:
    characters = Characters()
    tokens = []
    for bins, codes, label in objects:
        tokens += [FIRST_LOCATION + bin_ for bin_ in bins]
        tokens += [*characters.ids(" "), *(FIRST_SEGMENTATION + code for code in codes)] if codes else []
        tokens += [FIRST_CHARACTER + ord(character) for character in f" {label} ; "]
    found = parse_objects(tokens, [1.0] * len(tokens), characters.vocabulary)
    assert [(one.codes, one.label) for one in found] == [(tuple(codes) if codes else None, label) for _, codes, label in objects]
    for one, (bins, _, _) in zip(found, objects, strict=True):
        assert one.bins == (min(bins[0], bins[2]), min(bins[1], bins[3]), max(bins[0], bins[2]), max(bins[1], bins[3]))


@pytest.mark.parametrize("unit", ["<loc0001>", f"{BOX} ", f"{BOX}<seg001>", " ", ";", f"{BOX};;;; ", "<seg001>", f"<loc0001>{BOX} a"])
def test_threat_38_hostile_megabytes_take_linear_time(unit: str) -> None:
    characters = Characters()
    one = characters.ids(unit)
    tokens = one * (250_000 // len(one))
    probabilities = [0.5] * len(tokens)
    started = time.perf_counter()
    parse_objects(tokens, probabilities, characters.vocabulary)
    elapsed = time.perf_counter() - started
    assert characters.decoded <= len(tokens), "no token is decoded twice"
    assert elapsed < 5.0
