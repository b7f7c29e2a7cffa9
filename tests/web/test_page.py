"""The page in a real headless Chromium with a fake camera: choose a portrait, start, see pictures, change, stop.

Skipped only where Chromium is missing.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import sync_playwright
from skimage.data import astronaut

from vivant.face.models import face_models_available
from vivant.media.audio import read_audio
from vivant.media.writer import VideoWriter
from vivant.web.app import build
from vivant.web.settings import Serving

from .conftest import running

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium"),
    pytest.mark.skipif(not face_models_available(), reason="the face models are not on this machine"),
]
TOKEN = "a-token-of-some-length"
PATIENCE_MS = 120_000


@pytest.fixture(scope="module")
def face() -> np.ndarray:
    return np.ascontiguousarray(astronaut()[:400, 40:440])


@pytest.fixture
def address(serving: Callable[..., Serving]) -> Iterator[str]:
    """A server on a free port of this machine, which asks for a token."""
    app, _ = build(serving(token=TOKEN, webrtc=True))
    with running(app) as made:
        yield made


@pytest.fixture(scope="module")
def camera(tmp_path_factory: pytest.TempPathFactory, face: np.ndarray) -> Path:
    """A clip that Chromium plays as its camera: the face, moving from side to side."""
    path = tmp_path_factory.mktemp("camera") / "face.y4m"
    with path.open("wb") as file:
        file.write(b"YUV4MPEG2 W400 H400 F25:1 Ip A1:1 C420jpeg\n")
        for index in range(25):
            shifted = np.roll(face, round(8 * np.sin(index / 4)), 1)
            luma, blue, red = Image.fromarray(shifted).convert("YCbCr").split()
            half = [np.asarray(plane.resize((200, 200))).tobytes() for plane in (blue, red)]
            file.write(b"FRAME\n" + np.asarray(luma).tobytes() + b"".join(half))
    return path


@pytest.fixture
def page(camera: Path) -> Iterator[Any]:
    flags = [
        "--no-sandbox",
        "--use-fake-device-for-media-stream",
        "--use-fake-ui-for-media-stream",
        f"--use-file-for-fake-video-capture={camera}",
    ]
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=flags)
        made = browser.new_page()
        made.set_default_timeout(PATIENCE_MS)
        yield made
        browser.close()


def until(page: Any, is_so: Callable[[], bool]) -> None:
    for _ in range(PATIENCE_MS // 100):
        if is_so():
            return
        page.wait_for_timeout(100)
    raise AssertionError(page.inner_text("body"))


def test_a_camera_drives_a_portrait_on_the_page(
    page: Any, address: str, face: np.ndarray, tmp_path: Path
) -> None:
    faults: list[str] = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("request", lambda request: faults.append(request.url) if address not in request.url else None)
    Image.fromarray(face).save(tmp_path / "face.png")
    (tmp_path / "notes.png").write_text("no picture")

    page.goto(address)
    page.fill("#token", TOKEN)
    page.keyboard.press("Enter")
    page.wait_for_selector("#token-form", state="hidden")
    page.set_input_files("#picture", tmp_path / "notes.png")
    until(page, lambda: "not a picture" in page.inner_text("#trouble"))
    assert page.is_disabled("#start")
    page.set_input_files("#picture", tmp_path / "face.png")
    page.wait_for_selector("#start:enabled")
    assert page.is_hidden("#trouble")
    assert page.inner_text("#hint") == "Press Start"
    assert page.evaluate("document.getElementById('screen').width") == 400, "the portrait as it is"
    assert page.locator("#thumb button").count() == 1

    page.focus("#start")
    page.keyboard.press("Enter")
    until(page, lambda: page.inner_text("#meter-p95").endswith("ms"))
    first = page.locator("#screen").screenshot()
    until(page, lambda: page.locator("#screen").screenshot() != first)
    page.select_option("[data-option=region]", "pose")
    page.click("#beside")
    until(page, lambda: page.evaluate("document.getElementById('screen').width") > 512)
    with page.expect_download() as download:
        page.click("#record")
        page.wait_for_timeout(1500)
        page.click("#record")
    assert download.value.path().stat().st_size > 1000
    page.click("#start")
    assert page.inner_text("#start") == "Start"
    assert page.is_hidden("#trouble"), page.inner_text("#trouble")
    assert not [fault for fault in faults if not fault.startswith(("blob:", "data:"))]


def test_a_camera_and_its_sound_over_webrtc(
    page: Any, address: str, face: np.ndarray, tmp_path: Path
) -> None:
    faults: list[str] = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    Image.fromarray(face).save(tmp_path / "face.png")
    page.goto(address)
    page.fill("#token", TOKEN)
    page.keyboard.press("Enter")
    page.set_input_files("#picture", tmp_path / "face.png")
    page.wait_for_selector("#start:enabled")
    page.check("#webrtc")
    page.check("#with-sound")
    page.click("#start")
    # Only pictures whose capture time the server told, by this browser's sender reports, have a latency.
    until(page, lambda: page.inner_text("#meter-p95").endswith("ms"))
    first = page.locator("#screen").screenshot()
    until(page, lambda: page.locator("#screen").screenshot() != first)
    with page.expect_download() as download:
        page.click("#record")
        page.wait_for_timeout(2000)
        page.click("#record")
    page.click("#start")
    assert page.inner_text("#start") == "Start"
    assert page.is_hidden("#trouble"), page.inner_text("#trouble")
    assert not faults
    assert any(np.abs(chunk.samples).max() > 0.1 for chunk in read_audio(download.value.path(), 16_000, 0.1))


def test_a_clip_is_ordered_on_the_other_half_of_the_page(
    page: Any, address: str, face: np.ndarray, tmp_path: Path
) -> None:
    faults: list[str] = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    Image.fromarray(face).save(tmp_path / "face.png")
    (tmp_path / "notes.mp4").write_text("no clip")
    with VideoWriter(tmp_path / "clip.mp4", Fraction(25), 400, 400) as writer:
        for _ in range(10):
            writer.write(face)

    page.goto(address)
    page.fill("#token", TOKEN)
    page.keyboard.press("Enter")
    page.set_input_files("#picture", tmp_path / "face.png")
    page.click("#go-render")
    page.set_input_files("#clip", tmp_path / "notes.mp4")
    until(page, lambda: "cannot be used" in page.inner_text("#trouble"))
    assert page.is_disabled("#render")
    page.set_input_files("#clip", tmp_path / "clip.mp4")
    page.wait_for_selector("#render:enabled")
    assert page.inner_text("#plan").startswith("0.4 s, 10 frames")
    assert page.is_hidden("#trouble")
    page.click("#render")
    until(page, lambda: "clip.mp4" in page.inner_text("#jobs"))
    page.click("#jobs button:text('Cancel')")
    until(page, lambda: "cancelled" in page.inner_text("#jobs"))
    assert page.is_hidden("#trouble"), page.inner_text("#trouble")
    assert not faults


def test_a_preset_that_hears_is_driven_by_the_microphone(
    page: Any, serving: Callable[..., Serving], tiny: Path, face: np.ndarray, tmp_path: Path
) -> None:
    faults: list[str] = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    Image.fromarray(face).save(tmp_path / "face.png")
    app, _ = build(serving(preset=(str(tiny), "refvae-mini")))
    with running(app) as address:
        page.goto(address)
        page.wait_for_selector("#preset-card")
        assert page.is_disabled("[name=drive][value=microphone]")
        page.select_option("#preset", "refvae-mini")
        assert page.is_disabled("[name=drive][value=camera]")
        assert page.is_checked("[name=drive][value=microphone]")
        page.set_input_files("#picture", tmp_path / "face.png")
        page.wait_for_selector("#start:enabled")
        shown = {page.locator("#screen").screenshot()}
        page.click("#start")
        for _ in range(2):  # the first picture, and another after it
            until(page, lambda: page.locator("#screen").screenshot() not in shown)
            shown.add(page.locator("#screen").screenshot())
        assert page.is_hidden("#trouble"), page.inner_text("#trouble")
        page.click("#start")
        page.select_option("#preset", "tiny")
        assert page.is_checked("[name=drive][value=camera]")
    assert not faults


def test_a_preset_that_answers_late_is_driven_without_pauses(
    page: Any, serving: Callable[..., Serving], late: Path, face: np.ndarray, tmp_path: Path
) -> None:
    """Sixteen frames go out before the first picture comes, and the server has promised enough, or says so."""
    faults: list[str] = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    Image.fromarray(face).save(tmp_path / "face.png")
    for promised in (300, 20_000):
        app, _ = build(serving(preset=(str(late),), max_latency_ms=promised))
        with running(app) as address:
            page.goto(address)
            page.set_input_files("#picture", tmp_path / "face.png")
            page.wait_for_selector("#start:enabled")
            page.click("#start")
            if promised == 300:
                until(page, lambda: "answers 600 ms after" in page.inner_text("#trouble"))
                continue
            # A frame a second, as where nothing else brings more, would show two pictures a second at most.
            until(page, lambda: page.inner_text("#meter-fps") not in ("–", "0.0"))
            until(page, lambda: float(page.inner_text("#meter-fps")) >= 4)
            assert page.is_hidden("#trouble"), page.inner_text("#trouble")
            page.click("#start")
    assert not faults
