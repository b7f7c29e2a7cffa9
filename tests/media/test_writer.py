"""Outputs are complete or absent, look like the input, and keep sound and picture together."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from vivant.errors import InputError
from vivant.media.audio import read_audio
from vivant.media.image import read_image
from vivant.media.reader import read_clip
from vivant.media.writer import ImageSequenceWriter, VideoWriter, open_writer

from .clips import (
    NTSC,
    click_times,
    clicks,
    corner_image,
    corners,
    encode_sound,
    index_clip,
    index_image,
    read_index,
    write_wav,
)

AT = [0.25, 0.5, 1.125, 1.75]


def write_indices(path: Path, count: int, rate: Fraction = Fraction(25), **more: object) -> Path:
    with VideoWriter(path, rate, 32, 32, preset="ultrafast", **more) as writer:
        for index in range(count):
            writer.write(index_image(index))
    return path


def sound_of(path: Path) -> np.ndarray:
    return np.concatenate([chunk.samples for chunk in read_audio(path, 16000, 1)])


@pytest.mark.parametrize("name", ["a.mp4", "a.MOV", "a.m4v"])
@pytest.mark.parametrize(
    "rate", [NTSC, Fraction(25), Fraction(24000, 1001), Fraction(12345, 1000), Fraction(1, 2)]
)
def test_frames_and_times_are_exact(tmp_path: Path, name: str, rate: Fraction) -> None:
    clip = read_clip(write_indices(tmp_path / name, 20, rate))
    assert [(read_index(frame.image), frame.time) for frame in clip] == [
        (index, index / rate) for index in range(20)
    ]
    assert clip.duration == 20 / rate
    assert clip.frame_rate == rate
    assert os.listdir(tmp_path) == [name], "no temporary is left"


def test_colours_and_tags(tmp_path: Path) -> None:
    """Flat colours come back within two levels, and without a drift to one side."""
    colours = np.random.default_rng(0).integers(0, 256, (6, 8, 3)).astype(np.uint8)
    image = np.kron(colours, np.ones((32, 32, 1), np.uint8))
    with VideoWriter(tmp_path / "a.mp4", Fraction(25), 256, 192, crf=4) as writer:
        for _ in range(3):
            writer.write(image)
    back = next(iter(read_clip(tmp_path / "a.mp4"))).image
    errors = back[16::32, 16::32].astype(int) - colours
    assert np.abs(errors).max() <= 4
    assert abs(errors.mean()) < 0.4
    with av.open(str(tmp_path / "a.mp4")) as container:
        context = container.streams.video[0].codec_context
        assert (context.pix_fmt, context.colorspace, context.color_range) == ("yuv420p", 1, 1)
        assert (context.color_primaries, context.color_trc) == (1, 1)
    data = (tmp_path / "a.mp4").read_bytes()
    assert data.find(b"moov") < data.find(b"mdat"), "index at the front"


@pytest.mark.parametrize("size", [(1, 1), (2, 2), (33, 32), (32, 33), (47, 31), (16, 300)])
def test_any_size(tmp_path: Path, size: tuple[int, int]) -> None:
    width, height = size
    image = np.random.default_rng(1).integers(0, 256, (height, width, 3), dtype=np.uint8)
    with VideoWriter(tmp_path / "a.mp4", Fraction(25), width, height, crf=1) as writer:
        writer.write(image)
        assert (writer.width, writer.height) == (width + width % 2, height + height % 2)
    clip = read_clip(tmp_path / "a.mp4")
    assert (clip.width, clip.height) == (writer.width, writer.height)
    back = next(iter(clip)).image.astype(int)
    if width % 2 and height > 2:
        assert np.abs(back[:, -1] - back[:, -2]).mean() < 20, "the extra column repeats the last one"


def test_quality_choice(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    sizes = []
    for crf in (10, 30, 45):
        with open_writer(tmp_path / f"{crf}.mp4", Fraction(25), 64, 64, crf=crf) as writer:
            for _ in range(5):
                writer.write(noise)
        sizes.append((tmp_path / f"{crf}.mp4").stat().st_size)
    assert sizes == sorted(sizes, reverse=True)
    for crf in (-1, 52):
        with pytest.raises(InputError, match="crf"):
            open_writer(tmp_path / "x.mp4", Fraction(25), 64, 64, crf=crf)


@pytest.mark.parametrize("codec", ["aac", "libmp3lame", "ac3", "alac"])
def test_sound_is_copied(tmp_path: Path, codec: str) -> None:
    source = encode_sound(tmp_path / "in.mp4", clicks(2, AT, 48000, 2), codec, with_video=True)
    output = write_indices(tmp_path / "out.mp4", 50, audio_from=source)
    with av.open(str(source)) as a, av.open(str(output)) as b:
        packets = [[bytes(packet) for packet in c.demux(audio=0) if packet.size] for c in (a, b)]
    assert len(packets[1]) >= 0.95 * len(packets[0])
    assert packets[1] == packets[0][: len(packets[1])]
    assert click_times(sound_of(output), 16000) == pytest.approx(AT, abs=0.003)


@pytest.mark.parametrize("kind", ["wav", "odd_rate_wav", "opus", "flac", "surround", "adts"])
def test_sound_is_encoded_where_players_need_it(tmp_path: Path, kind: str) -> None:
    shift = 0.0
    if kind == "wav":
        source = write_wav(tmp_path / "in.wav", clicks(2, AT, 44100, 2), 44100)
    elif kind == "odd_rate_wav":
        source = write_wav(tmp_path / "in.wav", clicks(2, AT, 17000, 1), 17000)
    elif kind == "opus":
        source = encode_sound(tmp_path / "in.mkv", clicks(2, AT, 48000, 2), "libopus", with_video=True)
    elif kind == "flac":
        source = encode_sound(tmp_path / "in.flac", clicks(2, AT, 48000, 1), "flac")
    elif kind == "surround":
        source = encode_sound(tmp_path / "in.flac", clicks(2, AT, 48000, 6), "flac")
    else:
        source = encode_sound(tmp_path / "in.aac", clicks(2, AT, 48000, 1), "aac")
        shift = 1024 / 48000
    output = write_indices(tmp_path / "out.mp4", 50, audio_from=source)
    with av.open(str(output)) as container:
        assert container.streams.audio[0].codec_context.name == "aac"
        assert container.streams.audio[0].codec_context.channels <= 2
    assert click_times(sound_of(output), 16000) == pytest.approx([time + shift for time in AT], abs=0.003)


@pytest.mark.parametrize("codec", ["aac", "libopus"])
@pytest.mark.parametrize("offset", [Fraction(1, 4), Fraction(-1, 5)])
def test_sound_that_starts_elsewhere_stays_in_place(tmp_path: Path, codec: str, offset: Fraction) -> None:
    source = encode_sound(
        tmp_path / "in.mkv", clicks(2, AT, 48000), codec, offset_seconds=offset, with_video=True
    )
    output = write_indices(tmp_path / "out.mp4", 60, audio_from=source)
    expected = [time + float(offset) for time in AT]
    assert click_times(sound_of(output), 16000) == pytest.approx(expected, abs=0.003)
    assert read_clip(output).duration == Fraction(60, 25)


@pytest.mark.parametrize("name", ["in.m4a", "in.flac"])
def test_picture_decides_the_length(tmp_path: Path, name: str) -> None:
    source = encode_sound(
        tmp_path / name, clicks(4, [0.5, 3.5], 48000), name.replace("in.m4a", "aac")[-4:].strip(".")
    )
    short = write_indices(tmp_path / "short.mp4", 25, audio_from=source)
    assert read_clip(short).duration == 1
    assert len(sound_of(short)) / 16000 == pytest.approx(1, abs=0.025)
    long = write_indices(tmp_path / "long.mp4", 150, audio_from=source)
    assert len(list(read_clip(long))) == 150
    assert click_times(sound_of(long), 16000) == pytest.approx([0.5, 3.5], abs=0.003)


def test_sound_from_a_silent_file(tmp_path: Path) -> None:
    source = index_clip(tmp_path / "silent.mp4", 3)
    with VideoWriter(tmp_path / "a.mp4", Fraction(25), 32, 32, audio_from=source) as writer:
        writer.write(index_image(0))
        assert not writer.has_audio
    with pytest.raises(InputError, match=r"nothing\.wav does not exist"):
        VideoWriter(tmp_path / "b.mp4", Fraction(25), 32, 32, audio_from=tmp_path / "nothing.wav")
    assert not (tmp_path / "b.mp4").exists()
    assert len(os.listdir(tmp_path)) == 2


def test_existing_output_is_refused_before_any_work(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(b"precious")
    with pytest.raises(InputError, match=r"a\.mp4 exists already; use --overwrite"):
        VideoWriter(path, Fraction(25), 32, 32)
    assert path.read_bytes() == b"precious"
    write_indices(path, 3, overwrite=True)
    assert len(list(read_clip(path))) == 3
    (tmp_path / "dir.mp4").mkdir()
    with pytest.raises(InputError, match="is a folder"):
        VideoWriter(tmp_path / "dir.mp4", Fraction(25), 32, 32, overwrite=True)


def test_output_that_appears_meanwhile_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    writer = VideoWriter(path, Fraction(25), 32, 32)
    writer.write(index_image(0))
    path.write_bytes(b"someone else's")
    with pytest.raises(InputError, match="exists already"):
        writer.close()
    assert path.read_bytes() == b"someone else's"
    assert os.listdir(tmp_path) == ["a.mp4"]


def test_overwrite_follows_links(tmp_path: Path) -> None:
    (tmp_path / "real.mp4").write_bytes(b"old")
    (tmp_path / "link.mp4").symlink_to("real.mp4")
    write_indices(tmp_path / "link.mp4", 3, overwrite=True)
    assert (tmp_path / "link.mp4").is_symlink()
    assert len(list(read_clip(tmp_path / "real.mp4"))) == 3


def test_unusable_places_are_refused_up_front(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_bytes(b"x")
    for path, message in {
        tmp_path / "no" / "a.mp4": "its folder does not exist; create it",
        tmp_path / "file" / "a.mp4": "its folder does not exist",
        tmp_path / ("x" * 300 + ".mp4"): "too long",
        Path("/proc/a.mp4"): "cannot be written",
        tmp_path / "a.xyz": "name it .mp4",
        tmp_path / "a.png": "name it .mp4",
    }.items():
        with pytest.raises(InputError, match=message):
            open_writer(path, Fraction(25), 32, 32)

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)  # root may write anywhere, so pretend
    with pytest.raises(InputError, match="may not be written to; change its permissions"):
        open_writer(tmp_path / "a.mp4", Fraction(25), 32, 32)


def test_bad_arguments(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="million pixels"):
        open_writer(tmp_path / "a.mp4", Fraction(25), 90_000, 1000)
    with pytest.raises(InputError, match=r"H\.264 cannot hold"):
        open_writer(tmp_path / "a.mp4", Fraction(25), 20_000, 64)
    with pytest.raises(InputError, match="not a frame rate"):
        open_writer(tmp_path / "a.mp4", Fraction(0), 32, 32)
    with open_writer(tmp_path / "a.mp4", Fraction(25), 32, 32) as writer:
        writer.write(index_image(0))
        with pytest.raises(ValueError, match="expected uint8"):
            writer.write(index_image(0, 34, 32))
    assert os.listdir(tmp_path) == ["a.mp4"]


@pytest.mark.parametrize("name", ["a.mp4", "frames"])
def test_closing_twice_is_harmless_and_writing_afterwards_is_not(tmp_path: Path, name: str) -> None:
    writer = open_writer(tmp_path / name, Fraction(25), 32, 32)
    writer.write(index_image(0))
    writer.close()
    writer.close()
    writer.abort()
    assert os.listdir(tmp_path) == [name]
    with pytest.raises(ValueError, match="after close"):
        writer.write(index_image(1))


def interrupted(path: Path, error: BaseException) -> None:
    with open_writer(path, Fraction(25), 32, 32) as writer:
        for index in range(30):
            writer.write(index_image(index))
        raise error


@pytest.mark.parametrize("name", ["a.mp4", "frames", "frames/%03d.jpg"])
@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("bug"), SystemExit(1)])
def test_interruption_leaves_nothing(tmp_path: Path, name: str, error: BaseException) -> None:
    with pytest.raises(type(error)):
        interrupted(tmp_path / name, error)
    assert os.listdir(tmp_path) == []


def test_nothing_written_is_an_error(tmp_path: Path) -> None:
    for name in ("a.mp4", "frames"):
        writer = open_writer(tmp_path / name, Fraction(25), 32, 32)
        with pytest.raises(InputError, match="no frame was written"):
            writer.close()
    assert os.listdir(tmp_path) == []


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 kB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("needs the right to mount")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.parametrize("name", ["a.mp4", "frames"])
def test_full_disk(tiny_disk: Path, name: str) -> None:
    noise = np.random.default_rng(0)

    def fill() -> None:
        with open_writer(tiny_disk / name, Fraction(25), 128, 128, crf=1) as writer:
            for _ in range(60):
                writer.write(noise.integers(0, 256, (128, 128, 3), dtype=np.uint8))

    with pytest.raises(InputError, match=rf"{name} cannot be written: the disk is full; free some space"):
        fill()
    assert os.listdir(tiny_disk) == []


def test_full_disk_at_the_very_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some file systems only tell when the data is flushed."""

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(InputError, match="the disk is full"):
        write_indices(tmp_path / "a.mp4", 3)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("name", ["frames", "frames/%05d.png", "frames/f_%d.webp", "frames/%05d.jpg"])
