"""Any tokens through the parsers, any masks through their encodings, any walk through a grammar. ``make fuzz-parsers``.

What is parsed as a whole, and what is parsed as it comes, must be what a second parser says, which reads the grammar off runs of tokens.
"""

import math
import random
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from itertools import chain, groupby

import numpy as np
from pycocotools import mask as coco

from service.engine.lexicon import Lexicon
from service.tasks.detokenizer import Detokenizer
from service.tasks.grammars import detect_grammar, segment_grammar
from service.tasks.masks import decode_mask, encode_mask
from service.tasks.parsing import SEPARATOR, ObjectParser, ParsedObject, box_in_pixels, parse_objects
from service.tasks.ports import Vocabulary
from service.tasks.results import Mask, MaskFormat, PolygonMask, RleMask
from tests.fuzz.campaign import MEBIBYTE, Campaign, arguments, finish
from tests.grammar_walks import END, walk
from tests.outlines import area, filled, without_holes

FIRST_LOCATION, FIRST_SEGMENTATION, FIRST_BYTE, FIRST_CHARACTER = 1000, 3000, 4000, 10_000
MOST_GROWTH = 64 * MEBIBYTE
PROCESSES = 2
STRANGE = (0, 1, 2, -1, 2**31, -(2**63), 2**70, *(first + off for first in (FIRST_LOCATION, FIRST_SEGMENTATION) for off in (-1, 128, 1024)))
PROBABILITIES = (1.0, 0.5, 1e-300, 0.0, -1.0, 2.0, math.nan, math.inf)

Wanted = tuple[str, tuple[int, ...], tuple[int, ...] | None]
"""Label, bins and codes."""


def decode(tokens: Sequence[int]) -> str:
    """Characters, the names of marks, and bytes: a run of those is text only as a whole."""
    text = []
    for is_byte, run in groupby(tokens, lambda token: 0 <= token - FIRST_BYTE < 256):
        if is_byte:
            text.append(bytes(token - FIRST_BYTE for token in run).decode("utf-8", "replace"))
        else:
            text += [_spelt(token) for token in run]
    return "".join(text)


@cache
def _spelt(token: int) -> str:
    if 0 <= token - FIRST_CHARACTER < 0x10000:
        return chr(token - FIRST_CHARACTER)
    kind = _kind(token)
    return (
        f"<loc{token - FIRST_LOCATION:04d}>" if kind == "location" else f"<seg{token - FIRST_SEGMENTATION:03d}>" if kind == "code" else ""
    )


VOCABULARY = Vocabulary(FIRST_LOCATION, FIRST_SEGMENTATION, decode, {FIRST_BYTE + byte: byte for byte in range(256)})


def tokens_of(chance: random.Random) -> list[int]:
    """What a model may write: whole objects, parts of them, and anything."""
    tokens: list[int] = []
    for _ in range(chance.choice((0, 1, 1, 2, 2, 3, 6))):
        match chance.randrange(10):
            case 0 | 1 | 8 | 9:
                tokens += _marks(chance, FIRST_LOCATION, 1024, 4)
            case 2:
                tokens += _marks(chance, FIRST_LOCATION, 1024, chance.randrange(7))
            case 3:
                tokens += _marks(chance, FIRST_SEGMENTATION, 128, chance.choice((16, 16, 16, 1, 15, 17, 32)))
            case 4:
                tokens += [FIRST_CHARACTER + ord(each) for each in chance.choice((" ", " cat", " cat ;", ";", " ; ", "\n", "", "学 ;x"))]
            case 5:
                tokens += [FIRST_BYTE + byte for byte in chance.choice((b"\xe5\xad\xa6", b"\xe5\xad", b";", b" ", b"\xff;", b"\xad"))]
            case 6:
                tokens.append(chance.choice(STRANGE))
            case 7:
                tokens += tokens[-chance.randrange(1, 30) :]
    return tokens


def _marks(chance: random.Random, first: int, kinds: int, count: int) -> list[int]:
    return [first + chance.randrange(kinds) for _ in range(count)]


def plainly_parsed(tokens: Sequence[int]) -> Iterator[Wanted]:
    """The objects, by another way than ``parse_objects`` goes."""
    runs = [(kind, list(run)) for kind, run in groupby(tokens, _kind)]
    for at, (kind, run) in enumerate(runs):
        if kind != "location" or len(run) != 4:
            continue
        rest = [*runs[at + 1 : at + 4], *[("", [])] * 3]
        if rest[0][0] == "text" and rest[1][0] == "code" and not decode(rest[0][1]).strip():
            del rest[0]
        codes = None
        if rest[0][0] == "code":
            codes = tuple(token - FIRST_SEGMENTATION for token in rest.pop(0)[1])
        label = decode(rest[0][1]) if rest[0][0] == "text" else ""
        first_y, first_x, second_y, second_x = (token - FIRST_LOCATION for token in run)
        bins = (min(first_y, second_y), min(first_x, second_x), max(first_y, second_y), max(first_x, second_x))
        yield label.partition(SEPARATOR)[0].strip(), bins, codes if codes and len(codes) == 16 else None


def _kind(token: int) -> str:
    if 0 <= token - FIRST_LOCATION < 1024:
        return "location"
    return "code" if 0 <= token - FIRST_SEGMENTATION < 128 else "text"


