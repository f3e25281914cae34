"""Files of pictures, and ways to spoil them: bit by bit, and by the pieces that their formats are made of."""

import random
import struct
import zlib
from collections.abc import Callable, Sequence

from tests.pictures import MODES_AND_FORMATS, noise, orientation_tag, saved

EXTREMES = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
LONGEST = 200_000
"""Bytes; no mutation makes a file longer."""

Pieces = list[bytes]


def seeds() -> list[bytes]:
    """Small pictures of every mode and format; some with metadata, several frames, several scans."""
    made = [saved(noise(mode, width, height, seed), name) for seed, (mode, name) in enumerate(MODES_AND_FORMATS) for width, height in
            ((24, 16), (7, 90))]  # fmt: skip
    picture, frames = noise("RGB", 40, 30), [noise("RGB", 20, 10, seed) for seed in range(3)]
    made += [saved(frames[0], name, save_all=True, append_images=frames[1:]) for name in ("GIF", "WEBP", "PNG", "TIFF", "MPO")]
    made += [saved(picture, name, exif=orientation_tag(6), icc_profile=bytes(200)) for name in ("JPEG", "PNG", "WEBP", "TIFF")]
    made += [saved(picture, "JPEG", progressive=True, xmp=b"<x tiff:Orientation='8'/>"), saved(picture, "WEBP", lossless=True)]
    made += [saved(noise("P", 30, 20), "PNG", transparency=3), saved(noise("L", 30, 20), "PNG", transparency=9)]
    made += [saved(picture, "TIFF", compression=each) for each in ("tiff_lzw", "tiff_adobe_deflate", "packbits")]
    made += [saved(noise("1", 40, 30), "TIFF", compression=each) for each in ("group3", "group4", "tiff_ccitt")]
    return made


def mutated(corpus: Sequence[bytes], chance: random.Random) -> bytes:
    """One file of the corpus, spoilt once or a few times."""
    data = chance.choice(corpus)
    for _ in range(chance.choice((1, 1, 1, 2, 3, 6))):
        data = chance.choice(MUTATIONS)(data, corpus, chance)[:LONGEST]
    return data


def _flip(data: bytes, corpus: Sequence[bytes], chance: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(chance.choice((1, 1, 2, 8, 64)) if changed else 0):
        changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
    return bytes(changed)


def _flip_in_head(data: bytes, corpus: Sequence[bytes], chance: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(chance.randrange(1, 4)):
        if changed:
            changed[chance.randrange(min(64, len(changed)))] = chance.randrange(256)
    return bytes(changed)


def _set_number(data: bytes, corpus: Sequence[bytes], chance: random.Random) -> bytes:
    """Write an extreme number where there may be a length, an offset, a side or a count."""
    kind = chance.choice(("<H", ">H", "<I", ">I"))
    size = struct.calcsize(kind)
    if len(data) < size:
        return data
    at = chance.randrange(min(len(data) - size + 1, chance.choice((64, 512, LONGEST))))
    return data[:at] + struct.pack(kind, chance.choice(EXTREMES) & (256**size - 1)) + data[at + size :]


def _truncate(data: bytes, corpus: Sequence[bytes], chance: random.Random) -> bytes:
    return data[: chance.randrange(len(data) + 1)]


def _append(data: bytes, corpus: Sequence[bytes], chance: random.Random) -> bytes:
    return data + chance.choice((chance.randbytes(chance.randrange(300)), chance.choice(corpus)))


def _remove(data: bytes, corpus: Sequence[bytes], chance: random.Random) -> bytes:
    at = chance.randrange(len(data) + 1)
    return data[:at] + data[at + chance.randrange(1, 200) :]


def _repeat(data: bytes, corpus: Sequence[bytes], chance: random.Random) -> bytes:
    at = chance.randrange(len(data) + 1)
    return data[:at] + data[at : at + chance.randrange(1, 200)] * chance.randrange(2, 50) + data[at:]


def _splice(data: bytes, corpus: Sequence[bytes], chance: random.Random) -> bytes:
    other = chance.choice(corpus)
    return data[: chance.randrange(len(data) + 1)] + other[chance.randrange(len(other) + 1) :]


def _rearrange(data: bytes, corpus: Sequence[bytes], chance: random.Random) -> bytes:
    """Leave out, double, swap, exchange and spoil pieces; a PNG's checksums are made right again, so that its decoder is reached."""
    split, join = _pieces_of(data)
    pieces = split(data)
    for _ in range(chance.randrange(1, 4)):
        if not pieces:
            break
        at, other = chance.randrange(len(pieces)), chance.randrange(len(pieces))
        match chance.randrange(5):
            case 0:
                del pieces[at]
            case 1:
                pieces[other:other] = [pieces[at]] * chance.choice((1, 1, 2, 100))
            case 2:
                pieces[at], pieces[other] = pieces[other], pieces[at]
            case 3:
                pieces[at] = chance.choice((_flip, _set_number, _truncate))(pieces[at], corpus, chance)
            case 4:
                strange = chance.choice(corpus)
                pieces[at:at] = [piece for piece in _pieces_of(strange)[0](strange) if chance.random() < 0.2]
    return join(pieces)


def _pieces_of(data: bytes) -> tuple[Callable[[bytes], Pieces], Callable[[Pieces], bytes]]:
    if data.startswith(b"\x89PNG"):
        return _png_chunks, _png
    if data.startswith(b"\xff\xd8"):
        return _jpeg_segments, b"".join
    if data.startswith(b"RIFF"):
        return _riff_chunks, _riff
    return _blocks, b"".join


def _png_chunks(data: bytes) -> Pieces:
    """Name and content of each chunk."""
    chunks, at = [], 8
    while at + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, at)
        chunks.append(data[at + 4 : at + 8 + length])
        at += 12 + length
    return chunks


def _png(chunks: Pieces) -> bytes:
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", max(0, len(each) - 4)) + each + struct.pack(">I", zlib.crc32(each)) for each in chunks
    )


def _jpeg_segments(data: bytes) -> Pieces:
    """The markers with what belongs to them; what is compressed stands behind its own."""
    cuts = [at for at in range(len(data) - 1) if data[at] == 0xFF and data[at + 1] not in (0, 0xFF) and not 0xD0 <= data[at + 1] <= 0xD7]
    return [data[start:end] for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True)]


def _riff_chunks(data: bytes) -> Pieces:
    chunks, at = [], 12
    while at + 8 <= len(data):
        (length,) = struct.unpack_from("<I", data, at + 4)
        end = at + 8 + length + (length & 1)
        chunks.append(data[at:end])
        at = end
    return chunks


def _riff(chunks: Pieces) -> bytes:
    content = b"WEBP" + b"".join(chunks)
    return b"RIFF" + struct.pack("<I", len(content)) + content


def _blocks(data: bytes) -> Pieces:
    """GIF, BMP and TIFF: pieces of twelve bytes, as long as an entry of a TIFF's directory."""
    return [data[at : at + 12] for at in range(0, len(data), 12)]


MUTATIONS = (_flip, _flip, _flip_in_head, _set_number, _set_number, _truncate, _append, _remove, _repeat, _splice, _rearrange, _rearrange)
