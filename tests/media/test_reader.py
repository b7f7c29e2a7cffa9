"""Frames come in order, upright, at their exact times, whatever the file is like."""

from __future__ import annotations

import itertools
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc, VideoReformatter
from PIL import Image

from vivant.errors import InputError
from vivant.media.image import write_image
from vivant.media.reader import ImageSequenceReader, VideoReader, probe_kind, read_clip
from vivant.media.resample import resample
from vivant.media.types import Clip, Frame

from .clips import (
    NTSC,
    clicks,
    corner_image,
    corners,
    encode_sound,
    index_clip,
    index_image,
    read_index,
    set_display_matrix,
    write_clip,
    write_live_clip,
    write_wav,
)

VARIABLE_TIMES = [0.0, 0.02, 0.1, 0.11, 0.4, 0.75, 0.8, 1.5]


def indices(clip: Clip) -> list[int]:
    return [read_index(frame.image) for frame in clip]


def test_ntsc_times_are_exact(tmp_path: Path) -> None:
    with VideoReader(index_clip(tmp_path / "a.mp4", 90, NTSC)) as clip:
        frames = [(read_index(frame.image), frame.time) for frame in clip]
        assert frames == [(index, index / NTSC) for index in range(90)]
        assert clip.frame_rate == NTSC
        assert clip.duration == 90 / NTSC
        assert clip.num_frames_estimate == 90
        assert not clip.is_variable
        assert not clip.has_audio
        assert not clip.is_still
        assert indices(clip) == list(range(90)), "each iteration starts again"
    with pytest.raises(ValueError, match="closed"):
        next(iter(clip))


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.mov", "a.avi", "a.ts", "a.flv"])
def test_containers(tmp_path: Path, name: str) -> None:
    """Also those that start their clock elsewhere, round times or store no rate."""
    codec = "mpeg4" if name.endswith("avi") else "libx264"
    clip = read_clip(index_clip(tmp_path / name, 50, NTSC, codec=codec))
    frames = list(clip)
    assert [read_index(frame.image) for frame in frames] == list(range(50))
    assert frames[0].time == 0
    assert all(abs(frame.time - index / NTSC) <= Fraction(1, 1000) for index, frame in enumerate(frames))
    assert clip.frame_rate == NTSC
    assert clip.duration is not None
    assert abs(clip.duration - 50 / NTSC) <= Fraction(1, 100)
    assert not clip.is_variable
    output = resample(clip, NTSC, end=clip.duration)
    assert [read_index(frame.image) for frame in output] == list(range(50))


def test_b_frames_come_in_presentation_order(tmp_path: Path) -> None:
    path = index_clip(tmp_path / "a.mp4", 40, options={"bf": "3", "preset": "slow", "crf": "10"})
    assert indices(read_clip(path)) == list(range(40))


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
def test_variable_frame_rate(tmp_path: Path, name: str) -> None:
    images = [index_image(index) for index in range(len(VARIABLE_TIMES))]
    clip = read_clip(write_clip(tmp_path / name, images, VARIABLE_TIMES))
    times = [float(frame.time) for frame in clip]
    assert times == pytest.approx(VARIABLE_TIMES, abs=0.0011)
    assert clip.is_variable
    assert 4 < clip.frame_rate < 6
    shown = [read_index(frame.image) for frame in resample(clip, Fraction(10), end=Fraction(8, 5))]
    assert shown == [0, 2, 3, 3, 4, 4, 4, 4, 6, 6, 6, 6, 6, 6, 6, 7]


@pytest.mark.parametrize(
    ("format", "codec", "options"),
    [
        ("webm", "libvpx", {}),
        ("mpegts", "libx264", {}),
        ("mp4", "libx264", {"movflags": "frag_keyframe+empty_moov+default_base_moof"}),
    ],
)
@pytest.mark.parametrize("times", [[index / 25 for index in range(40)], VARIABLE_TIMES])
def test_live_recordings(
    tmp_path: Path, format: str, codec: str, options: dict[str, str], times: list[float]
) -> None:
    """Written without seeking back, as browsers do: the header knows neither length nor rate."""
    path = tmp_path / "live"
    images = [index_image(index) for index in range(len(times))]
    write_live_clip(path, images, times, format, codec, options)
    clip = read_clip(path)
    frames = list(clip)
    assert [read_index(frame.image) for frame in frames] == list(range(len(times)))
    assert [float(frame.time) for frame in frames] == pytest.approx(times, abs=0.0011)
    assert clip.is_variable == (times is VARIABLE_TIMES)
    assert clip.frame_rate == 25 or clip.is_variable
    assert clip.duration is not None
    assert times[-1] < clip.duration < times[-1] + 0.1
    assert clip.num_frames_estimate == len(times)