def parsed(chance: random.Random) -> str:
    """One answer of a model."""
    tokens, cut = tokens_of(chance), chance.random() < 0.5
    known = len(tokens) if chance.random() < 0.9 else chance.randrange(len(tokens) + 1)
    probabilities = [chance.choice(PROBABILITIES) if chance.random() < 0.1 else chance.random() for _ in range(known)]
    found = parse_objects(tokens, probabilities, VOCABULARY, cut)
    assert [(one.label, one.bins, one.codes) for one in found] == list(plainly_parsed(tokens)), tokens
    assert _as_they_come(tokens, probabilities, cut) == found, tokens
    for one in found:
        assert 0.0 <= one.score <= 1.0
        width, height = chance.randrange(1, 70_000), chance.randrange(1, 70_000)
        box = box_in_pixels(one.bins, width, height)
        assert 0 <= box.x_min <= box.x_max < width
        assert 0 <= box.y_min <= box.y_max < height
    assert not any(one.truncated for one in found[: -1 if cut else None])
    return "objects" if found else "none"


def _as_they_come(tokens: Sequence[int], probabilities: Sequence[float], cut: bool) -> list[ParsedObject]:
    parser, texts = ObjectParser(VOCABULARY), Detokenizer(VOCABULARY)
    found, written = [], []
    for token, probability in zip(tokens, chain(probabilities, [math.nan] * len(tokens)), strict=False):
        written.append(texts.add(token))
        found.append(parser.add(token, probability, separates=SEPARATOR in written[-1]))
    assert "".join((*written, texts.end())) == decode(tokens), tokens
    return [each for each in (*found, parser.end(cut)) if each is not None]


def encoded(chance: random.Random) -> str:
    """One mask: as run lengths, read by COCO's own code and by ours, and sometimes as outlines."""
    mask = _mask(chance)
    lengths, polygons = encode_mask(mask, MaskFormat.RLE), None
    assert isinstance(lengths, RleMask)
    assert np.array_equal(decode_mask(lengths), mask)
    assert np.array_equal(_spelled_out(lengths), mask)
    assert int(coco.area({"size": list(lengths.size), "counts": lengths.counts.encode()})) == int(mask.sum())
    if mask.size <= 100:
        polygons = encode_mask(mask, MaskFormat.POLYGON)
        assert isinstance(polygons, PolygonMask)
        assert all(area(each) >= 1 for each in polygons.polygons)
        assert np.array_equal(filled(polygons.polygons, *mask.shape), without_holes(mask))
    return "masks and outlines" if polygons else "masks"


def _mask(chance: random.Random) -> Mask:
    most = chance.choice((4, 10, 40, 300))
    height, width = chance.randrange(1, most + 1), chance.randrange(1, most + 1)
    density = chance.choice((0.0, 0.02, 0.5, 0.98, 1.0))
    return np.random.default_rng(chance.randrange(2**63)).random((height, width)) < density


def _spelled_out(mask: RleMask) -> Mask:
    """COCO's format: lengths of runs, down the columns, zeros first; from the fourth on, each less the one before the last.

    Five bits a character, the lowest first; the sixth says that there are more, the highest of all is the sign.
    """
    lengths: list[int] = []
    value = shift = 0
    for character in mask.counts.encode():
        bits = character - 48
        value |= (bits & 31) << shift
        shift += 5
        if not bits & 32:
            value -= (1 << shift) if bits & 16 else 0
            lengths.append(value + (lengths[-2] if len(lengths) > 2 else 0))
            value = shift = 0
    flat = np.repeat(np.arange(len(lengths)) % 2 == 1, lengths)
    return flat.reshape(mask.size, order="F")


def constrained(chance: random.Random) -> str:
    """One grammar of any names in any vocabulary: whatever it lets pass is read back as objects of those names."""
    pieces = ["".join(chance.choices("ab ;", k=chance.randrange(1, 5))) for _ in range(chance.randrange(14))]
    names = ["".join(chance.choices("ab", k=chance.randrange(1, 4))) for _ in range(chance.randrange(1, 4))]
    lexicon = Lexicon(FIRST_LOCATION, FIRST_SEGMENTATION, (END,), [(token, each.encode()) for token, each in enumerate(pieces, 10)])
    masks = chance.random() < 0.5
    tokens = walk((segment_grammar if masks else detect_grammar)(names, lexicon), chance, budget=60)
    texts = dict(enumerate(pieces, 10))
    vocabulary = Vocabulary(FIRST_LOCATION, FIRST_SEGMENTATION, lambda ids: "".join(texts.get(token, "") for token in ids))
    found = parse_objects(tokens, [1.0] * len(tokens), vocabulary)
    assert sum(_kind(token) == "location" for token in tokens) == 4 * len(found)
    assert all(one.label in names and (one.codes is not None) == masks for one in found), (names, pieces, tokens)
    return "grammars" if found else "grammars, nothing written"


def case(chance: random.Random) -> str:
    """One case: most are answers."""
    part = chance.random()
    return parsed(chance) if part < 0.97 else encoded(chance) if part < 0.99 else constrained(chance)


def run(seed: int, count: int, seconds: float) -> Campaign:
    """Errors: AssertionError."""
    campaign = Campaign(seed, MOST_GROWTH)
    campaign.run(case, count, seconds)
    return campaign


def main() -> int:
    """Fuzz on two cores, and say what was done."""
    asked = arguments(__doc__, count=1_000_000, seconds=280)
    with ProcessPoolExecutor(PROCESSES) as processes:
        running = [processes.submit(run, asked.seed + each, -(-asked.count // PROCESSES), asked.seconds) for each in range(PROCESSES)]
        campaigns = [each.result() for each in running]
    for each in campaigns:
        print(each.summary("parsers"))
    return finish(asked.count, sum(each.cases for each in campaigns))


if __name__ == "__main__":
    sys.exit(main())
