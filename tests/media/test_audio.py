"""Sound stays where it belongs in time, whatever it was stored as."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from vivant.errors import InputError
from vivant.media.audio import read_audio, sound_format

from .clips import click_times, clicks, encode_sound, index_clip, write_wav

AT = [0.25, 0.5, 1.125, 1.75]


def samples_of(path: Path, rate: int = 16000, chunk_seconds: Fraction | float = 0.1) -> np.ndarray:
    chunks = list(read_audio(path, rate, chunk_seconds))
    position = 0
    for chunk in chunks:
        assert chunk.time == Fraction(position, rate)
        assert chunk.sample_rate_hz == rate
        position += len(chunk.samples)
    assert len({len(chunk.samples) for chunk in chunks[:-1]}) <= 1
    return np.concatenate([chunk.samples for chunk in chunks])


@pytest.mark.parametrize("rate", [8000, 16000, 22050, 48000])
def test_wav_at_any_rate(tmp_path: Path, rate: int) -> None:
    path = write_wav(tmp_path / "a.wav", clicks(2, AT, 44100, 2), 44100)
    samples = samples_of(path, rate)
    assert abs(len(samples) - 2 * rate) <= 1
    assert click_times(samples, rate) == pytest.approx(AT, abs=0.0005)
    assert np.abs(samples).max() <= 1


def test_same_rate_is_bit_exact(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(-30000, 30000, (16000, 1)).astype(np.int16)
    samples = samples_of(write_wav(tmp_path / "a.wav", noise))
    assert np.array_equal(samples, noise[:, 0] / np.float32(32768))


def test_channels_are_averaged(tmp_path: Path) -> None:
    stereo = np.stack([np.full(1600, 16384), np.full(1600, -8192)], axis=1).astype(np.int16)
    assert np.allclose(samples_of(write_wav(tmp_path / "a.wav", stereo)), 0.125)


@pytest.mark.parametrize(
    ("name", "codec"),
    [
        ("a.m4a", "aac"),
        ("a.mp3", "libmp3lame"),
        ("a.ogg", "libopus"),
        ("a.opus", "libopus"),
        ("a.flac", "flac"),
        ("a.mka", "libopus"),
        ("a.aac", "aac"),
    ],
)
def test_codecs_keep_time(tmp_path: Path, name: str, codec: str) -> None:
    """Encoders add silence in front; it must not shift the sound."""
    path = encode_sound(tmp_path / name, clicks(2, AT, 48000, 2), codec)
    # raw AAC has nowhere to say how much silence was added: 1024 samples
    shift = 1024 / 48000 if name == "a.aac" else 0
    assert click_times(samples_of(path), 16000) == pytest.approx([time + shift for time in AT], abs=0.003)


def test_surround(tmp_path: Path) -> None:
    path = encode_sound(tmp_path / "a.m4a", clicks(2, AT, 48000, 6), "aac")
    assert sound_format(path).num_channels == 6
    assert click_times(samples_of(path), 16000) == pytest.approx(AT, abs=0.003)


@pytest.mark.parametrize("offset", [Fraction(1, 4), Fraction(-1, 5), Fraction(3)])
@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
def test_time_counts_from_the_first_picture(tmp_path: Path, offset: Fraction, name: str) -> None:
    path = encode_sound(tmp_path / name, clicks(2, AT, 48000), "aac", offset_seconds=offset, with_video=True)
    expected = [time + float(offset) for time in AT if time + offset > 0]
    assert click_times(samples_of(path), 16000) == pytest.approx(expected, abs=0.003)


def test_holes_become_silence(tmp_path: Path) -> None:
    """Packets lost in the middle leave the rest where it was."""
    whole = encode_sound(tmp_path / "whole.mka", clicks(2, AT, 48000), "flac")
    path = tmp_path / "holes.mka"
    with av.open(str(whole)) as source, av.open(str(path), "w") as target:
        stream = target.add_stream_from_template(source.streams.audio[0])
        for packet in source.demux(audio=0):
            if packet.dts is not None and not 0.6 < packet.pts * packet.time_base < 0.9:
                packet.stream = stream
                target.mux(packet)
    assert click_times(samples_of(path), 16000) == pytest.approx(AT, abs=0.002)


def test_damaged_sound_is_survived(tmp_path: Path) -> None:
    path = encode_sound(tmp_path / "a.m4a", clicks(2, AT, 48000), "aac")
    data = bytearray(path.read_bytes())
    middle = (data.find(b"mdat") + data.find(b"moov")) // 2
    data[middle : middle + 100] = np.random.default_rng(0).bytes(100)
    path.write_bytes(data)
    found = click_times(samples_of(path), 16000)
    assert found[0] == pytest.approx(AT[0], abs=0.003)
    assert found[-1] == pytest.approx(AT[-1], abs=0.003)


def test_wrong_files(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no sound track"):
        read_audio(index_clip(tmp_path / "silent.mp4", 3), 16000, 1)
    with pytest.raises(InputError, match="does not exist"):
        read_audio(tmp_path / "missing.wav", 16000, 1)
    (tmp_path / "text.wav").write_text("no sound in here")
    with pytest.raises(InputError, match="not a video or audio file"):
        read_audio(tmp_path / "text.wav", 16000, 1)
    empty = write_wav(tmp_path / "empty.wav", np.zeros((0, 1), np.int16))
    with pytest.raises(InputError, match="sound"):
        list(read_audio(empty, 16000, 1))
    with pytest.raises(ValueError, match="no sample"):
        read_audio(tmp_path / "a.wav", 16000, 0)


def test_a_stream_that_comes_up_late(tmp_path: Path) -> None:
    """A damaged FLV: one of its pictures is told to be sound of another kind, of which its header knew nothing."""
    whole = tmp_path / "whole.flv"
    noise = np.random.default_rng(0).integers(0, 255, (20, 64, 64, 3), np.uint8)
    with av.open(str(whole), "w", format="flv") as made:
        video, sound = made.add_stream("libx264", rate=10), made.add_stream("aac", rate=16000, layout="mono")
        video.width = video.height = 64
        video.pix_fmt = "yuv420p"
        made.start_encoding()
        for index, image in enumerate(noise):
            made.mux(video.encode(av.VideoFrame.from_ndarray(image)))
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
            frame.sample_rate, frame.pts = 16000, index * 1024
            made.mux(sound.encode(frame))
        made.mux([*video.encode(None), *sound.encode(None)])
    content, tags, at = bytearray(whole.read_bytes()), [], 13
    while at + 11 < len(content):
        tags.append(at)
        at += 15 + int.from_bytes(content[at + 1 : at + 4], "big")
    pictures = [tag for tag in tags if content[tag] == 9]
    content[pictures[0] + 11] = 0xA0  # the header of the pictures is lost, so that more is looked through
    content[pictures[-3]] = 0x28
    (tmp_path / "damaged.flv").write_bytes(content)
    with av.open(str(tmp_path / "damaged.flv")) as damaged, pytest.raises(IndexError):
        list(damaged.demux(damaged.streams.audio[0]))
    assert len(samples_of(tmp_path / "damaged.flv")) > 0
