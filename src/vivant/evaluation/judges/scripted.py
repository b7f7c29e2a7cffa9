"""Networks that others publish as TorchScript: features of clips, expression and pose, gaze, voice and pose.

TorchScript and not torch.export: the reader of `.pt2` falls back to unpickling whatever the file holds, which can run
code. Still, a script computes what its author wrote: give only files that you trust.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vivant.errors import CheckpointError, InputError


class Scripted:
    """A loaded script that was tried once on zeros."""

    def __init__(self, script: Any, name: str) -> None:
        self._script, self.name = script, name

    @torch.no_grad()
    def __call__(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Its outputs, each (B, D), float32."""
        made = self._script(*inputs)
        made = made if isinstance(made, (tuple, list)) else (made,)
        return tuple(each.float().flatten(1) for each in made)


def load_scripted(
    path: Path, name: str, inputs: Sequence[tuple[int, ...]], widths: Sequence[int | None]
) -> Scripted:
    """The script at `path`.

    Args:
        name: what `--weights` calls it, for messages.
        inputs: shapes that it must take, batch first.
        widths: how many numbers each of its outputs has per row; None: any.

    Raises InputError where there is no file, CheckpointError where it is no script or does not fit.
    """
    if not path.is_file():
        raise InputError(f"--weights {name}={path}: there is no such file")
    try:
        with warnings.catch_warnings():
            # Deprecated in favour of torch.export, whose reader may run code; see above.
            warnings.filterwarnings("ignore", ".*torch.jit.load.*", DeprecationWarning)
            script = torch.jit.load(str(path), map_location="cpu").eval()
    except (RuntimeError, ValueError) as error:
        raise CheckpointError(
            f"--weights {name}={path} is not TorchScript; export it with torch.jit.trace"
        ) from error
    network = Scripted(script, name)
    try:
        made = network(*(torch.zeros(shape) for shape in inputs))
    except (RuntimeError, TypeError, AttributeError, IndexError) as error:
        # IndexError: what it gives has no second axis to flatten.
        taken = " and ".join(str(shape) for shape in inputs)
        first = str(error).strip().splitlines()[-1]
        raise CheckpointError(f"--weights {name}={path} does not take {taken}: {first}") from error
    found = tuple(each.shape[1] for each in made)
    fits = len(found) == len(widths) and all(
        wanted in (None, had) for had, wanted in zip(found, widths, strict=True)
    )
    if not fits or any(len(each) != inputs[0][0] for each in made):
        wanted = ", ".join("any" if width is None else str(width) for width in widths)
        raise CheckpointError(
            f"--weights {name}={path} gives {found} numbers per row; it should give ({wanted})"
        )
    return network
