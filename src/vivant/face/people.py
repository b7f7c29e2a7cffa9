"""Following several people through a clip: everybody who was there at the start, so that each keeps the own place.

Each face is followed by its mesh. Where one is lost, where two meshes come to lie on one face, and now and then, all
faces are detected and given to people at once, by where each was going, by size, and by the shape of the head: the
rigid points of the mesh, with pose taken out. So two people who cross keep their numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from scipy.optimize import linear_sum_assignment

from vivant.errors import FaceError
from vivant.face.choose import FaceChoice, choose_faces, parse_face_choice
from vivant.face.cuts import CutDetector, Look, look_at
from vivant.face.detect import FaceDetector
from vivant.face.mesh import FaceMesh
from vivant.face.points import Landmarks
from vivant.face.track import (
    LONGEST_REACH,
    PATIENCE_FRAMES,
    REACH,
    REACH_PER_FRAME,
    REDETECT_EVERY_FRAMES,
    TrackedFace,
    centre_and_width,
    is_small_step,
)

# Points that hardly move with expression: eye corners, nose, sides of the face, forehead.
RIGID = (33, 133, 362, 263, 1, 2, 4, 5, 6, 168, 197, 98, 327, 234, 454, 127, 356, 10, 109, 338, 132, 361)
# Two meshes nearer than this, in widths, lie on one face; people nearer than ALONE do not teach their shape.
ONE_FACE, ALONE = 0.45, 1.2
# What a difference in shape counts, in widths of distance. Measured on four clips: 0.024 within a person (root mean
# square, head of size 1), 0.038 and more between people.
SHAPE_COST = 16.0
SHAPE_MEMORY_FRAMES = 30
# Velocity is averaged over about so many frames, and trusted so long while a face is hidden.
VELOCITY_FRAMES, GLIDE_FRAMES = 5, 15
IMPOSSIBLE = 1e6
# While somebody is hidden, the slow search for small faces runs this often.
TILES_EVERY_FRAMES = 3


@dataclass(frozen=True)
class Person:
    """Somebody who was there at the start."""

    last: Landmarks
    """Where the face was last seen."""
    shape: np.ndarray
    """float64 (len(RIGID), 3): mean of the rigid points, centred, size 1."""
    num_seen: int = 1
    """Frames that the shape was learned from, at most SHAPE_MEMORY_FRAMES."""
    velocity: tuple[float, float] = (0.0, 0.0)
    """Pixels per frame."""
    num_missing: int = 0
    """Frames since the face was last seen."""


@dataclass
class PeopleState:
    """What a tracker knows of its clip so far."""

    cuts: CutDetector = field(default_factory=CutDetector)
    people: tuple[Person, ...] = ()
    """By number; empty until the chosen ones were seen."""
    chosen: tuple[int, ...] = ()
    last_look: Look | None = None
    """The frame in which somebody was last seen."""
    cut_pending: bool = False
    num_frames: int = 0


class PeopleTracker:
    """Follows the chosen faces. One per clip and thread; feed every frame in order."""

    def __init__(
        self,
        choice: FaceChoice | str = "all",
        *,
        detector: FaceDetector | None = None,
        mesh: FaceMesh | None = None,
        min_px: float = 0.0,
    ) -> None:
        self.choice = parse_face_choice(choice) if isinstance(choice, str) else choice
        self.min_px = min_px
        self._detector = detector or FaceDetector()
        self._mesh = mesh or FaceMesh()
        self.state = PeopleState()

    @property
    def numbers(self) -> tuple[int, ...]:
        """Of the chosen faces in the frame where they were first seen; empty before."""
        return self.state.chosen

    @property
    def others(self) -> list[Landmarks]:
        """The faces that were not chosen and are seen now."""
        people = enumerate(self.state.people)
        return [who.last for index, who in people if index not in self.state.chosen and not who.num_missing]

    def update(self, image: np.ndarray) -> list[TrackedFace | None]:
        """The chosen faces in the next uint8 RGB frame, by number; empty until they were seen for the first time."""
        state = self.state
        state.num_frames += 1
        look = look_at(image)
        if state.cuts.is_cut(look):
            state.cut_pending = True
        if not state.people:
            self._begin(image, look)
            return [self._tracked(index, anew=True, cut=False) for index in state.chosen]
        cut = state.cut_pending and state.last_look is not None and look.is_other_shot(state.last_look)
        found = [None if state.cut_pending else self._follow(image, person) for person in state.people]
        anew = self._is_doubtful(found)
        if anew:
            found = self._found(image, cut=cut)
        state.people = tuple(
            _after(person, landmarks, alone=_is_alone(index, found))
            for index, (person, landmarks) in enumerate(zip(state.people, found, strict=True))
        )
        if any(landmarks is not None for landmarks in found):
            state.last_look, state.cut_pending = look, False
        return [
            None if found[index] is None else self._tracked(index, anew=anew, cut=cut)
            for index in state.chosen
        ]

    def _tracked(self, index: int, *, anew: bool, cut: bool) -> TrackedFace:
        return TrackedFace(self.state.people[index].last, anew, cut)

    def _begin(self, image: np.ndarray, look: Look) -> None:
        read = [(face, self._mesh.landmarks(image, face)) for face in self._detector.detect(image)]
        seen = [(face, landmarks) for face, landmarks in read if landmarks is not None]
        try:
            chosen = choose_faces([face for face, _ in seen], self.choice, min_px=self.min_px)
        except FaceError:
            return  # not in this frame, but maybe in a later one
        self.state.people = tuple(Person(landmarks, head_shape(landmarks)) for _, landmarks in seen)
        self.state.chosen, self.state.last_look = tuple(chosen), look

    def _follow(self, image: np.ndarray, person: Person) -> Landmarks | None:
        if person.num_missing:
            return None
        found = self._mesh.landmarks(image, person.last)
        return found if found is not None and is_small_step(person.last, found) else None

    def _is_doubtful(self, found: Sequence[Landmarks | None]) -> bool:
        """Whether all faces have to be looked for."""
        due = self.state.num_frames % REDETECT_EVERY_FRAMES == 0
        lost = any(found[index] is None for index in self.state.chosen)
        return due or lost or any(_nearest(index, found) < ONE_FACE for index in range(len(found)))

    def _found(self, image: np.ndarray, *, cut: bool) -> list[Landmarks | None]:
        """Everybody's face among the detected ones, together the best."""
        people = self.state.people
        lost = [people[index].num_missing for index in self.state.chosen]
        thorough = cut or any(missing % TILES_EVERY_FRAMES == 0 for missing in lost)
        read = [self._mesh.landmarks(image, face) for face in self._detector.detect(image, tiles=thorough)]
        faces = [landmarks for landmarks in read if landmarks is not None]
        found: list[Landmarks | None] = [None for _ in people]
        if not faces:
            return found
        costs = np.array([[_cost(person, face, cut=cut) for face in faces] for person in people])
        for person, face in zip(*linear_sum_assignment(costs), strict=True):
            if costs[person, face] < IMPOSSIBLE:
                found[person] = faces[face]
        return found


