"""Where the three face networks come from: found in a folder, a cache or an installed wheel, or fetched once.

They are TFLite files inside the mediapipe 0.10.21 wheel (Apache-2.0). The wheel is only a carrier: nothing
of it is imported or vendored, so it may be built for another Python or platform than the one running.
Every file is checked against its SHA-256 before it is used.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import subprocess
import sys
import tempfile
import threading
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from vivant.errors import SetupError
from vivant.store import store_folder

FOLDER_VARIABLE = "VIVANT_FACE_MODELS"
FIX_COMMAND = "vivant doctor --fix"

CARRIER = "mediapipe==0.10.21"
CARRIER_PYTHON = "3.11"
CARRIER_PLATFORMS = ("manylinux_2_28_x86_64", "macosx_11_0_universal2", "win_amd64")
CARRIER_LICENSE_MEMBER = "mediapipe-0.10.21.dist-info/LICENSE"
LICENSE_FILE = "LICENSE"


@dataclass(frozen=True)
class ModelFile:
    """One network file, with everything that must be known to trust and to credit it."""

    name: str
    purpose: str
    member: str
    """Path inside the wheel, and inside the folder that an installed wheel makes."""
    num_bytes: int
    sha256: str
    origin: str = f"{CARRIER} wheel on PyPI (Google)"
    license: str = "Apache-2.0"


DETECTOR = ModelFile(
    name="face_detection_short_range.tflite",
    purpose="face detector, 128 px",
    member="mediapipe/modules/face_detection/face_detection_short_range.tflite",
    num_bytes=229714,
    sha256="bbff11cebd1eb27a1e004cae0b0e63ec8c551cbf34a4451148b4908b8db3eca8",
)
MESH = ModelFile(
    name="face_landmark.tflite",
    purpose="468-point face mesh, 192 px",
    member="mediapipe/modules/face_landmark/face_landmark.tflite",
    num_bytes=1242398,
    sha256="1055cb9d4a9ca8b8c688902a3a5194311138ba256bcc94e336d8373a5f30c814",
)
IRIS = ModelFile(
    name="iris_landmark.tflite",
    purpose="iris and eyelid points, 64 px",
    member="mediapipe/modules/iris_landmark/iris_landmark.tflite",
    num_bytes=2640568,
    sha256="d1744d2a09c25f501d39eba4faff47e53ecca8852c5ce19bce8eeac39357521f",
)
FACE_MODELS: tuple[ModelFile, ...] = (DETECTOR, MESH, IRIS)


def cache_folder() -> Path:
    """The folder that `fetch_face_models` fills, in the user's store (VIVANT_HOME moves it)."""
    return store_folder() / "face_models"


def find_face_model(model: ModelFile) -> Path:
    """The first place that holds `model`; the contents are checked when they are read."""
    named = os.environ.get(FOLDER_VARIABLE)
    if named:
        path = Path(named).expanduser() / model.name
        if path.is_file():
            return path
        raise SetupError(
            f"{FOLDER_VARIABLE} names {Path(named)}, which has no {model.name}. "
            f"Correct it, or unset it and run `{FIX_COMMAND}`."
        )
    for path in (cache_folder() / model.name, *_installed_carrier(model)):
        if path.is_file():
            return path
    raise SetupError(
        f"The {model.purpose} ({model.name}) is not on this machine. Run `{FIX_COMMAND}` to fetch it."
    )


def checked_face_model(model: ModelFile) -> Path:
    """Path of a model file whose SHA-256 is right."""
    path = find_face_model(model)
    if not _is_right(path, model):
        raise SetupError(
            f"{path} is not the published {model.purpose} (its SHA-256 differs). "
            f"Delete it and run `{FIX_COMMAND}`."
        )
    return path


def limit_threads(count: int) -> None:
    """Of all picture operations of this process (OpenCV's). Face networks, of a millisecond each, take one."""
    cv2.setNumThreads(count)


