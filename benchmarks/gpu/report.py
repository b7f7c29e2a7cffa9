"""What a benchmark of this folder found, saved after each row: time on a GPU is lent. A way that fails is a row too."""

from __future__ import annotations

import json
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter
from typing import Any

import torch


class Report:
    """Rows, and the file that holds them. Where a way fails, its row says why and the others go on."""

    def __init__(self, path: Path | None, device: torch.device, **about: Any) -> None:
        self.path = path
        name = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
        self.found: dict[str, Any] = {"device": name, "torch": torch.__version__, **about, "rows": []}
        self.num_failed = 0

    @property
    def rows(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.found["rows"]
        return found

    def add(self, row: dict[str, Any]) -> None:
        """Show and save a row."""
        self.rows.append(row)
        print(json.dumps(row), flush=True)
        if self.path is not None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.write_text(json.dumps(self.found, indent=2))

    @contextmanager
    def attempt(self, **named: Any) -> Iterator[dict[str, Any]]:
        """A row to be filled; says how long all of it took, compiling and warming up too."""
        row, begin = dict(named), perf_counter()
        try:
            yield row
        except Exception as error:  # noqa: BLE001 - whatever it was, the next way may work
            self.num_failed += 1
            row["failed"] = f"{type(error).__name__}: {error}"[:2000]
            traceback.print_exc()
        row["seconds_in_all"] = round(perf_counter() - begin, 1)
        self.add(row)

    def finish(self) -> None:
        """Ends the program where something failed."""
        if self.num_failed:
            sys.exit(f"{self.num_failed} of {len(self.rows)} ways FAILED")
