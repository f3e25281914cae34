"""What is to be labelled, in PaliGemma's words."""

from dataclasses import dataclass

from service.errors import OperatorError
from service.tasks import prompts
from service.tasks.parsing import SEPARATOR

_DETECT, _SEGMENT = "detect", "segment"


@dataclass(frozen=True, slots=True)
class LabelPrompt:
    """The ``names`` of what is looked for, no two the same. ``masks``: they are outlined too."""

    names: tuple[str, ...]
    masks: bool

    @property
    def task(self) -> str:
        """Its word, which is also its route's."""
        return _SEGMENT if self.masks else _DETECT

    @property
    def text(self) -> str:
        """``detect A ; B``, written one way."""
        return f"{self.task} {f' {SEPARATOR} '.join(self.names)}"


def parse_prompt(text: str) -> LabelPrompt:
    """Read ``detect A ; B`` or ``segment A ; B``; a name given twice is one. Errors: OperatorError, InvalidRequest."""
    word, _, listed = text.strip().partition(" ")
    names = tuple(dict.fromkeys(each.strip() for each in listed.split(SEPARATOR) if each.strip()))
    if word not in (_DETECT, _SEGMENT) or not names:
        raise OperatorError(f'"{text}" names nothing to label: "detect A ; B" finds boxes, "segment A ; B" masks as well.')
    prompts.detect(names)  # has the checks that both need
    return LabelPrompt(names, word == _SEGMENT)
