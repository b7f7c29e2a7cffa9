"""The program starts fast and says who it is."""

from __future__ import annotations

import subprocess
import sys

import vivant


def test_version() -> None:
    out = subprocess.run(
        [sys.executable, "-m", "vivant", "--version"], capture_output=True, text=True, check=True
    )
    assert out.stdout.strip() == f"vivant {vivant.__version__}"


def test_help_imports_nothing_heavy() -> None:
    """Half a second is the limit for --help; what costs time is imports, so those are checked."""
    program = (
        "import sys\n"
        "from vivant.cli.app import build_app\n"
        "build_app()\n"
        "print([name for name in ('torch', 'numpy', 'cv2', 'av', 'scipy', 'PIL') if name in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_help_lists_the_program() -> None:
    out = subprocess.run(
        [sys.executable, "-m", "vivant", "--help"], capture_output=True, text=True, check=True
    )
    assert "portrait comes alive" in out.stdout
