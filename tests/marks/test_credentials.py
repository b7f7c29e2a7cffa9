"""Content credentials: valid, untrusted, tampered, absent; and what a whole job writes and `vivant verify` reads."""

from __future__ import annotations

import json
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from PIL import Image
from skimage import data

from vivant.errors import InputError
from vivant.marks import credentials
from vivant.marks.credentials import load_certificate, own_certificate, read, sign
from vivant.marks.job import JobMarks
from vivant.marks.verify import verify
from vivant.settings import Recording

JOB: dict[str, Any] = {
    "versions": {"vivant": "0"},
    "weights": {"preset": "tiny", "family": "liveportrait", "weights_sha256": "ab"},
    "inputs": {"source": {"name": "me.png", "sha256": "cd"}, "driving": {"name": "d.mp4", "sha256": "ef"}},
    "seed": 0,
}


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VIVANT_HOME", str(tmp_path / "home"))


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    Image.fromarray(data.astronaut()).save(tmp_path / "picture.png")
    return tmp_path / "picture.png"


def job_marks(**given: Any) -> JobMarks:
    return JobMarks(Recording(source=Path("s"), driving=Path("d"), **given), JOB)


def test_a_signed_file_is_intact_and_says_who_made_it_without_names(picture: Path, tmp_path: Path) -> None:
    marks = job_marks(consent="she agreed")
    Image.fromarray(marks.apply(np.array(Image.open(picture)))).save(tmp_path / "marked.png")
    assert marks.sign(tmp_path / "marked.png", tmp_path / "signed.png")
    verdict = verify(tmp_path / "signed.png")
    assert verdict.credentials.state == "untrusted"
    assert verdict.credentials.issuer == "vivant (self-made certificate)"
    statement = verdict.credentials.statement
    assert statement is not None
    assert statement["consent"] == "she agreed"
    assert statement["ingredients"] == {"source": "cd", "driving": "ef"}
    assert b"me.png" not in (tmp_path / "signed.png").read_bytes()
    assert verdict.watermark.is_marked
    assert verdict.agrees is True
    assert marks.describe()["watermark"] == statement["watermark"]


def test_one_flipped_byte_is_seen(picture: Path, tmp_path: Path) -> None:
    job_marks().sign(picture, tmp_path / "signed.png")
    content = bytearray((tmp_path / "signed.png").read_bytes())
    content[-2000] ^= 1
    (tmp_path / "signed.png").write_bytes(content)
    told = read(tmp_path / "signed.png")
    assert told.state == "tampered"
    assert told.problem is not None
    assert "mismatch" in told.problem


def test_credentials_of_another_picture_do_not_belong_to_the_watermark(picture: Path, tmp_path: Path) -> None:
    other = JobMarks(Recording(source=Path("s"), driving=Path("d")), {**JOB, "seed": 1})
    Image.fromarray(other.apply(np.array(Image.open(picture)))).save(tmp_path / "marked.png")
    job_marks().sign(tmp_path / "marked.png", tmp_path / "signed.png")
    assert verify(tmp_path / "signed.png").agrees is False


def test_ingredients_are_told_with_the_credentials_of_their_own(picture: Path, tmp_path: Path) -> None:
    """A portrait that was made with vivant itself, intact; one that was changed; a driver that says nothing."""
    made, broken = tmp_path / "made.png", tmp_path / "broken.png"
    assert job_marks(consent="she agreed").sign(picture, made)
    content = bytearray(made.read_bytes())
    content[-2000] ^= 1
    broken.write_bytes(content)
    for source, state in ((made, "untrusted"), (broken, "tampered"), (picture, "absent")):
        settings = Recording(source=source, driving=picture)
        marks = JobMarks(settings, JOB)
        for suffix in (".png", ".jpg", ".webp"):
            Image.open(picture).save(tmp_path / f"plain{suffix}")
            signed = tmp_path / f"signed{suffix}"
            assert marks.sign(tmp_path / f"plain{suffix}", signed)
            told = read(signed)
            assert told.state == "untrusted", "what an ingredient says does not change what the file is"
            told_of = {one.role: one for one in told.ingredients}
            assert {role: one.sha256 for role, one in told_of.items()} == {"source": "cd", "driving": "ef"}
            assert (told_of["source"].state, told_of["driving"].state) == (state, "absent")
            assert (told_of["source"].issuer is None) == (state == "absent")
            assert b"she agreed" in signed.read_bytes() or state == "absent", "its statement goes with it"


def test_a_file_without_says_absent_and_other_kinds_that_they_cannot(picture: Path, tmp_path: Path) -> None:
    assert read(picture).state == "absent"
    (tmp_path / "notes.txt").write_text("x")
    assert read(tmp_path / "notes.txt").state == "unreadable"
    verdict = verify(picture)
    assert (verdict.watermark.is_marked, verdict.agrees) == (False, None)


