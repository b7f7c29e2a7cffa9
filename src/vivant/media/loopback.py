"""A virtual camera on Linux: pictures into a video device that programs read as if it were a camera (v4l2loopback).

Two ioctls of videodev2.h and a write for each picture. The bundled FFmpeg cannot write to such devices.
"""

from __future__ import annotations

import ctypes
import os
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
from av.video.frame import VideoFrame

from vivant.errors import InputError
from vivant.media.outlet import Outlet, fitted

DEVICES = Path("/dev")
REMEDY = "load one with `sudo modprobe v4l2loopback exclusive_caps=1` (Debian and Ubuntu: v4l2loopback-dkms)"

_OUTPUT = 2
"""V4L2_BUF_TYPE_VIDEO_OUTPUT, and V4L2_CAP_VIDEO_OUTPUT."""
_HAS_DEVICE_CAPS = 0x8000_0000
_PROGRESSIVE, _BT601 = 1, 1
"""V4L2_FIELD_NONE, V4L2_COLORSPACE_SMPTE170M."""
YUYV = int.from_bytes(b"YUYV", "little")
"""4:2:2, two bytes a pixel: what readers of virtual cameras know."""


class Capability(ctypes.Structure):
    """struct v4l2_capability."""

    _fields_ = (
        ("driver", ctypes.c_char * 16),
        ("card", ctypes.c_char * 32),
        ("bus_info", ctypes.c_char * 32),
        ("version", ctypes.c_uint32),
        ("capabilities", ctypes.c_uint32),
        ("device_caps", ctypes.c_uint32),
        ("reserved", ctypes.c_uint32 * 3),
    )


class _Picture(ctypes.Structure):
    """struct v4l2_pix_format."""

    _fields_ = tuple(
        (name, ctypes.c_uint32)
        for name in (
            "width",
            "height",
            "pixelformat",
            "field",
            "bytesperline",
            "sizeimage",
            "colorspace",
            "priv",
            "flags",
            "ycbcr_enc",
            "quantization",
            "xfer_func",
        )
    )


class _Kinds(ctypes.Union):
    # The pointer is there for the union's alignment: one of the kernel's other members has one.
    _fields_ = (("pix", _Picture), ("raw", ctypes.c_uint8 * 200), ("pointer", ctypes.c_void_p))


class Format(ctypes.Structure):
    """struct v4l2_format."""

    _fields_ = (("type", ctypes.c_uint32), ("fmt", _Kinds))


def _request(direction: int, number: int, kind: type[ctypes.Structure]) -> int:
    """_IOC of asm-generic/ioctl.h, type 'V'."""
    return direction << 30 | ctypes.sizeof(kind) << 16 | ord("V") << 8 | number


QUERY_CAPABILITY = _request(2, 0, Capability)
SET_FORMAT = _request(3, 5, Format)


class Loopback(Outlet):
    """A device that is read as a camera."""

    def __init__(self, device: str | None, width: int, height: int) -> None:
        """device: such as /dev/video3; None: the first that takes pictures. Raises InputError."""
        if not sys.platform.startswith("linux"):
            raise InputError("v4l2 is Linux's; here open the page (`vivant serve`) and capture it with OBS.")
        self.device = device or _first_device()
        self.width, self.height = width // 2 * 2, height // 2 * 2
        self._file = _opened(self.device)
        try:
            if not _takes_pictures(self._file):
                raise InputError(
                    f"{self.device} takes no pictures: it is a camera, or no video device; {REMEDY}."
                )
            self._agree()
        except BaseException:
            self.close()
            raise

    def write(self, image: np.ndarray, seconds: float) -> None:
        """The reader sees it now, whatever `seconds` says."""
        frame = VideoFrame.from_ndarray(fitted(image, self.width, self.height), format="rgb24")
        # swscale's own default for RGB to YUV is BT.601 with limited range, which is what was agreed on.
        data = frame.reformat(format="yuyv422").to_ndarray().tobytes()
        try:
            os.write(self._file, data)
        except OSError as error:
            raise InputError(f"{self.device} takes no more pictures ({error.strerror}).") from error

    def close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
        self._file = -1

    def _agree(self) -> None:
        wanted = Format(type=_OUTPUT)
        picture = wanted.fmt.pix
        picture.width, picture.height, picture.pixelformat = self.width, self.height, YUYV
        picture.field, picture.colorspace = _PROGRESSIVE, _BT601
        picture.bytesperline, picture.sizeimage = self.width * 2, self.width * self.height * 2
        try:
            _ask(self._file, SET_FORMAT, wanted)
        except OSError as error:
            raise InputError(
                f"{self.device} does not take pictures of {self.width}x{self.height} ({error.strerror}); end what "
                "reads it, and run it again."
            ) from error
        if (picture.width, picture.height, picture.pixelformat) != (self.width, self.height, YUYV):
            raise InputError(
                f"{self.device} keeps to {picture.width}x{picture.height}, not {self.width}x{self.height}; end "
                "what reads it, and run it again."
            )


def _first_device() -> str:
    names = [path for path in DEVICES.glob("video*") if re.fullmatch(r"video\d+", path.name)]
    for path in sorted(names, key=lambda path: int(path.name[5:])):
        try:
            file = os.open(path, os.O_RDWR)
        except OSError:  # another user's, or busy; the next one may do
            continue
        try:
            if _takes_pictures(file):
                return str(path)
        finally:
            os.close(file)
    raise InputError(f"there is no video device that takes pictures; {REMEDY}, or name it: --to /dev/video3.")


def _opened(device: str) -> int:
    try:
        return os.open(device, os.O_RDWR)
    except FileNotFoundError as error:
        raise InputError(f"there is no {device}; {REMEDY}.") from error
    except OSError as error:
        raise InputError(
            f"{device} cannot be opened ({error.strerror}); close what uses it, or join the group video."
        ) from error


def _takes_pictures(file: int) -> bool:
    told = Capability()
    try:
        _ask(file, QUERY_CAPABILITY, told)
    except OSError:  # no video device at all
        return False
    own = told.capabilities & _HAS_DEVICE_CAPS
    return bool((told.device_caps if own else told.capabilities) & _OUTPUT)


def _ask(file: int, request: int, what: Any) -> None:
    import fcntl  # not there on Windows

    fcntl.ioctl(file, request, what)
