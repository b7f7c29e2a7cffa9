"""Everything needed to go on exactly where a run stopped, in safetensors and JSON (no pickle).

Layout of a run folder: `snapshot.safetensors` + `snapshot.json` (latest), `stats.jsonl`, `export/`.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from vivant.errors import CheckpointError
from vivant.training.distributed import full_tensor


def optimizer_tensors(optimizer: torch.optim.Optimizer, names: dict[int, str]) -> dict[str, Tensor]:
    """Optimiser state as flat tensors named `optimizer/<parameter>/<slot>`."""
    out: dict[str, Tensor] = {}
    for parameter, slots in optimizer.state.items():
        for slot, value in slots.items():
            out[f"optimizer/{names[id(parameter)]}/{slot}"] = full_tensor(torch.as_tensor(value)).detach()
    return out


def restore_optimizer(
    optimizer: torch.optim.Optimizer, names: dict[int, str], tensors: dict[str, Tensor]
) -> None:
    """Inverse of `optimizer_tensors`, for replicated parameters."""
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            prefix = f"optimizer/{names[id(parameter)]}/"
            slots = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
            if slots:
                optimizer.state[parameter] = {
                    k: v.clone() if k == "step" else v.to(parameter.device).clone() for k, v in slots.items()
                }


def save(folder: Path, tensors: dict[str, Tensor], meta: dict[str, Any]) -> None:
    """Write both files under temporary names, then move them: a kill at any moment leaves a whole snapshot.

    The step number is inside the tensor file too, so that a kill between the two moves is noticed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    packed = {k: v.contiguous() for k, v in tensors.items()}
    save_file(packed, folder / "snapshot.safetensors.tmp", metadata={"meta": json.dumps(meta)})
    os.replace(folder / "snapshot.safetensors.tmp", folder / "snapshot.safetensors")


def load(folder: Path) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """The latest snapshot, or None when the folder has none."""
    from safetensors import SafetensorError, safe_open

    path = folder / "snapshot.safetensors"
    if not path.exists():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            meta = json.loads((file.metadata() or {})["meta"])
        return load_file(path), meta
    except (SafetensorError, KeyError, json.JSONDecodeError) as error:
        raise CheckpointError(
            f"{path} is not a readable training snapshot ({error}). Delete it to start the run again."
        ) from error


def network_tensors(network: nn.Module, prefix: str) -> dict[str, Tensor]:
    return {f"{prefix}/{k}": full_tensor(v).detach().clone() for k, v in network.state_dict().items()}


def restore_network(network: nn.Module, prefix: str, tensors: dict[str, Tensor]) -> None:
    own = {k.removeprefix(prefix + "/"): v for k, v in tensors.items() if k.startswith(prefix + "/")}
    network.load_state_dict(own, strict=True)