def test_without_marks_the_manifest_says_so_and_frames_stay(picture: Path) -> None:
    marks = job_marks(watermark=False, credentials=False)
    image = np.array(Image.open(picture))
    assert marks.apply(image) is image
    assert not marks.sign(picture, picture)
    told = marks.describe()
    assert (told["watermark"], told["credentials"]) == (
        "removed by --no-watermark",
        "removed by --no-credentials",
    )


def test_where_the_extra_is_missing_the_manifest_says_so(
    picture: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(credentials, "find_spec", lambda name: None)
    marks = job_marks()
    assert marks.describe()["credentials"] == "absent: install 'vivant[marks]'"
    assert read(picture).state == "unreadable"
    with pytest.raises(InputError, match="marks"):
        job_marks(certificate=Path("c.pem"))


def test_a_certificate_of_ones_own(picture: Path, tmp_path: Path) -> None:
    made = own_certificate()
    kept = tmp_path / "home" / "credentials.pem"
    assert kept.stat().st_mode & 0o077 == 0
    assert own_certificate() == made == load_certificate(kept)
    sign(picture, tmp_path / "signed.png", {"vivant": "0"}, load_certificate(kept))
    assert read(tmp_path / "signed.png").state == "untrusted"
    for wrong in (b"", b"nonsense", made.key, made.chain):
        (tmp_path / "wrong.pem").write_bytes(wrong)
        with pytest.raises(InputError, match=r"wrong\.pem"):
            load_certificate(tmp_path / "wrong.pem")
    with pytest.raises(InputError, match=r"nowhere\.pem"):
        load_certificate(tmp_path / "nowhere.pem")


def test_a_key_behind_its_certificates_stays_out_of_what_is_signed(picture: Path, tmp_path: Path) -> None:
    made = own_certificate()
    (tmp_path / "mine.pem").write_bytes(made.chain + made.key)
    certificate = load_certificate(tmp_path / "mine.pem")
    assert certificate == made
    signed = tmp_path / "signed.png"
    sign(picture, signed, {"vivant": "0"}, certificate)
    assert read(signed).state == "untrusted"
    key = serialization.load_pem_private_key(made.key, None)
    assert isinstance(key, Ed25519PrivateKey)
    assert key.private_bytes_raw() not in signed.read_bytes()


def test_looking_at_a_file_asks_nobody(tmp_path: Path) -> None:
    """A file may name an address where its credentials are said to be."""
    asked: list[str] = []

    class Listener(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_error(404)

        def log_message(self, *given: Any) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Listener) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        words = (
            '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
            f'<rdf:Description xmlns:dcterms="http://purl.org/dc/terms/" '
            f'dcterms:provenance="http://127.0.0.1:{server.server_port}/made.c2pa"/></rdf:RDF></x:xmpmeta>'
        )
        Image.fromarray(data.astronaut()).save(tmp_path / "elsewhere.jpg", xmp=words.encode())
        found = read(tmp_path / "elsewhere.jpg")
        server.shutdown()
    assert asked == []
    assert (found.state, found.problem) == (
        "unreadable",
        "its credentials lie elsewhere, and nobody is asked for them",
    )


def test_a_certificate_that_cannot_sign_is_refused_when_it_is_loaded(tmp_path: Path) -> None:
    """A key and certificates that do not belong together, and a curve that is signed otherwise."""
    one = own_certificate()
    (tmp_path / "home" / "credentials.pem").unlink()
    other = own_certificate()
    curved = ec.generate_private_key(ec.SECP384R1()).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    cut = other.chain[: len(other.chain) // 4]
    for key, chain, says in (
        (one.key, other.chain, "cannot sign"),
        (curved, one.chain, "should hold an Ed25519 or P-256 key"),
        (other.key, cut, "should hold an Ed25519 or P-256 key"),
    ):
        (tmp_path / "wrong.pem").write_bytes(key + chain)
        with pytest.raises(InputError, match=rf"wrong\.pem {says}"):
            load_certificate(tmp_path / "wrong.pem")


def test_the_label_is_seen_and_leaves_the_rest_alone(picture: Path) -> None:
    image = np.array(Image.open(picture))
    labelled = job_marks(visible_label=True, watermark=False).apply(image)
    changed = (labelled != image).any(2)
    rows, columns = np.nonzero(changed)
    assert rows.min() > 460
    assert columns.max() < 200
    tiny = np.zeros((5, 9, 3), np.uint8)
    assert job_marks(visible_label=True).apply(tiny).shape == tiny.shape


def test_verify_as_json(picture: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from vivant.cli import main

    picture = picture.with_name("small.png")
    Image.fromarray(data.astronaut()[:256, :256]).save(picture)
    assert main(["verify", str(picture), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["credentials"]["state"], told["watermark"]["is_marked"]) == ("absent", False)
    assert main(["verify", str(picture)]) == 0
    assert "none found" in capsys.readouterr().out
    assert main(["verify", str(picture.with_name("none.png"))]) == 2
