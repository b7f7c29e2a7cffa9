"""The virtual camera, against the kernel's own header; fake_v4l2.c plays the device, which this machine lacks."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from av.video.frame import VideoFrame

from vivant.errors import InputError
from vivant.media import loopback
from vivant.media.loopback import Loopback

HEADER = Path("/usr/include/linux/videodev2.h")
needs_compiler = pytest.mark.skipif(
    shutil.which("cc") is None or not HEADER.is_file(), reason="there is no C compiler or no videodev2.h"
)
WIDTH, HEIGHT = 66, 48


@pytest.fixture(scope="module")
def fake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    library = tmp_path_factory.mktemp("fake") / "fake_v4l2.so"
    source = Path(__file__).with_name("fake_v4l2.c")
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
    return library


def run(code: str, fake: Path, tmp_path: Path, **more: str) -> subprocess.CompletedProcess[str]:
    surroundings = {
        **os.environ,
        "LD_PRELOAD": str(fake),
        "V4L2_PICTURES": str(tmp_path / "pictures"),
        "V4L2_IS_CAMERA": "0",
        "V4L2_KEEPS": "0",
        **more,
    }
    code = f"import numpy as np; from vivant.media.loopback import Loopback\n{code}"
    return subprocess.run(
        [sys.executable, "-c", code], env=surroundings, capture_output=True, text=True, timeout=120
    )


@needs_compiler
def test_the_kernel_reads_what_was_meant_and_a_reader_sees_the_pictures(fake: Path, tmp_path: Path) -> None:
    done = run(
        f"with Loopback('/dev/video97', {WIDTH + 1}, {HEIGHT}) as camera:\n"
        "    for level in (30, 200):\n"
        f"        camera.write(np.full(({HEIGHT}, {WIDTH}, 3), (level, 90, 250 - level), np.uint8), 0.0)\n",
        fake,
        tmp_path,
    )
    assert done.returncode == 0, done.stderr
    size = WIDTH * HEIGHT * 2
    expected = f"type=1 {WIDTH}x{HEIGHT} YUYV field=1 line={WIDTH * 2} size={size} colorspace=1\n"
    assert done.stderr == expected
    data = np.frombuffer((tmp_path / "pictures").read_bytes(), np.uint8).reshape(2, HEIGHT, WIDTH, 2)
    for picture, level in zip(data, (30, 200), strict=True):
        frame = VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="yuyv422")
        seen = frame.to_ndarray(format="rgb24").astype(int)
        assert np.abs(seen - (level, 90, 250 - level)).max() <= 4


@needs_compiler
@pytest.mark.parametrize(
    ("more", "says"),
    [({"V4L2_IS_CAMERA": "1"}, "takes no pictures"), ({"V4L2_KEEPS": "640"}, "keeps to 640x48")],
)
def test_devices_that_do_not_fit(fake: Path, tmp_path: Path, more: dict[str, str], says: str) -> None:
    done = run("Loopback('/dev/video97', 64, 48)", fake, tmp_path, **more)
    assert "vivant.errors.InputError: /dev/video97" in done.stderr
    assert says in done.stderr


def test_no_device_and_no_video_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loopback, "DEVICES", tmp_path)
    (tmp_path / "video3").write_bytes(b"")
    with pytest.raises(
        InputError, match="there is no video device that takes pictures; load one with `sudo modprobe"
    ):
        Loopback(None, 64, 48)
    with pytest.raises(InputError, match="takes no pictures"):
        Loopback(str(tmp_path / "video3"), 64, 48)
    with pytest.raises(InputError, match=r"there is no .*video4; load one"):
        Loopback(str(tmp_path / "video4"), 64, 48)
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(InputError, match="v4l2 is Linux's"):
        Loopback(None, 64, 48)
