"""Still pictures in and out: whatever the file holds becomes upright 8-bit RGB. Knows nothing of clips.

Conversions, in this order:
  orientation   the EXIF tag is applied, so the picture is upright
  16-bit grey   the high byte is kept (as Pillow does for 16-bit colour); float and 32-bit grey: see `_grey_to_8_bit`
  colour        an embedded ICC profile other than sRGB (CMYK, Display P3, ...) is converted to sRGB; without a
                profile CMYK uses the plain ink formula
  transparency  composited over white
  animation     the first frame
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError

from vivant.errors import InputError
from vivant.media.inputs import check_input_file, first_bytes
from vivant.media.staging import Seal, StagedFile, output_errors

MAX_PIXELS = 80_000_000
"""Largest accepted picture, width times height: 240 MB of RGB. Larger ones are refused before they are
decoded, because a file of a few kilobytes can claim any size."""

READ_FORMATS = ("PNG", "JPEG", "MPO", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF", "JPEG2000")
"""Pillow formats that are opened. The others (EPS, PDF, old video, ...) run external programs or are not
pictures."""

ANIMATED_FORMATS = ("GIF", "WEBP", "PNG", "AVIF")
"""Formats whose further frames mean movement; further pages of a TIFF or MPO do not."""

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
"""File names that `write_image` accepts."""

DECODE_ERRORS = (
    Image.DecompressionBombError,
    OSError,
    RuntimeError,
    SyntaxError,
    ValueError,
    EOFError,
    LookupError,
    TypeError,
    struct.error,
    zlib.error,
)
"""What Pillow raises for files that are damaged or hostile."""

_HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")


def read_image(path: str | Path) -> np.ndarray:
    """Read a picture as uint8 RGB, shape (height, width, 3), upright.

    Raises InputError when the file is missing, not a picture, damaged, or larger than MAX_PIXELS.
    """
    path = check_input_file(path)
    with opened_image(path) as image:
        return to_rgb(ImageOps.exif_transpose(image))


def write_image(
    path: str | Path, image: np.ndarray, *, overwrite: bool = False, seal: Seal | None = None
) -> None:
    """Write uint8 RGB (height, width, 3) as PNG, JPEG or WebP, chosen by the suffix; JPEG and WebP at
    quality 95.

    The file appears under its name only when complete, and sealed (see `staging`). Raises InputError when the name or
    the place is unusable.
    """
    path = Path(path)
    check_image_suffix(path)
    staged = StagedFile(path, overwrite=overwrite, seal=seal)
    try:
        with output_errors(path):
            save_image(staged.temporary, image)
        staged.commit()
    finally:
        staged.discard()


def check_image_suffix(path: Path) -> None:
    """Raise InputError unless `write_image` knows the suffix of `path`."""
    if path.suffix.lower() not in IMAGE_SUFFIXES:
        raise InputError(f"{path} is not a picture name; use one of {', '.join(IMAGE_SUFFIXES)}.")


def save_image(path: Path, image: np.ndarray) -> None:
    """Encode uint8 RGB (height, width, 3) straight into `path`, replacing it. Raises OSError when the disk
    does."""
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(f"a picture is uint8 (height, width, 3), got {image.dtype} {image.shape}")
    picture = Image.fromarray(np.ascontiguousarray(image))
    suffix = path.suffix.lower()
    if suffix == ".png":
        picture.save(path, "PNG", compress_level=4)
    elif suffix == ".webp":
        picture.save(path, "WEBP", quality=95, method=4)
    else:
        picture.save(path, "JPEG", quality=95, subsampling=0)


@contextmanager
def opened_image(path: Path) -> Iterator[Image.Image]:
    """Open a picture with Pillow; whatever goes wrong while decoding it inside the block becomes InputError."""
    with decoding(path), _identify(path) as image:
        check_pixels(path, image.width, image.height)
        yield image


@contextmanager
def decoding(path: Path) -> Iterator[None]:
    """Turn what Pillow raises for the file `path` into InputError."""
    try:
        yield
    except UnidentifiedImageError as error:
        raise InputError(f"{path} is not a picture that can be read; {_advice(path)}.") from error
    except DECODE_ERRORS as error:
        raise InputError(f"{path} is a damaged picture ({error}); save or export it again.") from error


def is_image_file(path: Path) -> bool:
    """Whether the first bytes are those of one of READ_FORMATS; the rest may still be damaged."""
    try:
        _identify(path).close()
    except UnidentifiedImageError:
        return False
    except DECODE_ERRORS:
        return True
    return True


def _identify(path: Path) -> Image.Image:
    """Open lazily, by content, as one of READ_FORMATS (as far as this Pillow has them).

    Image.open would do, but it warns about large pictures, and silencing warnings is not safe in threads; here
    `check_pixels` refuses them.
    """
    Image.init()
    head = first_bytes(path)
    for name in READ_FORMATS:
        if name not in Image.OPEN:
            continue
        factory, accept = Image.OPEN[name]
        if accept is not None and accept(head) is not True:
            continue
        try:
            return factory(str(path), str(path))  # type: ignore[arg-type]  # Pillow opens the file itself
        except (SyntaxError, LookupError, TypeError, struct.error):
            continue
    raise UnidentifiedImageError(str(path))


def check_pixels(path: Path, width: int, height: int) -> None:
    """Raise InputError when a picture of `path` would exceed MAX_PIXELS."""
    if width * height > MAX_PIXELS:
        raise InputError(
            f"{path} is {width}x{height}, more than {MAX_PIXELS // 1_000_000} million pixels; make it smaller."
        )


def to_rgb(image: Image.Image) -> np.ndarray:
    """One Pillow picture as uint8 RGB (height, width, 3); see the top of this file for the rules."""
    profile = image.info.get("icc_profile")
    if image.mode.startswith("I") or image.mode == "F":
        return np.repeat(_grey_to_8_bit(np.asarray(image))[..., None], 3, axis=2)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        alpha = image.getchannel("A")
        image = _to_srgb(image.convert("RGB"), profile)
        white = Image.new("RGB", image.size, (255, 255, 255))
        image = Image.composite(image, white, alpha)
    else:
        image = _to_srgb(image, profile)
    return np.array(image.convert("RGB"))


def _to_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """Apply an embedded ICC profile. A profile that is broken or for another mode is ignored, as viewers
    do."""
    if not profile or image.mode not in ("RGB", "CMYK", "L"):
        return image
    try:
        embedded = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if "srgb" in ImageCms.getProfileDescription(embedded).lower():
            return image
        converted = ImageCms.profileToProfile(
            image, embedded, ImageCms.createProfile("sRGB"), outputMode="RGB"
        )
    except (ImageCms.PyCMSError, OSError):
        return image
    return converted if converted is not None else image


def _grey_to_8_bit(grey: np.ndarray) -> np.ndarray:
    """Grey (height, width) with more than 8 bits to uint8.

    uint16: high byte. int32: 8-bit values if none exceeds 255, otherwise 16-bit ones. float: [0, 1] if
    nothing exceeds 1, otherwise [0, 255].
    """
    if grey.dtype == np.uint16 or (grey.dtype.kind in "iu" and grey.max() > 255):
        return (np.clip(grey, 0, 65535).astype(np.uint32) >> 8).astype(np.uint8)
    if grey.dtype.kind == "f":
        grey = np.nan_to_num(grey)
        grey = np.rint(grey * 255 if grey.max() <= 1 else grey)
    return np.clip(grey, 0, 255).astype(np.uint8)


def _advice(path: Path) -> str:
    head = first_bytes(path)
    if head[4:8] == b"ftyp" and head[8:12] in _HEIF_BRANDS:
        return "it is HEIC, as phones store it: convert it to JPEG or PNG"
    return "use PNG, JPEG, WebP, GIF, BMP, TIFF or AVIF"
