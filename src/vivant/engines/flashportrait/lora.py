"""Low-rank additions to the transformer (LoRA), merged into its weights once, when they are converted.

Known names: `diffusion_model.<module>.` with lora_down/lora_up or lora_A/lora_B (product), diff (weight), diff_b
(bias), diff_m (modulation). No alpha: the published program scales nothing. Modules are named as in the published
transformer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from vivant.errors import CheckpointError
from vivant.published import check_tensors, read_file

PREFIX = "diffusion_model."
PAIRS = (("lora_down.weight", "lora_up.weight"), ("lora_A.weight", "lora_B.weight"))
ADDED = {"diff": "weight", "diff_b": "bias", "diff_m": "modulation"}

Reader = Callable[[], Tensor]


@dataclass(frozen=True)
class Lora:
    """What is added, by published name of the tensor."""

    products: Mapping[str, tuple[Tensor, Tensor]]
    """Down (rank, in) and up (out, rank)."""
    sums: Mapping[str, Tensor]

    def merged(self, path: Path, readers: Mapping[str, Reader]) -> dict[str, Reader]:
        """Readers of our checkpoint's tensors, with the additions. Raises CheckpointError for what has no place."""
        from diffusers.loaders.single_file_utils import convert_wan_transformer_to_diffusers

        names = {*self.products, *self.sums}
        ours: dict[str, str] = convert_wan_transformer_to_diffusers({name: name for name in names})
        out = dict(readers)
        for name, theirs in ours.items():
            key = f"transformer.{name}"
            if key not in readers:
                raise CheckpointError(f"{path} adds to {theirs}, which the transformer does not have")
            out[key] = self._reader(path, theirs, readers[key])
        return out

    def _reader(self, path: Path, name: str, base: Reader) -> Reader:
        def read() -> Tensor:
            weight = base()
            total = weight.float()
            if name in self.products:
                down, up = (part.float() for part in self.products[name])
                total = total + _fitting(path, name, up @ down, weight)
            if name in self.sums:
                total = total + _fitting(path, name, self.sums[name].float(), weight)
            return total.to(weight.dtype)

        return read


def _fitting(path: Path, name: str, addition: Tensor, weight: Tensor) -> Tensor:
    if addition.shape != weight.shape:
        raise CheckpointError(
            f"{path} adds {tuple(addition.shape)} to {name}, which is {tuple(weight.shape)}: it is of another model"
        )
    return addition


def read_lora(path: Path) -> Lora:
    """Raises CheckpointError for names that are not understood: part of a LoRA is no LoRA."""
    data = {key.removeprefix(PREFIX): value for key, value in check_tensors(path, read_file(path)).items()}
    products: dict[str, tuple[Tensor, Tensor]] = {}
    sums: dict[str, Tensor] = {}
    left = dict(data)
    for key, value in data.items():
        module, _, leaf = key.rpartition(".")
        if leaf in ADDED:
            sums[f"{module}.{ADDED[leaf]}"] = value
            left.pop(key)
        for down, up in PAIRS:
            if key.endswith("." + down) and (partner := key[: -len(down)] + up) in data:
                products[f"{key[: -len(down)]}weight"] = value, data[partner]
                left.pop(key)
                left.pop(partner)
    if left:
        raise CheckpointError(
            f"{path} has unknown {', '.join(sorted(left)[:5])}; it is not a LoRA that we can merge"
        )
    return Lora(products, sums)
