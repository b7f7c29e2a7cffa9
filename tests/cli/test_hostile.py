"""Bad input and bad luck: one sentence that names the file, exit code 2, and nothing left behind.

Odd but honest pictures work.
"""

from __future__ import annotations

import errno
import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
import wave
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vivant.animation import Animation
from vivant.errors import VivantError
from vivant.media.audio import read_audio
from vivant.media.reader import read_clip

from .lines import Outcome, Run, left_in, shifted, tone, write_driving


def refused(done: Outcome, *parts: str) -> None:
    """One sentence with those parts, exit code 2."""
    assert done.code == 2, done
    assert done.out == ""
    assert done.err.startswith("vivant: ")
    assert len(done.err.splitlines()) == 1, done.err
    for part in parts:
        assert part in done.err
    assert "Traceback" not in done.err


@pytest.fixture
def animate(run: Run, here: Path, media: Path, tiny: Path) -> Callable[..., Outcome]:
    """Animate good input, but for what is given."""

    def line(*more: object, source: object = None, driving: object = None, preset: object = None) -> Outcome:
        return run(
            "animate", "-s", source or media / "face.png", "-d", driving or media / "one.mp4",
            "--preset", preset or tiny, *more,
        )  # fmt: skip

    return line


def silence(path: Path) -> None:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(bytes(1600))


