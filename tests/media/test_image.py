"""Every kind of picture becomes upright 8-bit RGB, or one clear sentence."""

from __future__ import annotations

import io
import os
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, ImageCms

from vivant.errors import InputError
from vivant.media.image import MAX_PIXELS, read_image, write_image
from vivant.media.probe import probe_kind

from .clips import corner_image, corners, index_clip, write_wav

COLOUR = (200, 40, 90)


def save(path: Path, image: Image.Image, **options: object) -> Path:
    image.save(path, **options)
    return path


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "bmp", "tiff", "gif", "ppm", "avif"])
def test_formats(tmp_path: Path, suffix: str) -> None:
    path = save(tmp_path / f"a.{suffix}", Image.new("RGB", (21, 17), COLOUR))
    image = read_image(path)
    assert image.shape == (17, 21, 3)
    assert image.dtype == np.uint8
    assert image.flags.writeable
    assert np.abs(image.astype(int) - COLOUR).max() <= 6
    assert probe_kind(path) == "image"


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(tmp_path: Path, orientation: int) -> None:
    """Store the picture the way a camera held that way would, and expect it upright."""
    stored = Image.fromarray(corner_image(48, 32))
    undo = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # Image.Transpose that a reader has to undo
    if orientation in undo:
        stored = stored.transpose(Image.Transpose(undo[orientation]))
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = read_image(save(tmp_path / "a.png", stored, exif=exif))
    assert image.shape == (32, 48, 3)
    assert corners(image) == "rgbw"


def test_grey_and_bilevel(tmp_path: Path) -> None:
    assert (read_image(save(tmp_path / "l.png", Image.new("L", (5, 4), 77))) == 77).all()
    assert (read_image(save(tmp_path / "one.png", Image.new("1", (5, 4), 1))) == 255).all()


@pytest.mark.parametrize("name", ["g.png", "g.tiff"])
def test_16_bit(tmp_path: Path, name: str) -> None:
    """Pillow alone would clip 16-bit grey to white."""
    ramp = np.arange(0, 65536, 1024, dtype=np.uint16).reshape(8, 8)
    cv2.imwrite(str(tmp_path / name), ramp)
    assert np.array_equal(read_image(tmp_path / name)[..., 1], ramp >> 8)
    cv2.imwrite(str(tmp_path / name), np.stack([ramp] * 3, axis=2))
    assert np.array_equal(read_image(tmp_path / name)[..., 1], ramp >> 8)


def test_float_and_32_bit_grey(tmp_path: Path) -> None:
    assert (read_image(save(tmp_path / "f.tiff", Image.new("F", (3, 3), 0.5))) == 128).all()
    assert (read_image(save(tmp_path / "f.tiff", Image.new("F", (3, 3), 90.0))) == 90).all()
    assert (read_image(save(tmp_path / "i.tiff", Image.new("I", (3, 3), 200))) == 200).all()
    assert (read_image(save(tmp_path / "i.tiff", Image.new("I", (3, 3), 25600))) == 100).all()


def test_cmyk(tmp_path: Path) -> None:
    image = read_image(save(tmp_path / "a.jpg", Image.new("CMYK", (16, 16), (0, 255, 255, 0)), quality=95))
    assert image[8, 8, 0] > 240
    assert image[8, 8, 1:].max() < 15


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA"])
def test_transparency_is_white(tmp_path: Path, mode: str) -> None:
    picture = Image.new("RGBA", (8, 8), (0, 0, 0, 0))
    picture.paste((0, 0, 0, 128), (0, 0, 4, 8))
    image = read_image(
        save(tmp_path / "a.png", picture.convert(mode) if mode != "PA" else picture.quantize())
    )
    assert (image[:, 4:] == 255).all()
    assert np.abs(image[:, :4].astype(int) - 127).max() <= 2


def test_colour_profiles_are_applied(tmp_path: Path) -> None:
    picture = Image.new("RGB", (8, 8), COLOUR)
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert (read_image(save(tmp_path / "s.png", picture, icc_profile=srgb)) == COLOUR).all()
    # a made-up screen whose red lamp is green and whose green lamp is red
    swapped = srgb.replace(b"rXYZ", b"????").replace(b"gXYZ", b"rXYZ").replace(b"????", b"gXYZ")
    swapped = swapped.replace("sRGB".encode("utf-16-be"), "test".encode("utf-16-be"))
    image = read_image(save(tmp_path / "x.png", picture, icc_profile=swapped))
    assert np.abs(image.astype(int) - (COLOUR[1], COLOUR[0], COLOUR[2])).max() <= 3
    assert (read_image(save(tmp_path / "b.png", picture, icc_profile=b"nonsense")) == COLOUR).all()


