"""The checks of `vivant doctor`. Each looks at one thing and, if it is wrong, knows the command that mends it."""

from __future__ import annotations

import ctypes.util
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from vivant.errors import VivantError
from vivant.presets import PRESETS, Preset, find_checkpoint

PIP = f"{Path(sys.executable).name} -m pip"
OPENCV_WHEELS = ("opencv-python", "opencv-contrib-python", "opencv-contrib-python-headless")
"""All unpack into the same folder as opencv-python-headless, and the last one installed wins."""
ENOUGH_BYTES = 1_000_000_000
OLDEST_PYTHON = (3, 11)


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What one check saw."""

    name: str
    found: str
    ok: bool = True
    required: bool = True
    """False: only a part of the program needs it."""
    fix: str | None = None
    """A command line, where not ok."""


def all_checks() -> list[Finding]:
    """Every check, in the order in which problems should be mended."""
    checks: list[Callable[[], Finding]] = [
        check_python,
        check_torch,
        check_torchvision,
        check_opencv,
        check_codecs,
        check_face_models,
        *(partial(check_weights, preset) for preset in PRESETS.values() if preset.embedded),
        check_disk,
        check_numba,
        check_studio_face_model,
        check_espeak,
        check_flite,
    ]
    return [_guarded(check) for check in checks]


def _guarded(check: Callable[[], Finding]) -> Finding:
    """What a check saw; a package that cannot even be imported is a finding too."""
    try:
        return check()
    except ImportError as error:
        fix = f"{PIP} install --force-reinstall vivant"
        return Finding(name=error.name or "imports", found=f"cannot be imported: {error}", ok=False, fix=fix)


def check_python() -> Finding:
    ok = sys.version_info >= OLDEST_PYTHON
    wanted = ".".join(map(str, OLDEST_PYTHON))
    return Finding(
        name="python",
        found=platform.python_version(),
        ok=ok,
        fix=None if ok else f"uv venv --python {wanted}",
    )


def check_torch() -> Finding:
    """A CPU build beside an NVIDIA card, or a build without code for the card, is the commonest slow install."""
    import torch

    has_card = shutil.which("nvidia-smi") is not None or Path("/proc/driver/nvidia/version").exists()
    if not torch.cuda.is_available():
        if not has_card:
            return Finding(name="torch", found=f"{torch.__version__}, CPU")
        if torch.version.cuda is None:
            fix = f"{PIP} install --force-reinstall torch --index-url https://download.pytorch.org/whl/cu130"
            return Finding(
                name="torch",
                found=f"{torch.__version__} is a CPU build beside an NVIDIA card",
                ok=False,
                fix=fix,
            )
        found = f"{torch.__version__} does not see the NVIDIA card: its driver is older than CUDA {torch.version.cuda}"
        return Finding(name="torch", found=found, ok=False, fix="nvidia-smi  (then update the driver)")
    major, minor = torch.cuda.get_device_capability()
    card = torch.cuda.get_device_name()
    if (
        f"sm_{major}{minor}" not in torch.cuda.get_arch_list()
        and f"sm_{major}0" not in torch.cuda.get_arch_list()
    ):
        fix = f"{PIP} install --upgrade torch"
        return Finding(name="torch", found=f"{torch.__version__} has no code for {card}", ok=False, fix=fix)
    return Finding(name="torch", found=f"{torch.__version__}, {card}")


def check_torchvision() -> Finding:
    """Not needed; one that does not fit torch breaks other packages when they import it."""
    if find_spec("torchvision") is None:
        return Finding(name="torchvision", found="not installed, not needed")
    command = [sys.executable, "-c", "import torchvision"]
    ok = subprocess.run(command, capture_output=True, check=False).returncode == 0
    found = "installed, not needed" if ok else "installed and does not fit torch"
    fix = None if ok else f"{PIP} uninstall --yes torchvision"
    return Finding(name="torchvision", found=found, ok=ok, fix=fix)


def check_opencv() -> Finding:
    headless = _version("opencv-python-headless")
    others = [name for name in OPENCV_WHEELS if _version(name) is not None]
    if headless is not None and not others:
        return Finding(name="opencv", found=f"headless {headless}")
    remove = f"{PIP} uninstall --yes {' '.join(others)} && " if others else ""
    fix = f"{remove}{PIP} install --force-reinstall --no-deps opencv-python-headless"
    found = f"{', '.join(others) or 'nothing'} instead of opencv-python-headless alone"
    return Finding(name="opencv", found=found, ok=False, fix=fix)


def check_codecs() -> Finding:
    from vivant.media.codecs import ENCODERS, missing_encoders

    missing = missing_encoders()
    if not missing:
        return Finding(name="video and sound", found=f"PyAV {_version('av')} with {', '.join(ENCODERS)}")
    fix = f"{PIP} install --force-reinstall --only-binary=:all: av"
    return Finding(name="video and sound", found=f"PyAV lacks {', '.join(missing)}", ok=False, fix=fix)


def check_face_models() -> Finding:
    from vivant.face.models import FACE_MODELS, FIX_COMMAND, checked_face_model

    try:
        folders = {str(checked_face_model(model).parent) for model in FACE_MODELS}
    except VivantError as error:
        return Finding(name="face models", found=str(error), ok=False, fix=FIX_COMMAND)
    return Finding(name="face models", found=", ".join(sorted(folders)))


def check_weights(preset: Preset) -> Finding:
    from vivant.checkpoint import WEIGHTS, read_config, sha256_of

    found, ok = str(preset.folder), True
    try:
        folder = find_checkpoint(preset.name)
        if sha256_of(folder / WEIGHTS) != read_config(folder)["weights_sha256"]:
            found, ok = f"{folder / WEIGHTS} is damaged", False
    except VivantError as error:
        found, ok = str(error), False
    fix = None if ok else f"{PIP} install --force-reinstall --no-deps vivant"
    return Finding(name=preset.name, found=found, ok=ok, fix=fix)


def check_disk() -> Finding:
    from vivant.store import store_folder

    folder = store_folder()
    place = next(parent for parent in (folder, *folder.parents) if parent.exists())
    free = shutil.disk_usage(place).free
    found = f"{free / 1e9:.1f} GB free for {folder}"
    ok = free >= ENOUGH_BYTES
    fix = None if ok else "export VIVANT_HOME=/a/larger/disk  (or free some space)"
    return Finding(name="cache", found=found, ok=ok, required=False, fix=fix)


def check_numba() -> Finding:
    ok = find_spec("numba") is not None
    found = f"numba {_version('numba')}" if ok else "numba is missing: no `vivant studio`, no `vivant train`"
    fix = None if ok else f"{PIP} install 'vivant[studio,train]'"
    return Finding(name="studio, training", found=found, ok=ok, required=False, fix=fix)


def check_studio_face_model() -> Finding:
    if find_spec("numba") is None:
        return Finding(name="studio face model", found="not looked for", ok=False, required=False)
    from vivant.studio.face_model import face_model_path

    path = face_model_path()
    ok = path.is_file()
    found = str(path) if ok else "missing: no `vivant studio`"
    fix = None if ok else "vivant studio fetch"
    return Finding(name="studio face model", found=found, ok=ok, required=False, fix=fix)


def check_espeak() -> Finding:
    return _voices("espeak-ng", ctypes.util.find_library("espeak-ng") is not None)


def check_flite() -> Finding:
    return _voices("flite", shutil.which("flite") is not None)


def _voices(package: str, present: bool) -> Finding:
    found = "installed" if present else "missing: fewer voices for `vivant studio clip`"
    fix = None if present else f"sudo apt-get install {package}"
    return Finding(name=package, found=found, ok=present, required=False, fix=fix)


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