def head_shape(landmarks: Landmarks) -> np.ndarray:
    """float64 (len(RIGID), 3): the rigid points, centred, of size 1."""
    points = landmarks.points[list(RIGID)].astype(np.float64)
    points -= points.mean(0)
    return points / np.sqrt((points**2).sum(1).mean())


def shape_distance(first: np.ndarray, second: np.ndarray) -> float:
    """Root mean square distance of two head shapes, turned onto each other."""
    return float(np.sqrt(((first @ _turn(first, second) - second) ** 2).sum(1).mean()))


def _turn(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """The rotation (3, 3) that brings the first shape onto the second, as rows times matrix (Kabsch)."""
    left, _, right = np.linalg.svd(first.T @ second)
    left[:, 2] *= np.sign(np.linalg.det(left @ right))
    return left @ right


def _cost(person: Person, face: Landmarks, *, cut: bool) -> float:
    """How unlikely a face is that person's, in widths of distance."""
    shape = SHAPE_COST * shape_distance(person.shape, head_shape(face))
    if cut or person.num_missing > PATIENCE_FRAMES:
        return shape
    centre, width = centre_and_width(person.last)
    now, size = centre_and_width(face)
    centre = centre + np.array(person.velocity) * min(person.num_missing + 1, GLIDE_FRAMES)
    distance = float(np.linalg.norm(now - centre)) / width + abs(float(np.log(size / width)))
    reach = min(REACH + REACH_PER_FRAME * person.num_missing, LONGEST_REACH)
    return distance + shape if distance < reach else IMPOSSIBLE


def _after(person: Person, found: Landmarks | None, *, alone: bool) -> Person:
    """The person after the next frame; the shape is learned while nobody else is near."""
    if found is None:
        return replace(person, num_missing=person.num_missing + 1)
    (before, _), (now, _) = centre_and_width(person.last), centre_and_width(found)
    moved = (now - before) / (person.num_missing + 1)
    x, y = (
        float(old + (new - old) / VELOCITY_FRAMES) for old, new in zip(person.velocity, moved, strict=True)
    )
    shape, num_seen = person.shape, person.num_seen
    if alone:
        new = head_shape(found)
        num_seen = min(num_seen + 1, SHAPE_MEMORY_FRAMES)
        shape = shape + (new @ _turn(new, shape) - shape) / num_seen
    return Person(found, shape, num_seen, (x, y), 0)


def _nearest(index: int, found: Sequence[Landmarks | None]) -> float:
    """Distance to the nearest other face, in widths of the larger; infinite where there is none."""
    own = found[index]
    nearest = float("inf")
    if own is None:
        return nearest
    centre, width = centre_and_width(own)
    for other, landmarks in enumerate(found):
        if landmarks is not None and other != index:
            there, size = centre_and_width(landmarks)
            nearest = min(nearest, float(np.linalg.norm(there - centre)) / max(width, size))
    return nearest


def _is_alone(index: int, found: Sequence[Landmarks | None]) -> bool:
    return _nearest(index, found) > ALONE