MATRICES = {
    # display matrix (a, b, c, d): how the quarters r g / b w of the stored picture look upright
    (1, 0, 0, 1): "rgbw",
    (0, 1, -1, 0): "brwg",
    (-1, 0, 0, -1): "wbgr",
    (0, -1, 1, 0): "gwrb",
    (-1, 0, 0, 1): "grwb",
    (1, 0, 0, -1): "bwrg",
    (0, 1, 1, 0): "rbgw",
    (0, -1, -1, 0): "wgbr",
}


@pytest.mark.parametrize("matrix", MATRICES)
def test_rotation_metadata(tmp_path: Path, matrix: tuple[int, int, int, int]) -> None:
    path = set_display_matrix(write_clip(tmp_path / "a.mp4", [corner_image(48, 32)] * 3), *matrix)
    clip = read_clip(path)
    image = next(iter(clip)).image
    assert corners(image) == MATRICES[matrix]
    assert (clip.width, clip.height) == ((32, 48) if matrix[0] == 0 else (48, 32))
    assert image.shape == (clip.height, clip.width, 3)
    assert image.flags.c_contiguous


@pytest.mark.parametrize(("aspect", "size"), [(Fraction(2), (64, 32)), (Fraction(1, 2), (32, 64))])
def test_pixels_become_square(tmp_path: Path, aspect: Fraction, size: tuple[int, int]) -> None:
    clip = read_clip(index_clip(tmp_path / "a.mp4", 3, pixel_aspect=aspect))
    assert (clip.width, clip.height) == size
    assert indices(clip) == [0, 1, 2]


def test_absurd_pixel_aspect_is_ignored(tmp_path: Path) -> None:
    assert read_clip(index_clip(tmp_path / "a.mp4", 3, pixel_aspect=Fraction(255, 1))).width == 32


