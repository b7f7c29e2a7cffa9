"""Following one face through a clip: mesh from the last mesh, detection when that fails, a check now and then.

A FaceTracker is the state of one clip. It keeps to the chosen person while the picture flows, finds the
face again after it was lost, and starts over at a cut.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from vivant.errors import FaceError
from vivant.face.choose import FaceChoice, choose_face, parse_face_choice
from vivant.face.cuts import CutDetector, Look, look_at
from vivant.face.detect import Detection, FaceDetector
from vivant.face.mesh import FaceMesh
from vivant.face.missing import MissingPolicy, MissingReport, MissingSpan
from vivant.face.points import Landmarks, interocular
from vivant.face.window import DrivingView, DrivingWindow, Similarity

__all__ = [
    "DrivingView",
    "DrivingWindow",
    "FaceTracker",
    "MissingPolicy",
    "MissingReport",
    "MissingSpan",
    "Similarity",
    "TrackedFace",
]

REDETECT_EVERY_FRAMES = 25
# While no face is found, the slow search for small faces runs this often.
TILES_EVERY_FRAMES = 12
# A followed face that jumps this far (in its own width) or changes its size this much in a frame is lost.
LARGEST_STEP = 0.6
LARGEST_GROWTH = 1.4
# How far a lost face may reappear among others, in its own width: grows with each frame without it.
REACH, REACH_PER_FRAME, LONGEST_REACH = 1.0, 0.1, 1.6
# After this long anyone who is there is taken.
PATIENCE_FRAMES = 50
# The mesh and the detector mean the same face if the mesh's centre is this near, in widths of the box.
SAME_FACE = 0.6


@dataclass(frozen=True)
class TrackedFace:
    """The followed face in one frame."""

    landmarks: Landmarks
    found_anew: bool
    """Whether it was detected in this frame rather than followed from the frame before."""
    cut: bool
    """Whether a new shot began since the last frame with a face."""


@dataclass
class TrackerState:
    """What a tracker knows of its clip so far."""

    cuts: CutDetector = field(default_factory=CutDetector)
    last: Landmarks | None = None
    """The face where it was last seen."""
    last_look: Look | None = None
    """The frame it was last seen in."""
    num_faces: int = 0
    """How many there were when it was last detected."""
    num_missing: int = 0
    """Frames since it was last seen."""
    num_followed: int = 0
    """Frames since it was last detected."""
    cut_pending: bool = False
    """Whether there was a cut since it was last seen."""


class FaceTracker:
    """Follows the chosen face. One per clip and thread; feed every frame in order.

    `state` may be kept and given to a tracker made alike, which then goes on from there.
    """

    def __init__(
        self,
        choice: FaceChoice | str = "largest",
        *,
        detector: FaceDetector | None = None,
        mesh: FaceMesh | None = None,
        redetect_every_frames: int = REDETECT_EVERY_FRAMES,
        min_px: float = 0.0,
    ) -> None:
        self.choice = parse_face_choice(choice) if isinstance(choice, str) else choice
        self.redetect_every_frames = redetect_every_frames
        self.min_px = min_px
        self._detector = detector or FaceDetector()
        self._mesh = mesh or FaceMesh()
        self.state = TrackerState()

    def update(self, image: np.ndarray, *, irises: bool = True) -> TrackedFace | None:
        """The face in the next uint8 RGB frame, or None where it is not to be seen.

        irises: also where a face is followed; where it is found anew they are always looked at.
        """
        state = self.state
        look = look_at(image)
        if state.cuts.is_cut(look):
            state.cut_pending = True
            state.num_missing = 0
        # A hand before the camera looks like two cuts; the shot after it is the one before it.
        cut = state.cut_pending and state.last_look is not None and look.is_other_shot(state.last_look)
        found = None if state.cut_pending else self._follow(image, irises=irises)
        found_anew = found is None
        if found is None:
            found = self._find(image, None if cut else state.last)
        if found is None:
            state.num_missing += 1
            return None
        state.num_followed = 0 if found_anew else state.num_followed + 1
        state.num_missing = 0
        state.cut_pending = False
        state.last, state.last_look = found, look
        return TrackedFace(found, found_anew, cut)

    def _follow(self, image: np.ndarray, *, irises: bool) -> Landmarks | None:
        """The mesh from where it was in the frame before, if it still lies on the same face."""
        state = self.state
        if state.last is None or state.num_missing > 0:
            return None
        found = self._mesh.landmarks(image, state.last, irises=irises)
        if found is None or not is_small_step(state.last, found):
            return None
        if (state.num_followed + 1) % self.redetect_every_frames == 0:
            faces = self._detector.detect(image, tiles=False)
            # Small faces escape this quick look, so that seeing nobody proves nothing.
            if faces and not any(_is_on(found, face) for face in faces):
                return None
        return found

    def _find(self, image: np.ndarray, last: Landmarks | None) -> Landmarks | None:
        """The face by detection: near the last place while that means something, else by choice."""
        state = self.state
        thorough = state.num_missing % TILES_EVERY_FRAMES == 0
        faces = self._detector.detect(image, tiles=thorough)
        if not faces:
            return None
        if last is not None and state.num_missing < PATIENCE_FRAMES:
            alone = state.num_faces == 1 and len(faces) == 1
            reach = min(REACH + REACH_PER_FRAME * state.num_missing, LONGEST_REACH)
            face = faces[0] if alone else _nearest(last, faces, reach)
            found = None if face is None else self._mesh.landmarks(image, face)
        else:
            found = self._chosen(image, faces)
        state.num_faces = len(faces)
        return found

    def _chosen(self, image: np.ndarray, faces: list[Detection]) -> Landmarks | None:
        """The chosen one among the faces that the mesh confirms, as `list_faces` numbers them."""
        read = [(face, self._mesh.landmarks(image, face)) for face in faces]
        confirmed = [(face, landmarks) for face, landmarks in read if landmarks is not None]
        try:
            number = choose_face([face for face, _ in confirmed], self.choice, min_px=self.min_px)
        except FaceError:
            # The chosen one is not in this frame, but may be in a later one.
            return None
        return confirmed[number][1]


def centre_and_width(landmarks: Landmarks) -> tuple[np.ndarray, float]:
    """x, y and width, in pixels, of the box around a mesh."""
    x0, y0, x1, y1 = landmarks.box
    return np.array([(x0 + x1) / 2, (y0 + y1) / 2]), max(x1 - x0, y1 - y0)


def is_small_step(before: Landmarks, after: Landmarks) -> bool:
    """Whether a face can have moved so from one frame to the next."""
    (old, width), (new, _) = centre_and_width(before), centre_and_width(after)
    growth = interocular(after) / max(interocular(before), 1e-6)
    near = float(np.linalg.norm(new - old)) < LARGEST_STEP * width
    return near and 1 / LARGEST_GROWTH < growth < LARGEST_GROWTH


def _is_on(landmarks: Landmarks, face: Detection) -> bool:
    centre, width = centre_and_width(landmarks)
    distance = float(np.linalg.norm(centre - face.centre))
    return distance < SAME_FACE * max(width, face.side_px)


def _nearest(last: Landmarks, faces: list[Detection], reach: float) -> Detection | None:
    """The face most like the last one in place and size; None if all are out of reach."""
    centre, width = centre_and_width(last)

    def distance(face: Detection) -> float:
        step = float(np.linalg.norm(centre - face.centre)) / width
        return step + abs(float(np.log(face.side_px / width)))

    best = min(faces, key=distance)
    return best if distance(best) < reach else None