class FaceNetwork:
    """A network out of its file. It is not thread-safe: each thread loads its own."""

    def __init__(self, model: ModelFile) -> None:
        from ai_edge_litert.interpreter import Interpreter

        path = str(checked_face_model(model))
        with _making, _quiet_stderr():
            self._interpreter = Interpreter(model_path=path, num_threads=1)
            self._interpreter.allocate_tensors()
        self._input = self._interpreter.get_input_details()[0]["index"]
        self._outputs = {row["name"]: row["index"] for row in self._interpreter.get_output_details()}

    def __call__(self, picture: np.ndarray, *names: str) -> list[np.ndarray]:
        """float32 (H, W, 3) of the size and range that the network wants -> the outputs of these names."""
        self._interpreter.set_tensor(self._input, picture[None])
        self._interpreter.invoke()
        return [self._interpreter.get_tensor(self._outputs[name]) for name in names]


_making = threading.Lock()
"""Two threads that turn one descriptor away and back would leave it turned away."""


@contextmanager
def _quiet_stderr() -> Iterator[None]:
    """LiteRT tells every user of a command, on file descriptor 2, that it has found its own CPU kernels."""
    try:
        kept = os.dup(2)
    except OSError:  # closed, as a service may have it
        yield
        return
    try:
        with open(os.devnull, "wb") as nothing:
            os.dup2(nothing.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def face_models_available() -> bool:
    """Whether all three files are present and right."""
    try:
        for model in FACE_MODELS:
            checked_face_model(model)
    except SetupError:
        return False
    return True


def fetch_face_models(progress: Callable[[str], None] | None = None) -> Path:
    """Bring the three files and their licence into the cache with pip; returns the cache folder.

    Does nothing when the cache is complete. `progress` receives short sentences.
    """
    report = progress or (lambda _sentence: None)
    folder = cache_folder()
    if all(_is_right(folder / model.name, model) for model in FACE_MODELS):
        report(f"The face models are already in {folder}.")
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as work:
        report(f"Downloading {CARRIER} (36 MB), the carrier of the face models.")
        wheel = _download_carrier(Path(work))
        report("Unpacking and checking the face models (4 MB).")
        _unpack(wheel, Path(work), folder)
    report(f"The face models are in {folder}.")
    return folder


def _installed_carrier(model: ModelFile) -> list[Path]:
    spec = importlib.util.find_spec("mediapipe")
    roots = list(spec.submodule_search_locations or ()) if spec is not None else []
    return [Path(root).parent / model.member for root in roots]


def _is_right(path: Path, model: ModelFile) -> bool:
    return path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == model.sha256


def _download_carrier(folder: Path) -> Path:
    reason = ""
    for platform in CARRIER_PLATFORMS:
        command = [sys.executable, "-m", "pip", "download", CARRIER, "--no-deps", "--only-binary=:all:"]
        command += ["--python-version", CARRIER_PYTHON, "--implementation", "cp", "--platform", platform]
        command += ["--dest", str(folder), "--disable-pip-version-check", "--quiet"]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        wheels = sorted(folder.glob("mediapipe-*.whl"))
        if result.returncode == 0 and wheels:
            return wheels[0]
        if "No module named pip" in result.stderr:
            raise SetupError(
                "Fetching the face models needs pip, which this environment lacks. "
                f"Run `python -m ensurepip` (or `uv pip install pip`), then `{FIX_COMMAND}`."
            )
        reason = result.stderr.strip().splitlines()[-1] if result.stderr.strip() else "pip gave no reason"
    raise SetupError(
        f"pip could not download {CARRIER}: {reason}. Check the connection to the package index, "
        f"or put the three files into a folder and name it in {FOLDER_VARIABLE}."
    )


def _unpack(wheel: Path, work: Path, folder: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        contents = {model.name: archive.read(model.member) for model in FACE_MODELS}
        contents[LICENSE_FILE] = archive.read(CARRIER_LICENSE_MEMBER)
    for model in FACE_MODELS:
        if hashlib.sha256(contents[model.name]).hexdigest() != model.sha256:
            raise SetupError(f"{model.name} in {wheel.name} is not the published file; nothing installed.")
    for name, content in contents.items():
        part = work / name
        part.write_bytes(content)
        os.replace(part, folder / name)
