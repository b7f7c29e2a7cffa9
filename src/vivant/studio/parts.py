"""Names of the things a triangle can belong to, as stored in `triangle_part` of a session."""

from __future__ import annotations

from enum import IntEnum


class Part(IntEnum):
    """What a triangle belongs to. Left and right are the subject's."""

    FACE = 0
    HEAD = 1
    """Scalp, ears and neck."""
    MOUTH_INNER = 2
    EYE_SOCKET = 3
    TONGUE_GUMS = 4
    TEETH = 5
    EYE_L = 6
    EYE_R = 7
    LASHES = 8
    HAIR = 9
    BEARD = 10
    CLOTHES = 11
    GLASSES = 12
    HAT = 13
    JEWELLERY = 14


PART_NAMES: tuple[str, ...] = tuple(part.name for part in Part)

# Part numbers of the face-model file -> ours.
PART_OF_FACE_MODEL: dict[int, Part] = {
    0: Part.FACE,
    1: Part.HEAD,
    2: Part.MOUTH_INNER,
    3: Part.EYE_SOCKET,
    4: Part.EYE_SOCKET,
    5: Part.TONGUE_GUMS,
    6: Part.TEETH,
    7: Part.TEETH,
    8: Part.EYE_L,
    10: Part.EYE_R,
}
