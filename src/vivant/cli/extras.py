"""Parts of the program that need more packages than the core."""

from __future__ import annotations

from importlib.util import find_spec

from vivant.errors import SetupError


def require(package: str, extra: str) -> None:
    """Raise SetupError with the command that installs the extra, where `package` is missing."""
    if find_spec(package) is None:
        raise SetupError(f"this needs {package}; run `python -m pip install 'vivant[{extra}]'`.")
