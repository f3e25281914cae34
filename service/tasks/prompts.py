"""The prefixes PaliGemma was trained on, and the checks that keep a caller's words inside them.

Sources of the wording: Google's prompt documentation and big_vision's transfer configurations.
"""

from collections.abc import Sequence
from enum import StrEnum

from service.errors import FieldProblem, InvalidRequest
from service.tasks.results import Box, ImageSize

LANGUAGES = frozenset(
    "ar bn cs da de el en es fa fi fil fr he hi hr hu id it ja ko mi nl no pl pt quz ro ru sv sw te th tr uk vi zh".split()
)
MAX_OBJECTS = 16
BINS = 1024


class CaptionStyle(StrEnum):
    """A COCO-like caption, a terse one, or a longer description."""

    STANDARD = "standard"
    SHORT = "short"
    DETAILED = "detailed"


class PromptStyle(StrEnum):
    """How a checkpoint wants to be asked. Fine-tuned ones have their own ways: big_vision's transfer configurations tell them.

    ``STANDARD``: all but the following. ``BARE_QUESTION``: DocVQA and ChartQA, the question alone. ``CHOICES``: AI2D and A-OKVQA with
    choices, two blanks after the language. ``SCIENCE_QA``: its lines. ``REFERRING``: RefCOCO, the phrase alone; it is answered by one
    object without its name, and its 1024 bins are 1023rds of the side. ``DRAWN_BOX``: WidgetCap, where a region is drawn into the picture.
    """

    STANDARD = "standard"
    BARE_QUESTION = "bare-question"
    CHOICES = "choices"
    SCIENCE_QA = "science-qa"
    REFERRING = "referring"
    DRAWN_BOX = "drawn-box"


_CAPTION_WORD = {CaptionStyle.STANDARD: "caption", CaptionStyle.SHORT: "cap", CaptionStyle.DETAILED: "describe"}


def caption(language: str, style: CaptionStyle) -> str:
    """``caption en`` | ``cap en`` | ``describe en``."""
    return f"{_CAPTION_WORD[style]} {_language(language)}"


def answer(language: str, question: str, style: PromptStyle = PromptStyle.STANDARD) -> str:
    """``answer en QUESTION``, or as the style has it."""
    code = _language(language)
    if style is PromptStyle.SCIENCE_QA:
        return _science_question(question)
    words = _one_line("question", question)
    if style is PromptStyle.BARE_QUESTION:
        return words
    return f"answer {code}{'  ' if style is PromptStyle.CHOICES else ' '}{words}"


def detect(objects: Sequence[str]) -> str:
    """``detect A ; B``."""
    return f"detect {_object_list(objects)}"


def segment(objects: Sequence[str], style: PromptStyle = PromptStyle.STANDARD) -> str:
    """``segment A ; B``, or as the style has it."""
    if style is not PromptStyle.REFERRING:
        return f"segment {_object_list(objects)}"
    if len(objects) != 1:
        problem = FieldProblem(
            "objects", f"this instance finds one at a time, by a phrase that means it: one is needed, got {len(objects)}"
        )
        raise InvalidRequest("The number of objects is out of range.", (problem,))
    return _one_line("objects.0", objects[0])


def read() -> str:
    """``ocr``: all text of the picture."""
    return "ocr"


def caption_region(box: Box, size: ImageSize, style: PromptStyle = PromptStyle.STANDARD) -> str:
    """``caption <locY_MIN><locX_MIN><locY_MAX><locX_MAX>``: the box in 1024ths of the picture's sides; or as the style has it."""
    corners = region(box, size)
    if style is PromptStyle.DRAWN_BOX:
        return caption("en", CaptionStyle.STANDARD)
    return "caption " + "".join(f"<loc{min(BINS - 1, int(corner * BINS)):04d}>" for corner in corners)


def region(box: Box, size: ImageSize) -> tuple[float, float, float, float]:
    """(y_min, x_min, y_max, x_max) in parts of the picture's sides. Errors: InvalidRequest where the box does not lie in the picture."""
    problems = []
    if not 0 <= box.x_min < box.x_max <= size.width:
        problems.append(FieldProblem("box", f"x_min < x_max within 0..{size.width} is needed, got {box.x_min:g} and {box.x_max:g}"))
    if not 0 <= box.y_min < box.y_max <= size.height:
        problems.append(FieldProblem("box", f"y_min < y_max within 0..{size.height} is needed, got {box.y_min:g} and {box.y_max:g}"))
    if problems:
        raise InvalidRequest(f"The box does not lie in the picture of {size.width} x {size.height} pixels.", tuple(problems))
    return box.y_min / size.height, box.x_min / size.width, box.y_max / size.height, box.x_max / size.width


def generate(prompt: str) -> str:
    """A prefix as the caller wrote it, without the blanks around it.

    It may hold line breaks and location tokens, because fine-tuned checkpoints want both.
    """
    return prompt.strip()


def _science_question(question: str) -> str:
    """ScienceQA's lines: question, context, options. What a caller left out of the frame is put around the words."""
    words = question.strip()
    if not words:
        raise InvalidRequest("A text is empty.", (FieldProblem("question", "at least one character that is not blank is needed"),))
    framed = words if words.startswith("Question:") else f"Question: {words}"
    return framed if framed.endswith("Answer:") else f"{framed}\nAnswer:"


def _language(language: str) -> str:
    if language not in LANGUAGES:
        problem = FieldProblem("language", f"one of {' '.join(sorted(LANGUAGES))} is needed")
        raise InvalidRequest("The language is not one PaliGemma was trained on.", (problem,))
    return language


def _object_list(objects: Sequence[str]) -> str:
    if not 1 <= len(objects) <= MAX_OBJECTS:
        problem = FieldProblem("objects", f"1 to {MAX_OBJECTS} names are needed, got {len(objects)}")
        raise InvalidRequest("The number of objects is out of range.", (problem,))
    names = [_one_line(f"objects.{index}", name) for index, name in enumerate(objects)]
    for index, name in enumerate(names):
        if ";" in name:
            problem = FieldProblem(f"objects.{index}", "a name may not hold ';', which separates names: give each name by itself")
            raise InvalidRequest("An object's name holds the separator.", (problem,))
    return " ; ".join(names)


def _one_line(field: str, text: str) -> str:
    stripped = text.strip()
    if not stripped:
        problem = FieldProblem(field, "at least one character that is not blank is needed")
        raise InvalidRequest("A text is empty.", (problem,))
    if len(stripped.splitlines()) > 1:
        problem = FieldProblem(field, "one line is needed: a line break ends PaliGemma's prefix")
        raise InvalidRequest("A text holds a line break.", (problem,))
    return stripped
