"""One driver and the faces that it moves, in step: items go in, what each face shows comes out.

    items --> every Session --> drawn faces, one per output frame
                ^
    where the faces are in this frame of a source video

What needs no drawing waits its turn behind what an engine with a delay still owes. Nothing here pastes or writes.

A GPU is kept busy: what comes next is asked of it before the last pictures are waited for (`ahead`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

from torch import Tensor

from vivant.bookmark import Bookmark
from vivant.drivers import DEFAULT_FRAME_RATE, Driven, Refers, Rests, Seen, Watched
from vivant.errors import VivantError
from vivant.face.framing import Framing
from vivant.face.missing import MissingReport, MissingSpan
from vivant.media.types import AudioChunk, Frame
from vivant.motion_file import Entry, Mark
from vivant.ops.fetching import set_out
from vivant.session import Session, Timing

Kind: TypeAlias = Literal["drawn", "held", "rest"]

Drawn: TypeAlias = Tensor | Callable[[], Tensor]
"""A face, float (3, H, W) in [0, 1] or uint8 (H, W, 3); or the call that draws it, or waits for it."""

Shown: TypeAlias = Drawn | Literal["held", "rest"]
"""A face that is drawn, or what it showed before, or the face as it was given."""


@dataclass(frozen=True, kw_only=True)
class _Standing:
    """Where a performance stands between two items, beyond its sessions and its driving."""

    owed: tuple[Kind, ...]
    """Frames that wait for what the engine still owes."""
    ended: bool
    num_watched: int
    without_face: tuple[MissingSpan, ...]
    before: Literal["seen", "frame", "motion"] | None
    """What is kept to be repeated, while the driver is away or has ended."""


class Performance:
    """A driver and its faces. One per animation and driver; close it when leaving early."""

    def __init__(
        self,
        sessions: Sequence[Session],
        driven: Driven,
        missing: MissingReport,
        *,
        faces: Sequence[int] = (0,),
        lasts: bool = False,
        draws_apart: bool = False,
        ahead: int = 0,
    ) -> None:
        """sessions: one per face, of one engine; faces: their places in the scene. lasts: the last item goes on for
        ever (one picture drives). draws_apart: give calls that draw, where the engine can. ahead: how many frames are
        asked of the engine beyond the next one to show; not of a source video's faces, which must be seen first."""
        self.sessions = tuple(sessions)
        self.faces = tuple(faces)
        self.missing = missing
        self.num_frames = driven.num_frames
        """Of the driver, to expect; None where nothing tells."""
        self._driven = driven
        self.lasts = lasts
        self._ahead = ahead
        self._settling = False
        self._late: VivantError | None = None
        """What went wrong with a frame that is not yet to be shown."""
        self._draws_apart = draws_apart and all(session.engine.draws_apart for session in self.sessions)
        self._shown: deque[Kind] = deque()
        self._drawn: list[deque[Drawn]] = [deque() for _ in self.sessions]
        self._before: Any = None
        self._where: list[Framing | None] = [None for _ in self.sessions]
        self._moves = False
        self._ended = False

    @property
    def face_seconds(self) -> float:
        """Wall time spent on finding the driver's face."""
        follow = self._driven.follow
        return follow.seconds if follow is not None else 0.0

    @property
    def timing(self) -> Timing:
        """Counters of the sessions; frames are those of one."""
        first, *others = (session.timing for session in self.sessions)
        return replace(first, seconds=first.seconds + sum(timing.seconds for timing in others))

    @property
    def frame_size(self) -> tuple[int, int]:
        """Height and width of a drawn face."""
        return self.sessions[0].frame_size

    def next(self, people: Sequence[Framing | None] | None = None) -> list[Shown] | None:
        """What each face shows in the next output frame; None when the driver has ended.

        people: where the faces of the scene are in this frame of a source video; None for pictures.
        """
        if people is not None:
            self._appear([people[face] for face in self.faces])
        self._look_ahead()
        while (shown := self.due()) is None:
            if self._late is not None:
                raise self._late
            item = None if self._ended else next(self._driven.items, None)
            if item is not None:
                self.push(item)
            elif not self._ended:
                self.end()
            elif self.lasts:
                self._hold()
            else:
                return None
        return shown

    def _look_ahead(self) -> None:
        """Push what is to be shown later, before what is drawn by now is waited for."""
        if not self._ahead or self._moves or self._settling:
            return
        while self._num_due <= self._ahead and not self._ended and self._late is None:
            try:
                item = next(self._driven.items, None)
                if item is None:
                    break
                self.push(item)
            except VivantError as error:
                self._late = error

    @property
    def _num_due(self) -> int:
        """Frames that could be shown now."""
        num_drawn, count = min(len(drawn) for drawn in self._drawn), 0
        for kind in self._shown:
            num_drawn -= kind == "drawn"
            if num_drawn < 0:
                break
            count += 1
        return count

    def settle(self) -> None:
        """Ask nothing more ahead of its time until `bookmark`, so that it comes to be settled."""
        self._settling = True

    def due(self) -> list[Shown] | None:
        """The same, of what was pushed; None where nothing is due."""
        return self._popped() if self._num_due else None

    @property
    def is_settled(self) -> bool:
        """Whether nothing is due, and one can go on from here."""
        shown, place = self._shown, self._driven.place
        due = any(self._drawn) or (shown and shown[0] != "drawn")
        return not due and (self._ended or place.is_settled)

    def bookmark(self) -> Bookmark:
        """Everything needed to go on after the last frame that was taken; only where it is settled."""
        assert self.is_settled
        self._settling = False
        mark = Bookmark()
        for index, session in enumerate(self.sessions):
            mark.keep_mark(f"face{index}", session.bookmark())
        self._driven.place.keep_in(mark)
        before, kind = (self._before, _kind(self._before)) if self._moves else (None, None)
        standing = _Standing(
            owed=tuple(self._shown),
            ended=self._ended,
            num_watched=self.missing.num_frames,
            without_face=self.missing.spans,
            before=kind,
        )
        mark.keep("performance", standing)
        mark.keep("before", before)
        return mark

    def go_on(self, mark: Bookmark) -> None:
        """As the one would that set the bookmark; sessions and driving do so already."""
        stood = mark.part("performance", _Standing)
        self._shown.extend(stood.owed)
        self._ended = stood.ended
        missing = self.missing
        self.missing = MissingReport(
            missing.policy, name=missing.name, num_frames=stood.num_watched, spans=stood.without_face
        )
        if stood.before is not None:
            engine = self.sessions[0].engine
            kinds = {"seen": Seen, "frame": Frame, "motion": engine.motion_type}
            self._before = mark.part("before", kinds[stood.before] or object, str(engine.device))

    def go_on_in(self, last: Sequence[Framing | None]) -> None:
        """Where the faces of a source video were last seen, before the next `next`."""
        self._appear([last[face] for face in self.faces])

    def again(self) -> list[Shown]:
        """What each face shows after the driver's end: the last motion, on the picture as it is now."""
        self._hold()
        return self._popped()

    def close(self) -> None:
        """Let go of driver and sessions. Safe to call twice."""
        self._driven.items.close()
        for session in self.sessions:
            session.close()

    def _popped(self) -> list[Shown]:
        kind = self._shown.popleft()
        if kind != "drawn":
            return [kind for _ in self.sessions]
        faces: list[Shown] = [drawn.popleft() for drawn in self._drawn]
        if not self._moves:
            return faces
        return [face if where is not None else "rest" for face, where in zip(faces, self._where, strict=True)]

    def _appear(self, people: Sequence[Framing | None]) -> None:
        self._moves = True
        for session, before, now in zip(self.sessions, self._where, people, strict=True):
            if now is not None and now is not before:
                session.appear(now)
        self._where = list(people)

    def end(self) -> None:
        """Nothing more drives, so what is still owed becomes due.

        Families that take source videos owe nothing, and go on after the driver's end.
        """
        self._ended = True
        if not self._moves:
            for session, drawn in zip(self.sessions, self._drawn, strict=True):
                drawn += _fetched(session.flush())

    def push(self, item: Frame | AudioChunk | Any) -> None:
        """One item by hand (see `vivant.drivers`)."""
        if isinstance(item, Refers):
            for session in self.sessions:
                session.refer(_see(session, item.seen))
        elif isinstance(item, Rests):
            for session in self.sessions:
                first = _see(session, item.first)
                neutral = None if item.neutral is None else _see(session, item.neutral)
                session.refer(session.at_rest(first, neutral), restart=item.first.restart)
        elif isinstance(item, Watched):
            self.missing.record(item.time, found=item.seen is not None)
            self._draw(item.seen)
        elif isinstance(item, Entry) and item.mark is Mark.REFERS:
            for session in self.sessions:
                session.refer(item.motion)
        elif isinstance(item, Entry):
            time = self.missing.num_frames / (self._driven.rate or DEFAULT_FRAME_RATE)
            self.missing.record(time, found=item.motion is not None)
            self._draw(None if item.motion is None else item)
        else:
            self._draw(item)

    def _draw(self, item: Any | None) -> None:
        """Push to every session. Faces that are not to be seen just now are drawn too, so that nothing gets out of
        step."""
        if item is None:
            self._unseen()
            return
        self._before = _repeated(item)
        before = self.sessions[0].timing.frames_in
        for session, drawn in zip(self.sessions, self._drawn, strict=True):
            if self._draws_apart and isinstance(item, Entry):
                drawn.append(session.begin_motion(item.motion, restart=item.mark is Mark.RESTARTS))
            else:
                drawn += _fetched(_push(session, item))
        self._shown += ["drawn"] * (self.sessions[0].timing.frames_in - before)

    def _unseen(self) -> None:
        """A frame in which the driver's face is not seen: what the policy says."""
        if self.missing.policy == "source":
            self._before = None  # should the driver end now, its face stays at rest
            self._shown.append("rest")
        else:
            self._hold()

    def _hold(self) -> None:
        """A frame that goes on with what was before: the last picture; of a source video, the last motion on the
        present picture, or its face at rest where there is none."""
        if not self._moves:
            self._shown.append("held")
        elif self._before is None:
            self._shown.append("rest")
        else:
            self._draw(self._before)


def _fetched(frames: Sequence[Tensor]) -> Sequence[Drawn]:
    """Their pixels set out for the host at once."""
    return set_out(frames) if frames and frames[0].is_cuda else frames


def _see(session: Session, seen: Seen) -> Any:
    return session.see(seen.image, window=seen.window, openness=seen.openness)


def _push(session: Session, item: Any) -> list[Tensor]:
    """One drawable item to one session."""
    if isinstance(item, Seen):
        return session.push(item.image, window=item.window, openness=item.openness, restart=item.restart)
    if isinstance(item, Entry):
        return session.push_motion(item.motion, restart=item.mark is Mark.RESTARTS)
    if isinstance(item, (Frame, AudioChunk)):
        return session.push(item)
    return session.push_motion(item)


def _repeated(item: Any) -> Any:
    """What draws the same once more and begins no new shot."""
    if isinstance(item, Seen):
        return replace(item, restart=False)
    return item.motion if isinstance(item, Entry) else item


def _kind(item: Any) -> Literal["seen", "frame", "motion"] | None:
    if item is None:
        return None
    return "seen" if isinstance(item, Seen) else "frame" if isinstance(item, Frame) else "motion"
