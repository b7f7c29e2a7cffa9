"""vivant doctor: every problem with the command that mends it."""

from __future__ import annotations

import json
import shutil
from collections import namedtuple
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest
import torch

from vivant.cli import checks
from vivant.cli.checks import Finding
from vivant.face import models
from vivant.presets import PRESETS

from .lines import Run

SOUND = Finding(name="all", found="well")


@pytest.fixture
def only(monkeypatch: pytest.MonkeyPatch) -> list[Finding]:
    """What the checks find."""
    findings = [SOUND]
    monkeypatch.setattr(checks, "all_checks", lambda: findings)
    return findings


def test_all_is_well(run: Run, only: list[Finding]) -> None:
    done = run("doctor")
    assert (done.code, done.out.split()) == (0, ["ok", "all", "well"])


def test_what_is_needed_counts(run: Run, only: list[Finding]) -> None:
    only.append(Finding(name="voice", found="missing", ok=False, required=False, fix="apt-get install voice"))
    done = run("doctor")
    assert done.code == 0
    assert "optional fix: apt-get install voice" in done.out
    only.append(Finding(name="lungs", found="missing", ok=False, fix="breathe --in"))
    done = run("doctor")
    assert done.code == 1
    assert "BAD lungs" in done.out
    assert "    fix: breathe --in" in done.out
    done = run("doctor", "--json")
    assert done.code == 1
    assert [finding["ok"] for finding in json.loads(done.out)] == [True, False, False]


def test_this_machine(run: Run) -> None:
    """Whatever is wrong here has a command."""
    done = run("doctor", "--json")
    findings = json.loads(done.out)
    assert done.code == int(any(f["required"] and not f["ok"] for f in findings))
    assert {"python", "torch", "opencv", "video and sound", "face models"} <= {f["name"] for f in findings}
    assert all(f["ok"] or f["fix"] or f["name"] == "studio face model" for f in findings)


def test_missing_face_models_are_fetched(
    run: Run, tmp_path: Path, only: list[Finding], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VIVANT_FACE_MODELS", str(tmp_path))
    found = checks.check_face_models()
    assert not found.ok
    assert found.fix == "vivant doctor --fix"
    fetched = []
    monkeypatch.setattr(models, "fetch_face_models", lambda report: fetched.append(report("Fetching.")))
    assert run("doctor").err == ""
    assert run("doctor", "--fix").err == "Fetching.\n"
    assert len(fetched) == 1


def test_a_second_opencv_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    installed = {"opencv-python-headless": "5.0", "opencv-python": "4.9"}

    def version(name: str) -> str:
        if name not in installed:
            raise PackageNotFoundError(name)
        return installed[name]

    monkeypatch.setattr(checks, "version", version)
    found = checks.check_opencv()
    assert not found.ok
    assert found.fix is not None
    assert "uninstall --yes opencv-python && " in found.fix
    assert found.fix.endswith("opencv-python-headless")
    del installed["opencv-python"]
    assert checks.check_opencv().ok


def test_a_cpu_build_beside_a_card_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", None)
    monkeypatch.setattr(shutil, "which", lambda name: "/usr/bin/nvidia-smi")
    found = checks.check_torch()
    assert (found.ok, found.required) == (False, True)
    assert found.fix is not None
    assert "download.pytorch.org" in found.fix
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    assert "driver is older than CUDA 13.0" in checks.check_torch().found


def test_missing_weights_and_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VIVANT_HOME", str(tmp_path / "not" / "made"))
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(1, 1, 10))
    found = checks.check_disk()
    assert (found.ok, found.required) == (False, False)
    assert found.fix is not None
    assert "VIVANT_HOME" in found.fix
    lost = checks.check_weights(PRESETS["liveportrait"])  # not embedded, so certainly not in an empty store
    assert not lost.ok
    assert lost.fix is not None


def test_a_package_that_cannot_be_imported_is_a_finding() -> None:
    def broken() -> Finding:
        raise ImportError("libGL.so.1: cannot open shared object file", name="cv2")

    found = checks._guarded(broken)
    assert (found.name, found.ok) == ("cv2", False)
    assert "libGL.so.1" in found.found