def test_picture_sequences(tmp_path: Path, name: str) -> None:
    with open_writer(tmp_path / name, NTSC, 31, 33, audio_from=None) as writer:
        assert isinstance(writer, ImageSequenceWriter)
        for index in range(12):
            writer.write(index_image(index, 31, 33))
        assert os.listdir(tmp_path) != ["frames"]
    assert os.listdir(tmp_path) == ["frames"]
    clip = read_clip(tmp_path / name, sequence_rate=NTSC)
    assert [read_index(frame.image) for frame in clip] == list(range(12))
    assert (clip.width, clip.height) == (31, 33), "no padding"


def test_sequence_pixels_are_exact(tmp_path: Path) -> None:
    image = corner_image(20, 10)
    with open_writer(tmp_path / "frames", NTSC, 20, 10) as writer:
        writer.write(image)
    assert np.array_equal(read_image(tmp_path / "frames" / "00000.png"), image)
    assert corners(image) == "rgbw"


def write_sequence(path: Path, count: int, overwrite: bool = False) -> None:
    with open_writer(path, NTSC, 32, 32, overwrite=overwrite) as writer:
        for index in range(count):
            writer.write(index_image(index))


def rename_fails_the_second_time() -> Callable[[Path, Path], None]:
    """os.rename that moves the old folder aside but then cannot put the new one in its place."""
    real, calls = os.rename, []

    def rename(source: Path, target: Path) -> None:
        calls.append(source)
        if len(calls) == 2:
            raise OSError(errno.EIO, "Input/output error")
        real(source, target)

    return rename


