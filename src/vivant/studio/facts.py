"""What is known of the arrays in a safetensors file, in its header."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

KEY = "facts"


def packed(facts: Mapping[str, Any]) -> dict[str, str]:
    """Under one key: the library writes several in another order in every process, and the same data should be the same
    bytes."""
    return {KEY: json.dumps(facts)}


def unpacked(header: Mapping[str, str]) -> dict[str, Any]:
    """As `packed`, or of files from before it, in which each fact has its own key."""
    if KEY in header:
        facts: dict[str, Any] = json.loads(header[KEY])
        return facts
    return {name: json.loads(text) for name, text in header.items()}
