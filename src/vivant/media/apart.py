"""No output takes the place of an input: neither of the file itself nor of the folder that it lies in."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from vivant.errors import InputError
from vivant.media.probe import is_pattern
from vivant.media.sequence import sequence_files


def check_apart(inputs: Mapping[str, Path], made: Iterable[Path], folder: Path | None = None) -> None:
    """Raise InputError where a file that is made is an input, or where the folder that is replaced holds one.

    Args:
        inputs: files, folders or patterns, by what each is for.
        folder: what is replaced as a whole, where pictures are made.
    """
    standing = [file for file in made if os.path.exists(file)]
    replaced = None if folder is None or not folder.is_dir() else folder.resolve()
    for role, given in inputs.items():
        name = role.replace("driving", "driving file", 1)
        is_many = given.is_dir() or is_pattern(given)
        place = (given.parent if is_pattern(given) else given).resolve()
        if replaced is not None and (replaced == place or replaced in place.parents):
            raise InputError(f"{folder} holds the {name}, {given}; choose another output.")
        files = sequence_files(given) if is_many and standing else [given]
        for file in standing:
            if any(os.path.exists(one) and file.samefile(one) for one in files):
                what = f"one of the pictures of {given}, the {name}" if is_many else f"the {name} itself"
                raise InputError(f"{file} is {what}; choose another output.")
