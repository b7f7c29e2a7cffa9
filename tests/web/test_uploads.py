"""Uploads: hostile files take nothing down, names cannot point elsewhere, and everything goes away by itself."""

from __future__ import annotations

import asyncio
import io
import os
import struct
import zlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from PIL import Image
from starlette.testclient import TestClient

from vivant.errors import InputError
from vivant.web.settings import Serving
from vivant.web.uploads import TooLargeError, UnknownUploadError, Upload, Uploads

from .conftest import noise, png


def bomb(width: int, height: int) -> bytes:
    """A PNG of a few kilobytes that claims, and has, that many pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    rows = zlib.compress(bytes((width + 7) // 8 + 1) * min(height, 2000), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


async def pieces(data: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(data), 65_536):
        yield data[start : start + 65_536]


def receive(uploads: Uploads, data: bytes, owner: str = "me") -> Upload:
    return asyncio.run(uploads.receive(owner, "picture", pieces(data)))


@pytest.fixture
def uploads(tmp_path: Path, serving: Callable[..., Serving]) -> Uploads:
    return Uploads(tmp_path / "uploads", serving(max_upload_mb=4, max_megapixels=2))


def test_a_picture_is_kept_as_plain_png_without_what_was_hidden_in_it(uploads: Uploads) -> None:
    buffer = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6  # lies on its side
    exif[0x010E] = "where I live"
    Image.fromarray(noise(0)[:40]).save(buffer, "JPEG", exif=exif)
    upload = receive(uploads, buffer.getvalue())
    assert upload.info == {"width": 40, "height": 64}
    _, path = uploads.get("me", upload.id, "picture")
    data = path.read_bytes()
    assert data.startswith(b"\x89PNG")
    assert b"where I live" not in data
    assert {file.suffix for file in uploads.folder.iterdir()} == {".png", ".json"}


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (bomb(30_000, 30_000), "pixels"),
        (bomb(1900, 1900), "pixels"),
        (b"", "empty"),
        (b"GIF89a" + bytes(50), "damaged|not a picture"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not a picture"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n", "not a picture"),
        (png(noise(0))[:900], "damaged|not a picture"),
    ],
)
def test_what_is_no_fit_picture_is_refused_and_leaves_nothing(
    uploads: Uploads, data: bytes, said: str
) -> None:
    with pytest.raises(InputError, match=said) as refused:
        receive(uploads, data)
    assert str(uploads.folder) not in str(refused.value)
    assert not list(uploads.folder.iterdir())


def test_more_bytes_than_allowed_stop_in_the_middle(uploads: Uploads) -> None:
    with pytest.raises(TooLargeError, match="1 MB"):
        receive(uploads, bytes(1_000_001))
    assert not list(uploads.folder.iterdir())


@pytest.mark.parametrize(
    "name", ["../uploads/x", "..", "", "A" * 21, "A" * 23, "/etc/passwd", "A" * 21 + "/"]
)
def test_names_point_nowhere_else(uploads: Uploads, client: TestClient, name: str) -> None:
    with pytest.raises(UnknownUploadError):
        uploads.get("me", name, "picture")
    assert client.delete(f"/v1/portraits/{name}").status_code in (404, 405, 307)


def test_uploads_belong_to_who_sent_them(uploads: Uploads) -> None:
    upload = receive(uploads, png(noise(1)))
    with pytest.raises(UnknownUploadError):
        uploads.get("you", upload.id, "picture")
    with pytest.raises(UnknownUploadError):
        uploads.get("me", upload.id, "clip")
    with pytest.raises(UnknownUploadError):
        uploads.delete("you", upload.id, "picture")
    uploads.delete("me", upload.id, "picture")
    assert not list(uploads.folder.iterdir())


def test_what_nobody_uses_is_deleted_except_what_jobs_need(uploads: Uploads) -> None:
    old, needed, fresh = (receive(uploads, png(noise(seed))) for seed in range(3))
    long_ago = 1_000_000_000
    for upload in (old, needed):
        os.utime(uploads.folder / f"{upload.id}.json", (long_ago, long_ago))
    assert len(uploads.sweep({needed.id})) == 1
    assert {file.stem for file in uploads.folder.iterdir()} == {needed.id, fresh.id}
    assert len(uploads.sweep((), everything=True)) == 2
    assert not list(uploads.folder.iterdir())


def test_the_route_answers_as_the_store_does(client: TestClient) -> None:
    assert client.post("/v1/portraits", content=b"nonsense").status_code == 422
    made = client.post("/v1/portraits", content=png(noise(2)))
    assert made.status_code == 201
    assert made.json()["faces"] == []
    name = made.json()["id"]
    assert client.delete(f"/v1/portraits/{name}").status_code == 204
    assert client.delete(f"/v1/portraits/{name}").status_code == 404
    counts = client.get("/metrics").text
    assert "vivant_uploads_total 1" in counts
    assert "vivant_uploads_refused_total 1" in counts
