"""Which encoders the installed PyAV brings along: what the writers need, and what is lacking."""

from __future__ import annotations

import av
import av.codec

ENCODERS = ("libx264", "aac")
"""H.264 video and AAC sound."""


def missing_encoders() -> list[str]:
    """Those of ENCODERS that this build of PyAV does not have; the published wheels have all."""
    missing = []
    for name in ENCODERS:
        try:
            av.codec.Codec(name, "w")
        except av.codec.codec.UnknownCodecError:
            missing.append(name)
    return missing