def half_of(whole: Path) -> bytes:
    content = whole.read_bytes()
    return content[: len(content) // 2]


def most_of(whole: Path) -> bytes:
    """All but the end of the last picture."""
    return whole.read_bytes()[:-20]


def corrupted(whole: Path) -> bytes:
    content = bytearray(whole.read_bytes())
    content[len(content) // 4 : 3 * len(content) // 4] = bytes(len(content) // 2)
    return bytes(content)


def zero_frames(path: Path, media: Path) -> None:
    """A whole MP4 header of a picture track, without one picture."""
    import av

    with av.open(str(path), "w", format="mp4") as container:
        container.add_stream("libx264", rate=25, width=64, height=64)
        container.start_encoding()


SOURCES: dict[str, tuple[Callable[[Path, Path], object], str]] = {
    "missing.png": (lambda path, media: None, "does not exist; check the path"),
    "empty.png": (lambda path, media: path.touch(), "is empty"),
    "truncated.png": (lambda path, media: path.write_bytes(half_of(media / "face.png")), "damaged"),
    "corrupted.png": (lambda path, media: path.write_bytes(corrupted(media / "face.png")), "damaged"),
    "text.png": (lambda path, media: path.write_text("not a picture"), "is not a picture"),
    "clip.png": (lambda path, media: shutil.copy(media / "one.mp4", path), "is not a picture"),
    "folder.png": (lambda path, media: path.mkdir(), "is a folder"),
    "no_face.png": (lambda path, media: Image.new("RGB", (300, 200), "green").save(path), "no face found in"),
    "one_pixel.png": (lambda path, media: Image.new("RGB", (1, 1)).save(path), "no face found in"),
    "bomb.png": (lambda path, media: Image.new("1", (9000, 9000)).save(path), "million pixels"),
    "poster.png": (
        lambda path, media: Image.new("1", (7000, 6000)).save(path),
        "7000x6000, more than a video holds",
    ),
    "small_face.png": (
        lambda path, media: Image.open(media / "face.png").resize((100, 100)).save(path),
        "is too small: 25 px, at least 32 needed",
    ),
}


@pytest.mark.parametrize("name", SOURCES)
def test_bad_source(animate: Callable[..., Outcome], here: Path, media: Path, name: str) -> None:
    make, says = SOURCES[name]
    make(here / name, media)
    before = left_in(here)
    refused(animate(source=name), name, says)
    assert left_in(here) == before


DRIVINGS: dict[str, tuple[Callable[[Path, Path], object], str]] = {
    "missing.mp4": (lambda path, media: None, "does not exist; check the path"),
    "empty.mp4": (lambda path, media: path.touch(), "is empty"),
    "half.mp4": (lambda path, media: path.write_bytes(half_of(media / "drive.mp4")), "export it again"),
    "truncated.mp4": (
        lambda path, media: path.write_bytes(most_of(media / "drive.mp4")),
        "cut short: 4 of about 5",
    ),
    "corrupted.mp4": (lambda path, media: path.write_bytes(corrupted(media / "drive.mp4")), ""),
    "text.mp4": (lambda path, media: path.write_text("not a video\n" * 99), "is not a video"),
    "sound.wav": (lambda path, media: silence(path), "has only sound, which cannot drive"),
    "nothing.mp4": (zero_frames, "no picture that can be decoded"),
    "folder": (lambda path, media: path.mkdir(), "holds no pictures"),
    "frames_%03d.png": (lambda path, media: None, "no file matches"),
}


@pytest.mark.parametrize("name", DRIVINGS)
def test_bad_driving(animate: Callable[..., Outcome], here: Path, media: Path, name: str) -> None:
    make, says = DRIVINGS[name]
    make(here / name, media)
    before = left_in(here)
    refused(animate(driving=name), name, says)
    assert left_in(here) == before


def honest(path: Path, face: np.ndarray) -> tuple[int, int]:
    """Write the picture that the name says; returns the width and height that the video should have."""
    picture = Image.fromarray(face)
    if path.name == "odd.png":
        picture = picture.crop((0, 0, 397, 399))
    elif path.name == "grey.png":
        picture = picture.convert("L")
    elif path.name == "sixteen.png":
        picture = Image.fromarray(np.asarray(picture.convert("L")).astype(np.uint16) * 257)
    elif path.name == "cmyk.jpg":
        picture = picture.convert("CMYK")
    elif path.name == "rgba.webp":
        picture.putalpha(Image.new("L", picture.size, 200))
    elif path.name == "palette.gif":
        picture = picture.convert("P")
    elif path.name == "huge.jpg":
        picture = picture.resize((2400, 2400))
    if path.name == "rotated.jpg":
        exif = Image.Exif()
        exif[0x0112] = 6
        picture.crop((0, 0, 400, 360)).transpose(Image.Transpose.ROTATE_90).save(path, exif=exif)
        return 400, 360
    picture.save(path)
    return picture.width + picture.width % 2, picture.height + picture.height % 2


@pytest.mark.parametrize(
    "name",
    ["odd.png", "grey.png", "sixteen.png", "cmyk.jpg", "rgba.webp", "palette.gif", "rotated.jpg", "huge.jpg"],
)
def test_odd_but_honest_sources(
    animate: Callable[..., Outcome], here: Path, face: np.ndarray, name: str
) -> None:
    width, height = honest(here / name, face)
    done = animate("-o", "out.mp4", source=name)
    assert done.code == 0, done.err
    assert f"{width}x{height}" in done.out


def test_a_driving_clip_without_any_face(animate: Callable[..., Outcome], here: Path) -> None:
    """The default holds the portrait and says so; --on-missing fail refuses."""
    write_driving(here / "wall.mp4", [np.full((64, 64, 3), 90, np.uint8)] * 2)
    done = animate("-o", "out.mp4", driving="wall.mp4")
    assert done.code == 0
    assert "no face in 2 of 2 driving frames" in done.err
    refused(animate("-o", "no.mp4", "--on-missing", "fail", driving="wall.mp4"), "wall.mp4", "no face")
    assert "no.mp4" not in left_in(here)


def test_truncated_input_can_be_used(animate: Callable[..., Outcome], here: Path, media: Path) -> None:
    (here / "cut.mp4").write_bytes(most_of(media / "drive.mp4"))
    done = animate("-o", "out.mp4", "--allow-truncated", driving="cut.mp4")
    assert done.code == 0, done.err
    assert "4 frames" in done.out or "5 frames" in done.out


def test_a_truncated_clip_ends_where_the_file_does(
    run: Run, here: Path, face: np.ndarray, tiny: Path
) -> None:
    """Picture and sound, as driver and as source: nothing stands still until the end that the header says."""
    images = shifted(face, 30)
    whole = write_driving(here / "whole.mp4", images, Fraction(10), tone(here / "tone.wav", 3.0))
    (here / "cut.mp4").write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    Image.fromarray(face).save(here / "face.png")
    with read_clip(here / "cut.mp4", allow_truncated=True) as clip:
        good = len(list(clip))
        assert 5 < good < 28
        assert clip.duration is not None
        assert clip.num_frames_estimate is not None
        assert abs(clip.duration * 10 - good) <= 2
        assert abs(clip.num_frames_estimate - good) <= 2
    line = ("animate", "--preset", tiny, "--allow-truncated")
    for source, driving, more in (
        ("face.png", "cut.mp4", ("--compare",)),
        ("cut.mp4", "whole.mp4", ()),
        ("whole.mp4", "cut.mp4", ()),
    ):
        done = run(*line, "-s", source, "-d", driving, *more, "-o", "o.mp4", "--overwrite")
        assert done.code == 0, done.err
        with read_clip(here / "o.mp4") as clip:
            assert abs(len(list(clip)) - good) <= 2
            assert clip.has_audio
        sound = np.concatenate([chunk.samples for chunk in read_audio(here / "o.mp4", 16000, 1)])
        assert len(sound) / 16000 <= good / 10 + 0.3
    with pytest.raises(VivantError, match="cut short"):
        list(read_clip(here / "cut.mp4"))
    intact = [list(read_clip(whole, allow_truncated=allowed)) for allowed in (False, True)]
    assert len(intact[0]) == len(intact[1]) == 30


def soundless(path: Path, media: Path) -> Path:
    """Pictures, with a sound track of which nothing can be decoded."""
    import av

    with av.open(str(media / "drive.mp4")) as source, av.open(str(path), "w", format="matroska") as made:
        stream = made.add_stream_from_template(source.streams.video[0])
        sound = made.add_stream("flac", rate=16000, layout="mono")
        for packet in source.demux(video=0):
            if packet.pts is not None:
                packet.stream = stream
                made.mux(packet)
        broken = av.Packet(b"\xff" * 200)
        broken.pts = broken.dts = 0
        broken.time_base, broken.stream = Fraction(1, 16000), sound
        made.mux(broken)
    return path


def test_sound_that_cannot_be_carried_is_refused_at_once(
    animate: Callable[..., Outcome], here: Path, media: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is added behind the last frame, when all would be lost."""
    path = soundless(here / "broken.mkv", media)
    with monkeypatch.context() as patched:
        patched.setattr(Animation, "__next__", None)  # no frame is made
        for more in (("-o", "o.mp4"), ("-o", "o/%d.png", "--compare")):
            says = (
                "no sound of broken.mkv can be decoded; export it again, or leave it out with --audio none."
            )
            refused(animate(*more, driving=path.name), says)
            assert left_in(here) == ["broken.mkv"]
    for name, more in (("a.mp4", ("--audio", "none")), ("o/%d.png", ())):
        done = animate("-o", name, *more, driving=path.name)
        assert done.code == 0, done.err


# What is written


def test_existing_outputs_are_kept(animate: Callable[..., Outcome], here: Path) -> None:
    for name in ("out.mp4", "out.json", "out--compare.mp4"):
        (here / name).write_text("mine")
        refused(animate("-o", "out.mp4", "--compare"), name, "--overwrite")
        assert (here / name).read_text() == "mine"
        assert left_in(here) == [name]
        (here / name).unlink()
    (here / "out.mp4").write_text("mine")
    assert animate("-o", "out.mp4", "--overwrite").code == 0
    assert (here / "out.mp4").stat().st_size > 100


@pytest.mark.parametrize(
    ("output", "says"),
    [
        ("nowhere/out.mp4", "its folder does not exist"),
        ("out.avi", "name it .mp4 or .mov"),
        ("a" * 300 + ".mp4", "the name is too long"),
        ("/dev/null", "exists already and is a file"),
        ("/proc/out.mp4", "cannot be written"),
    ],
)
def test_bad_output(animate: Callable[..., Outcome], here: Path, output: str, says: str) -> None:
    refused(animate("-o", output, "--overwrite"), output, says)
    assert left_in(here) == []


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is unwritable for root")
def test_unwritable_folder(animate: Callable[..., Outcome], here: Path) -> None:
    (here / "locked").mkdir(mode=0o500)
    refused(animate("-o", "locked/out.mp4"), "locked/out", "may not be written to")


def test_an_input_is_never_the_output(animate: Callable[..., Outcome], here: Path, media: Path) -> None:
    shutil.copy(media / "one.mp4", here / "one.mp4")
    before = (here / "one.mp4").read_bytes()
    refused(animate("-o", "one.mp4", "--overwrite", driving="one.mp4"), "one.mp4 is the driving file itself")
    assert (here / "one.mp4").read_bytes() == before
    assert left_in(here) == ["one.mp4"]


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 kB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("needs the right to mount")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_full_disk(animate: Callable[..., Outcome], media: Path, tiny_disk: Path) -> None:
    refused(
        animate("-o", tiny_disk / "out.mp4", "--crf", "0", driving=media / "drive.mp4"),
        str(tiny_disk / "out.mp4"),
        "the disk is full; free some space or choose another folder",
    )
    assert left_in(tiny_disk) == []


def test_full_disk_at_the_very_end(
    animate: Callable[..., Outcome], here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    refused(animate("-o", "out.mp4", "--compare"), "the disk is full")
    assert left_in(here) == []


# Checkpoints


class Bomb:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return open, ("exploded", "w")


def broken_checkpoint(kind: str, tiny: Path, folder: Path) -> Path:
    """A copy of the tiny checkpoint with one thing wrong; returns what to give as --preset."""
    from safetensors.torch import load_file, save_file

    folder = folder / kind
    shutil.copytree(tiny, folder)
    weights = folder / "model.safetensors"
    tensors = load_file(weights)
    name = sorted(tensors)[0]
    if kind == "missing_key":
        save_file({key: value for key, value in tensors.items() if key != name}, weights)
    elif kind == "wrong_shape":
        save_file(tensors | {name: tensors[name].new_zeros(3, 1, 4)}, weights)
    elif kind == "truncated":
        weights.write_bytes(half_of(weights))
    elif kind == "lfs_pointer":
        weights.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    elif kind == "other_bytes":
        content = bytearray(weights.read_bytes())
        content[-1] ^= 1
        weights.write_bytes(content)
    elif kind == "pickle_inside":
        weights.write_bytes(pickle.dumps(Bomb(), protocol=2))
    elif kind == "pickle.pth":
        shutil.rmtree(folder)
        folder.write_bytes(pickle.dumps(Bomb(), protocol=2))
    elif kind == "no_config":
        (folder / "config.json").unlink()
    elif kind == "bad_config":
        (folder / "config.json").write_text("{")
    return folder


def rehash(folder: Path) -> None:
    """Make the hash right, so that the check after it is reached."""
    import json

    from vivant.checkpoint import sha256_of

    config = json.loads((folder / "config.json").read_text())
    config["weights_sha256"] = sha256_of(folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("missing_key", "lacks"),
        ("wrong_shape", "wrong shape"),
        ("truncated", "truncated"),
        ("lfs_pointer", "Git LFS pointer"),
        ("other_bytes", "has hash"),
        ("pickle_inside", "can run code"),
        ("pickle.pth", "can run code"),
        ("no_config", "has no config.json"),
        ("bad_config", "is not JSON"),
    ],
)
def test_bad_checkpoint(
    animate: Callable[..., Outcome], here: Path, tmp_path: Path, tiny: Path, kind: str, says: str
) -> None:
    preset = broken_checkpoint(kind, tiny, tmp_path / "broken")
    if kind in ("missing_key", "wrong_shape"):
        rehash(preset)
    refused(animate(preset=preset), str(preset), says)
    assert left_in(here) == [], "the code in the pickle did not run, and nothing was written"


def test_unknown_preset(animate: Callable[..., Outcome], here: Path) -> None:
    refused(animate(preset="liveportrait-nano"), "liveportrait-nano is neither a preset (")


def test_convert_never_runs_code(run: Run, here: Path) -> None:
    names = (
        "appearance_feature_extractor", "motion_extractor", "warping_module", "spade_generator",
        "stitching_retargeting_module",
    )  # fmt: skip
    (here / "published").mkdir()
    refused(run("convert", "published", "-o", "made"), "published lacks", "download")
    for name in names:
        (here / "published" / f"{name}.pth").write_bytes(pickle.dumps(Bomb(), protocol=2))
    refused(run("convert", "published", "-o", "made"), ".pth")
    assert left_in(here) == [f"published/{name}.pth" for name in sorted(names)]
    refused(run("convert", "published", "--preset", "liveportrait-mini"), "there are liveportrait")


# Being stopped


def test_ctrl_c_leaves_nothing(
    animate: Callable[..., Outcome], here: Path, media: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames = iter(range(3))
    original = Animation.__next__

    def stopped(self: Animation) -> np.ndarray:
        if next(frames) == 2:
            raise KeyboardInterrupt
        return original(self)

    monkeypatch.setattr(Animation, "__next__", stopped)
    done = animate("-o", "out.mp4", "--compare", driving=media / "drive.mp4")
    assert done.code == 130
    assert left_in(here) == []
    assert done.err == "vivant: interrupted.\n"


@pytest.mark.parametrize(("number", "code", "files"), [(signal.SIGINT, 130, 2), (signal.SIGTERM, 143, 1)])
def test_signals(
    here: Path, media: Path, face: np.ndarray, tiny: Path, number: int, code: int, files: int
) -> None:
    """The real program, killed politely: while it writes both videos, and as early as its first file."""
    frame = np.ascontiguousarray(face[:240, 70:310])
    write_driving(here / "long.mp4", [frame] * 1500)
    # Shells start background jobs with Ctrl-C ignored, and the tests may be one.
    start = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
    start += "from vivant.cli import program; program()"
    program = [sys.executable, "-c", start, "animate", "-s", str(media / "face.png"), "-d", "long.mp4"]
    with subprocess.Popen(
        [*program, "--preset", str(tiny), "--compare"], cwd=here, stderr=subprocess.PIPE, text=True
    ) as process:
        deadline = time.monotonic() + 200
        seen = 0
        while time.monotonic() < deadline and seen < files:
            time.sleep(0.01)
            # Begun, not merely made: an interrupt inside the few milliseconds in which an encoder is built is
            # not covered yet.
            seen = sum(path.stat().st_size > 0 for path in here.glob(".*.vivant-parts/*.mp4"))
        assert seen >= files, "it began to write"
        process.send_signal(number)
        _, errors = process.communicate(timeout=90)
    assert process.returncode == code, errors
    assert "Traceback" not in errors
    assert left_in(here) == ["long.mp4"]


def test_bugs_are_not_hidden(animate: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: Animation) -> np.ndarray:
        raise ZeroDivisionError

    assert not issubclass(ZeroDivisionError, VivantError)
    monkeypatch.setattr(Animation, "__next__", broken)
    with pytest.raises(ZeroDivisionError):
        animate("-o", "out.mp4")
