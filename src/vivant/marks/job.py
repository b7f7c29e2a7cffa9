"""The marks of one job: what each of its frames gets, what its manifest says of that, and its signature.

Everything but the signature depends on the job alone: the same job marks the same frames in the same way, so a run that
was killed can be gone on with.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from vivant.errors import InputError
from vivant.marks.credentials import (
    SIGNED_SUFFIXES,
    Certificate,
    is_available,
    is_signed,
    load_certificate,
    own_certificate,
    sign,
)
from vivant.marks.ingredients import Ingredient
from vivant.marks.label import Label
from vivant.marks.watermark import Marker


class Marking(Protocol):
    """What a recording says of its marks; see `vivant.settings.Recording`."""

    @property
    def inputs(self) -> Mapping[str, Path]: ...

    @property
    def watermark(self) -> bool: ...
    @property
    def credentials(self) -> bool: ...
    @property
    def certificate(self) -> Path | None: ...
    @property
    def visible_label(self) -> bool: ...
    @property
    def consent(self) -> str | None: ...


class JobMarks:
    """Made before the first frame."""

    def __init__(self, wanted: Marking, job: Mapping[str, Any]) -> None:
        """job: what is known before the first frame, as `vivant.manifest.describe` says it. Raises InputError."""
        self._wanted, self._job = wanted, job
        told = json.dumps(job, sort_keys=True).encode()
        self._payload = int.from_bytes(hashlib.sha256(told).digest()[:4], "big")
        self._marker = Marker(self._payload) if wanted.watermark else None
        self._label = Label() if wanted.visible_label else None
        self._certificate = _certificate(wanted)

    def apply(self, image: np.ndarray) -> np.ndarray:
        """The frame to write, uint8 RGB (H, W, 3)."""
        if self._label is not None:
            image = self._label.draw(image)
        return image if self._marker is None else self._marker.mark(image)

    def describe(self) -> dict[str, Any]:
        """For the manifest."""
        signed = "absent: install 'vivant[marks]'"
        if not self._wanted.credentials:
            signed = "removed by --no-credentials"
        elif self._certificate is not None:
            signed = "own certificate" if self._wanted.certificate is not None else "self-made certificate"
        return {
            "watermark": f"{self._payload:08x}" if self._marker is not None else "removed by --no-watermark",
            "credentials": signed,
            "visible_label": self._label is not None,
            "consent": self._wanted.consent,
        }

    def sign(self, source: Path, signed: Path) -> bool:
        """Write the finished file with its credentials as `signed`; False where there are none to write."""
        if self._certificate is None or source.suffix.lower() not in SIGNED_SUFFIXES:
            return False
        sign(source, signed, self._statement(), self._certificate, self._ingredients())
        return True

    def _ingredients(self) -> tuple[Ingredient, ...]:
        hashes = {role: told["sha256"] for role, told in self._job["inputs"].items()}
        files = self._wanted.inputs
        return tuple(
            Ingredient(role, sha256, files[role] if is_signed(files[role]) else None)
            for role, sha256 in hashes.items()
        )

    def _statement(self) -> dict[str, Any]:
        job = self._job
        weights = job["weights"]
        return {
            "vivant": job["versions"]["vivant"],
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "preset": weights["preset"],
            "family": weights["family"],
            "weights_sha256": weights["weights_sha256"],
            # Hashes and no names: a film that is passed on should not tell what files were called.
            "ingredients": {role: told["sha256"] for role, told in job["inputs"].items()},
            "seed": job["seed"],
            "watermark": f"{self._payload:08x}" if self._marker is not None else None,
            "visible_label": self._label is not None,
            "consent": self._wanted.consent,
        }


def _certificate(wanted: Marking) -> Certificate | None:
    if not wanted.credentials:
        return None
    if not is_available():
        if wanted.certificate is not None:
            raise InputError(
                "--certificate needs more packages; run `python -m pip install 'vivant[marks]'`."
            )
        return None
    return own_certificate() if wanted.certificate is None else load_certificate(wanted.certificate)
