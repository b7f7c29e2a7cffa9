"""What a file was made of, as content credentials hold it: by role and hash, with its own statement if it has one.

No names: a film that is passed on should not tell what files were called, and no thumbnails of them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import c2pa

State = Literal["valid", "untrusted", "tampered", "absent", "unreadable"]
_PREFIX = "sha256:"
UNTRUSTED = "signingCredential.untrusted"


@dataclass(frozen=True)
class Ingredient:
    """One input of what is signed."""

    role: str
    """Such as source or driving."""
    sha256: str
    signed_file: Path | None
    """The file itself where it has credentials of its own; they go into the new file."""


@dataclass(frozen=True)
class IngredientTold:
    """One input, as a signed file tells it."""

    role: str
    sha256: str | None
    state: State
    """Of its own credentials, when the file was signed; absent: it had none."""
    issuer: str | None = None


def without_credentials(ingredients: tuple[Ingredient, ...]) -> list[dict[str, Any]]:
    """Those that need no more than a line of the manifest's definition."""
    return [_described(one) | {"format": "file"} for one in ingredients if one.signed_file is None]


def add_signed(builder: c2pa.Builder, ingredients: tuple[Ingredient, ...]) -> None:
    """The others: c2pa reads, checks and keeps what they say. Raises C2paError, or OSError."""
    for one in ingredients:
        if one.signed_file is not None:
            with one.signed_file.open("rb") as file:
                builder.add_ingredient(json.dumps(_described(one)), one.signed_file.suffix[1:].lower(), file)


def told(store: Mapping[str, Any]) -> tuple[IngredientTold, ...]:
    """Those of a file's active manifest; `store` as c2pa reads it."""
    manifests = store["manifests"]
    return tuple(_told(one, manifests) for one in manifests[store["active_manifest"]].get("ingredients", ()))


def _described(one: Ingredient) -> dict[str, Any]:
    # inputTo (C2PA 2.2, 10.3): used by the process, here a network, that made the asset.
    return {"title": one.role, "relationship": "inputTo", "instance_id": _PREFIX + one.sha256}


def _told(one: Mapping[str, Any], manifests: Mapping[str, Any]) -> IngredientTold:
    name = str(one.get("instance_id", ""))
    sha256 = name.removeprefix(_PREFIX) if name.startswith(_PREFIX) else None
    role, own = str(one.get("title", "")), one.get("active_manifest")
    if own is None:
        return IngredientTold(role, sha256, "absent")
    failures = one.get("validation_results", {}).get("activeManifest", {}).get("failure", ())
    codes = {failure["code"] for failure in failures}
    state: State = "tampered" if codes - {UNTRUSTED} else "untrusted" if codes else "valid"
    issuer = manifests.get(own, {}).get("signature_info", {}).get("issuer")
    return IngredientTold(role, sha256, state, issuer)