@pytest.mark.parametrize("suffix", ["gif", "webp", "png"])
def test_animated_gives_first_frame(tmp_path: Path, suffix: str) -> None:
    frames = [Image.new("RGB", (16, 16), colour) for colour in ((250, 0, 0), (0, 250, 0), (0, 0, 250))]
    path = save(tmp_path / f"a.{suffix}", frames[0], save_all=True, append_images=frames[1:], duration=100)
    assert read_image(path)[8, 8].argmax() == 0
    assert probe_kind(path) == "video"


@pytest.mark.parametrize("size", [(1, 1), (1, 900), (3, 2), (4001, 7)])
def test_extreme_sizes(tmp_path: Path, size: tuple[int, int]) -> None:
    path = tmp_path / "a.png"
    write_image(path, np.full((*size, 3), 9, np.uint8))
    assert read_image(path).shape == (*size, 3)


def png_header(width: int, height: int) -> bytes:
    """A PNG of a few bytes that claims any size."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = zlib.compress(bytes(100_000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


@pytest.mark.parametrize("size", [(MAX_PIXELS + 1, 1), (9500, 9500), (12000, 12000), (100_000, 100_000)])
def test_decompression_bomb(tmp_path: Path, size: tuple[int, int]) -> None:
    path = tmp_path / "bomb.png"
    path.write_bytes(png_header(*size))
    with pytest.raises(InputError, match=r"bomb\.png .*80 million pixels; make it smaller"):
        read_image(path)


def test_wrong_files(tmp_path: Path) -> None:
    cases = {
        "missing.png": (None, "does not exist"),
        "empty.png": (b"", "is empty"),
        "text.png": (b"hello there, not a picture", "not a picture"),
        "photo.heic": (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(64), "convert it to JPEG"),
        "page.eps": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not a picture"),
    }
    for name, (content, message) in cases.items():
        if content is not None:
            (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match=message) as raised:
            read_image(tmp_path / name)
        assert name in str(raised.value)
        assert "\n" not in str(raised.value)
    with pytest.raises(InputError, match="folder"):
        read_image(tmp_path)
    with pytest.raises(InputError, match="not a picture"):
        read_image(index_clip(tmp_path / "video.png.mp4", 3))
    with pytest.raises(InputError, match="not a picture"):
        read_image(write_wav(tmp_path / "a.wav", np.zeros((100, 1), np.int16)))
    with pytest.raises(InputError, match="regular file"):
        read_image("/dev/zero")


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "tiff", "gif", "avif"])
def test_damaged_pictures_never_crash(tmp_path: Path, suffix: str) -> None:
    """Cut and scrambled files are refused with a sentence, or read as far as the format allows."""
    noise = np.random.default_rng(7).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, {"jpg": "JPEG"}.get(suffix, suffix))
    good = buffer.getvalue()
    damaged = [good[: len(good) * part // 10] for part in range(1, 10)]
    random = np.random.default_rng(8)
    for _ in range(40):
        data = bytearray(good)
        for position in random.integers(0, len(data), 12):
            data[position] = random.integers(0, 256)
        damaged.append(bytes(data))
    refused = 0
    for data in damaged:
        path = tmp_path / f"a.{suffix}"
        path.write_bytes(data)
        try:
            read_image(path)
        except InputError:
            refused += 1
    assert refused >= 5


@pytest.mark.parametrize("name", ["a.png", "a.JPG", "a.jpeg", "a.webp"])
def test_write(tmp_path: Path, name: str) -> None:
    image = corner_image(33, 21)
    write_image(tmp_path / name, image)
    back = read_image(tmp_path / name)
    assert back.shape == image.shape
    assert corners(back) == "rgbw"
    if name.endswith("png"):
        assert np.array_equal(back, image)
    assert os.listdir(tmp_path) == [name]


def test_write_refuses(tmp_path: Path) -> None:
    image = corner_image()
    path = tmp_path / "a.png"
    path.write_bytes(b"precious")
    with pytest.raises(InputError, match="--overwrite"):
        write_image(path, image)
    assert path.read_bytes() == b"precious"
    write_image(path, image, overwrite=True)
    assert read_image(path).shape == image.shape
    with pytest.raises(InputError, match="not a picture name"):
        write_image(tmp_path / "a.txt", image)
    with pytest.raises(InputError, match="does not exist; create it"):
        write_image(tmp_path / "no" / "a.png", image)
    with pytest.raises(InputError, match="too long"):
        write_image(tmp_path / ("x" * 300 + ".png"), image)
    with pytest.raises(InputError, match="regular file"):
        write_image(link_to_null(tmp_path), image, overwrite=True)
    with pytest.raises(ValueError, match="uint8"):
        write_image(tmp_path / "b.png", image.astype(np.float32))
    assert sorted(os.listdir(tmp_path)) == ["a.png", "null.png"]


def link_to_null(folder: Path) -> Path:
    """A picture name that leads to a device, which must not be replaced by a file."""
    link = folder / "null.png"
    link.symlink_to("/dev/null")
    return link
