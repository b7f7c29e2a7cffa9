"""What a look is made of, for the shader: textures, colours and a few numbers."""

from __future__ import annotations

from enum import IntEnum
from typing import Any, NamedTuple

from numpy.typing import NDArray

Array = NDArray[Any]


class Colour(IntEnum):
    """Rows of `Surface.colours`."""

    SKIN = 0
    HAIR = 1
    HAIR_TIP = 2
    BEARD = 3
    IRIS_LEFT = 4
    IRIS_RIGHT = 5
    SCLERA = 6
    TEETH = 7
    TONGUE = 8
    LASH = 9
    GLASSES = 10
    JEWELLERY = 11


class Number(IntEnum):
    """Entries of `Surface.numbers`."""

    GLOSS = 0
    """Strength of skin highlights, about 0.6..1.3."""
    RELIEF = 1
    """Depth of the skin relief."""
    LIMBUS = 2
    """Texture radius of the iris."""
    PUPIL = 3
    HAIR_GLOSS = 4


class Surface(NamedTuple):
    """Colours and textures of one look, linear light; images are [S, S, 3] with v up.

    Few arrays on purpose: numba counts a reference to each of them at each call.
    """

    face_image: Array
    head_image: Array
    cloth_image: Array
    hat_image: Array
    bump: Array
    """[S, S] skin relief."""
    noise: Array
    """[N, N] tiling noise, 0..1."""
    colours: Array
    """[len(Colour), 3]."""
    numbers: Array
    """[len(Number)]."""