def tagged_clip(
    path: Path, matrix: Colorspace, colour: tuple[int, int, int], *, tag: int | None = None, hdr: bool = False
) -> Path:
    """One colour, encoded with a colour matrix and tagged so."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, width=64, height=64, options={"crf": "1"})
        stream.pix_fmt = "yuv420p10le" if hdr else "yuv420p"
        context = stream.codec_context
        context.colorspace = 9 if hdr else matrix if tag is None else tag
        context.color_range = ColorRange.MPEG
        if hdr:
            context.color_trc, context.color_primaries = ColorTrc.ARIB_STD_B67, ColorPrimaries.BT2020
        picture = av.VideoFrame.from_ndarray(np.full((64, 64, 3), colour, np.uint8), format="rgb24")
        frame = VideoReformatter().reformat(
            picture, format=stream.pix_fmt, dst_colorspace=matrix, dst_color_range=ColorRange.MPEG
        )
        frame.pts = 0
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize("matrix", [Colorspace.ITU709, Colorspace.SMPTE240M, Colorspace.FCC])
def test_colour_matrix_is_honoured(tmp_path: Path, matrix: Colorspace) -> None:
    image = next(iter(read_clip(tagged_clip(tmp_path / "a.mp4", matrix, (200, 60, 30))))).image
    assert np.abs(image[32, 32].astype(int) - (200, 60, 30)).max() <= 4


@pytest.mark.parametrize("code", [0, 3, 8, 10, 14])
def test_strange_colour_tags_are_read_as_usual_video(tmp_path: Path, code: int) -> None:
    """Reserved and mistaken tags exist; the converter would refuse them."""
    path = tagged_clip(tmp_path / "a.mp4", Colorspace.ITU601, (200, 60, 30), tag=code)
    assert np.abs(next(iter(read_clip(path))).image[32, 32].astype(int) - (200, 60, 30)).max() <= 4


def test_hdr_white_becomes_white(tmp_path: Path) -> None:
    """HLG puts diffuse white at 75 % of its signal; shown as it is, faces would be grey."""
    path = tagged_clip(tmp_path / "a.mp4", Colorspace.BT2020, (192, 192, 192), hdr=True)
    assert next(iter(read_clip(path))).image[32, 32].min() >= 245


@pytest.mark.parametrize("suffix", ["gif", "webp", "png"])
def test_animated_pictures(tmp_path: Path, suffix: str) -> None:
    frames = [Image.fromarray(index_image(index)) for index in range(4)]
    path = tmp_path / f"a.{suffix}"
    delays = [100, 200, 50, 300]
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=delays, loop=0, lossless=True)
    clip = read_clip(path)
    assert [(read_index(frame.image), frame.time) for frame in clip] == [
        (0, 0),
        (1, Fraction(1, 10)),
        (2, Fraction(3, 10)),
        (3, Fraction(7, 20)),
    ]
    assert clip.duration == Fraction(13, 20)
    assert clip.is_variable
    assert not clip.is_still
    assert clip.num_frames_estimate == 4


def test_gif_without_delays_plays_at_browser_speed(tmp_path: Path) -> None:
    frames = [Image.fromarray(index_image(index)) for index in range(3)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:], duration=0)
    assert read_clip(tmp_path / "a.gif").frame_rate == 10


def test_still_picture_is_a_clip_of_one_frame(tmp_path: Path) -> None:
    write_image(tmp_path / "a.png", index_image(5))
    clip = read_clip(tmp_path / "a.png")
    assert clip.is_still
    assert indices(clip) == [5]
    assert (clip.width, clip.height, clip.duration) == (32, 32, Fraction(1, 25))


def fill_folder(folder: Path, names: list[str]) -> None:
    folder.mkdir()
    for index, name in enumerate(names):
        write_image(folder / name, index_image(index))


def test_sequences(tmp_path: Path) -> None:
    folder = tmp_path / "frames"
    fill_folder(folder, [f"f{index}.png" for index in range(12)])
    (folder / "notes.txt").write_text("not a frame")
    (folder / ".hidden.png").write_text("not a frame either")
    for path in (folder, folder / "*.png", folder / "f%d.png", folder / "f*"):
        clip = read_clip(path, sequence_rate=NTSC)
        assert isinstance(clip, ImageSequenceReader)
        assert probe_kind(path) == "sequence"
        frames = list(clip)
        assert [read_index(frame.image) for frame in frames] == list(range(12)), path
        assert frames[-1].time == 11 / NTSC
        assert (clip.frame_rate, clip.duration, clip.is_variable) == (NTSC, 12 / NTSC, False)


def test_padded_pattern_takes_padded_numbers_only(tmp_path: Path) -> None:
    folder = tmp_path / "frames"
    fill_folder(folder, ["a_0007.png", "a_0008.png", "a_9.png"])
    assert indices(read_clip(folder / "a_%04d.png")) == [0, 1]


def test_bad_sequences(tmp_path: Path) -> None:
    folder = tmp_path / "frames"
    fill_folder(folder, ["1.png", "2.png", "4.png"])
    with pytest.raises(InputError, match="number 3 is missing"):
        read_clip(folder / "%d.png")
    with pytest.raises(InputError, match="no file matches"):
        read_clip(folder / "*.jpg")
    with pytest.raises(InputError, match="no file matches"):
        read_clip(tmp_path / "nowhere" / "%05d.png")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="holds no pictures"):
        read_clip(tmp_path / "empty")
    write_image(folder / "9.png", index_image(0, 40, 32))
    with pytest.raises(InputError, match=r"9\.png is 40x32 but 1\.png is 32x32"):
        list(read_clip(folder))
    with pytest.raises(InputError, match="not a frame rate"):
        read_clip(folder, sequence_rate=Fraction(0))


def test_probe_goes_by_content(tmp_path: Path) -> None:
    index_clip(tmp_path / "a.mp4", 3).rename(tmp_path / "lies.png")
    assert probe_kind(tmp_path / "lies.png") == "video"
    write_image(tmp_path / "b.png", index_image(1))
    (tmp_path / "b.png").rename(tmp_path / "lies.mp4")
    assert probe_kind(tmp_path / "lies.mp4") == "image"
    write_wav(tmp_path / "lies.jpg", clicks(0.2, []))
    assert probe_kind(tmp_path / "lies.jpg") == "audio"
    with pytest.raises(InputError, match="not a video or audio file"):
        probe_kind(Path(__file__))


def test_cover_art_is_not_video(tmp_path: Path) -> None:
    path = tmp_path / "song.mp4"
    with av.open(str(path), "w") as container:
        cover = container.add_stream("mjpeg", rate=1, width=32, height=32, pix_fmt="yuvj420p")
        cover.disposition = av.stream.Disposition.attached_pic
        sound = container.add_stream("aac", rate=48000, layout="mono")
        picture = av.VideoFrame.from_ndarray(index_image(1), format="rgb24").reformat(format="yuvj420p")
        picture.pts = 0
        container.mux(cover.encode(picture))
        samples = av.AudioFrame.from_ndarray(np.zeros((1, 4800), np.float32), format="fltp", layout="mono")
        samples.sample_rate, samples.pts = 48000, 0
        container.mux(sound.encode(samples))
        container.mux(sound.encode(None))
        container.mux(cover.encode(None))
    assert probe_kind(path) == "audio"
    with pytest.raises(InputError, match="only sound"):
        read_clip(path)


def test_wrong_files(tmp_path: Path) -> None:
    (tmp_path / "empty.mp4").write_bytes(b"")
    (tmp_path / "noise.mp4").write_bytes(np.random.default_rng(1).bytes(5000))
    encode_sound(tmp_path / "sound.mp4", clicks(0.3, [0.1], 48000), "aac")
    index_clip(tmp_path / "end_lost.mp4", 200)
    data = (tmp_path / "end_lost.mp4").read_bytes()
    (tmp_path / "end_lost.mp4").write_bytes(data[: len(data) // 2])  # the index is at the end
    listing = "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n/etc/passwd\n#EXT-X-ENDLIST\n"
    (tmp_path / "list.m3u8").write_text(listing)
    (tmp_path / "script.ffconcat").write_text("ffconcat version 1.0\nfile empty.mp4\n")
    expected = {
        "missing.mp4": "does not exist",
        "empty.mp4": "is empty",
        "noise.mp4": "not a video or audio file",
        "sound.mp4": "has only sound",
        "end_lost.mp4": "cut short",
        "list.m3u8": "not a video or audio file",
        "script.ffconcat": "not a video or audio file",
        "nu\0ll.mp4": "cannot be opened",
    }
    for name, message in expected.items():
        with pytest.raises(InputError, match=message) as raised:
            read_clip(tmp_path / name)
        assert name.split("\0")[0] in str(raised.value)
        assert "\n" not in str(raised.value)


def test_no_decodable_frame(tmp_path: Path) -> None:
    path = index_clip(tmp_path / "a.mp4", 20, container_options={"movflags": "+faststart"})
    data = path.read_bytes()
    path.write_bytes(data[: data.find(b"mdat") + 4])
    with pytest.raises(InputError, match="no picture that can be decoded"):
        read_clip(path)


def test_huge_video_is_refused(tmp_path: Path) -> None:
    """A header may claim any size."""
    path = index_clip(tmp_path / "a.avi", 2, codec="ffv1")
    data = bytearray(path.read_bytes())
    format_header = data.find(b"strf") + 8
    data[format_header + 4 : format_header + 12] = (16000).to_bytes(4, "little") * 2
    path.write_bytes(data)
    with pytest.raises(InputError, match="million pixels"):
        read_clip(path)


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.avi"])
def test_truncated_video(tmp_path: Path, name: str) -> None:
    options = {"movflags": "+faststart"} if name.endswith("mp4") else {}
    noise = np.random.default_rng(3).integers(0, 256, (150, 32, 32, 3), dtype=np.uint8)
    path = write_clip(tmp_path / name, noise, container_options=options)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 6 // 10])
    frames: list[Frame] = []
    with pytest.raises(InputError, match=r"damaged or cut short: \d+"):
        frames.extend(read_clip(path))
    assert 60 < len(frames) < 100, "good frames come before the error"
    tolerant = list(read_clip(path, allow_truncated=True))
    assert len(tolerant) >= len(frames)
    assert [frame.time for frame in frames] == [frame.time for frame in tolerant[: len(frames)]]


def test_damage_in_the_middle(tmp_path: Path) -> None:
    noise = np.random.default_rng(4).integers(0, 256, (100, 64, 64, 3), dtype=np.uint8)
    path = write_clip(tmp_path / "a.mp4", noise, codec="mpeg4", options={"g": "10"})
    data = bytearray(path.read_bytes())
    start = data.find(b"mdat") + 4
    middle = start + (len(data) - start) // 3
    data[middle : middle + 900] = bytes(900)
    path.write_bytes(data)
    tolerant = list(read_clip(path, allow_truncated=True))
    assert tolerant[-1].time == Fraction(99, 25), "what follows the damage keeps its time"
    for first, second in itertools.pairwise(tolerant):
        assert first.time < second.time


def test_scrambled_files_never_crash(tmp_path: Path) -> None:
    good = index_clip(tmp_path / "good.mp4", 12).read_bytes()
    random = np.random.default_rng(5)
    outcomes = set()
    for _ in range(60):
        data = bytearray(good)
        for position in random.integers(0, len(data), 20):
            data[position] = random.integers(0, 256)
        path = tmp_path / "bad.mp4"
        path.write_bytes(data)
        try:
            outcomes.add(len(list(read_clip(path))) > 0)
        except InputError:
            outcomes.add("refused")
    assert "refused" in outcomes


def test_reading_keeps_nothing(tmp_path: Path) -> None:
    """Two iterations side by side do not disturb each other."""
    clip = read_clip(index_clip(tmp_path / "a.mp4", 20))
    one, two = iter(clip), iter(clip)
    assert read_index(next(one).image) == 0
    assert [read_index(frame.image) for frame in two] == list(range(20))
    assert read_index(next(one).image) == 1
