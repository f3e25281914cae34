"""Files that are called pictures: by themselves, by their folder, or by a pattern."""

import glob
import os
from pathlib import Path

SUFFIXES = frozenset((".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff"))
"""Of what is taken of a folder."""


def is_pattern(asked: str) -> bool:
    """Whether it may mean more than one file. One may have a name that would mean others, such as photo[1].jpg."""
    return not os.path.isfile(asked) and (os.path.isdir(asked) or glob.has_magic(asked))


def named(asked: str) -> list[str]:
    """The file of that name, the pictures of that folder, or the files of that pattern, in the order of their names.

    What is hidden (``.name``) is passed over in a folder, where some systems keep a file beside each picture. Errors: OSError.
    """
    if os.path.isfile(asked):
        return [asked]
    if os.path.isdir(asked):
        listed = [each for each in os.listdir(asked) if not each.startswith(".") and os.path.splitext(each)[1].lower() in SUFFIXES]
        found = [str(Path(asked, each)) for each in listed]
    else:
        found = glob.glob(asked, recursive=True) if glob.has_magic(asked) else []
    return sorted(each for each in found if os.path.isfile(each))
