"""A clip's driver, saved: the items of `vivant.drivers` as a motion file instead of a picture."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from fractions import Fraction
from pathlib import Path
from typing import Literal

from vivant.drivers import How, Refers, seen_clip
from vivant.engine import Engine
from vivant.errors import InputError
from vivant.motion_file import MotionWriter
from vivant.session import Session


def record_motion(
    engine: Engine,
    driving: str | Path,
    path: Path,
    *,
    frame_rate: Fraction | float | None = None,
    driving_face: str = "largest",
    reference_frame: int | Literal["auto"] = "auto",
    allow_truncated: bool = False,
    overwrite: bool = False,
    progress: Callable[[int, int | None], None] | None = None,
) -> int:
    """Save what a clip's driver does into a motion file; returns the number of frames. Raises InputError.

    Replaying the file (`animate` with its path) draws, bit for bit, what animating from the clip draws.
    """
    if engine.motion_type is None or engine.hears or engine.stream.chunk_frames != 1:
        raise InputError(
            f"the motion of {engine.family} cannot be saved frame by frame; choose liveportrait."
        )
    wanted = Fraction(frame_rate).limit_denominator(1001) if frame_rate is not None else None
    made = seen_clip(engine, driving, How(wanted, driving_face, reference_frame, allow_truncated))
    assert made.rate is not None, "files have a rate"
    if made.is_still:
        raise InputError(f"{driving} is one picture and no motion; animate with it directly (-d).")
    session: Session | None = None
    count = 0
    with (
        closing(made.items) as items,
        MotionWriter(
            path, engine.family, engine.motion_kind, made.rate, Path(driving).name, overwrite=overwrite
        ) as writer,
    ):
        for item in items:
            motion = None
            seen = item.seen
            if seen is not None:
                if session is None:  # nobody is animated: the driver stands in for a portrait
                    session = Session(engine, engine.prepare(seen.image, face=None))
                restarts = seen.restart and not isinstance(item, Refers)
                motion = session.see(seen.image, window=seen.window, openness=seen.openness, restart=restarts)
            if isinstance(item, Refers):
                writer.refer(motion)
                continue
            writer.write(motion, restarts=seen is not None and seen.restart)
            count += 1
            if progress is not None:
                progress(count, made.num_frames)
    return count
