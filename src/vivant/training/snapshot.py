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

from vivant.errors import CheckpointError, InputError
from vivant.media.staging import output_errors
from vivant.training.config import TrainConfig
from vivant.training.distributed import full_tensor, laid_out_as

_FIXED = {
    "name": "the recipe",
    "seed": "--seed",
    "batch_size": "batch_size",
    "num_images": "the number of images (--images)",
}
"""What stays the same as long as a run goes on, and what users call it. The number of processes may change."""


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
    """Inverse of `optimizer_tensors`, for replicated and for sharded parameters."""
    for group in optimizer.param_groups:
        # A fused kernel reads the number of steps on the parameter's device, all others on the CPU.
        on_device = bool(group.get("fused") or group.get("capturable"))
        for parameter in group["params"]:
            prefix = f"optimizer/{names[id(parameter)]}/"
            slots = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
            if slots:
                step_device = parameter.device if on_device else torch.device("cpu")
                optimizer.state[parameter] = {
                    k: v.to(step_device, copy=True) if k == "step" else laid_out_as(parameter, v)
                    for k, v in slots.items()
                }


def check_same_run(folder: Path, meta: dict[str, Any], config: TrainConfig) -> None:
    """Raise InputError where the snapshot in `folder` is of another run than `config` describes."""
    saved = meta.get("config", {})
    different = [
        f"{said} is {saved[name]} there and {getattr(config, name)} here"
        for name, said in _FIXED.items()
        if name in saved and saved[name] != getattr(config, name)
    ]
    if different:
        raise InputError(
            f"{folder} holds another run: {'; '.join(different)}. Give another folder as --out, delete this one, or "
            "say what was said when it began."
        )


def save(folder: Path, tensors: dict[str, Tensor], meta: dict[str, Any]) -> None:
    """Write both files under temporary names, then move them: a kill at any moment leaves a whole snapshot.

    The step number is inside the tensor file too, so that a kill between the two moves is noticed.
    """
    packed = {k: v.contiguous() for k, v in tensors.items()}
    with output_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
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


def restore_network(network: nn.Module, prefix: str, tensors: dict[str, Tensor], folder: Path) -> None:
    """Inverse of `network_tensors`. Raises InputError, naming `folder`, for the weights of other networks."""
    own = {k.removeprefix(prefix + "/"): v for k, v in tensors.items() if k.startswith(prefix + "/")}
    wanted = network.state_dict()
    if odd := sorted(own.keys() ^ wanted.keys()) or [k for k in own if own[k].shape != wanted[k].shape]:
        raise InputError(
            f"{folder} holds a run of other networks ({odd[0]} differs). Give another folder as --out, or delete this "
            "one."
        )
    network.load_state_dict(own, strict=True)