def test_sequences_never_delete_other_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "frames"
    folder.mkdir()
    write_sequence(folder, 5)  # an empty folder is fine
    with pytest.raises(InputError, match="--overwrite"):
        write_sequence(folder, 2)
    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", rename_fails_the_second_time())
        with pytest.raises(InputError, match="cannot be written"):
            write_sequence(folder, 2, overwrite=True)
    assert len(os.listdir(folder)) == 5, "the old pictures are put back"
    write_sequence(folder, 2, overwrite=True)
    assert sorted(os.listdir(folder)) == ["00000.png", "00001.png"]
    (folder / "thesis.txt").write_text("years of work")
    with pytest.raises(InputError, match=r"holds other files \(thesis\.txt\)"):
        write_sequence(folder, 2, overwrite=True)
    with pytest.raises(InputError, match="is a file"):
        write_sequence(folder / "thesis.txt" / "%d.png", 1)
    assert (folder / "thesis.txt").read_text() == "years of work"
    assert os.listdir(tmp_path) == ["frames"]


def test_sequence_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="current folder"):
        open_writer("%05d.png", NTSC, 32, 32)
    with pytest.raises(InputError, match="one number field"):
        open_writer("frames/%d_%d.png", NTSC, 32, 32)
    with pytest.raises(InputError, match="not a picture name"):
        open_writer("frames/%d.gif", NTSC, 32, 32)
    assert os.listdir(tmp_path) == []
