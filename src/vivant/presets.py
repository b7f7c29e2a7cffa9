"""Presets: a name for a family, its weights, their licence and the numbers to expect. Data, in one table.

`load` turns a name, or a folder that training or `vivant convert` wrote, into an Engine.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from vivant.errors import CheckpointError, InputError
from vivant.store import embedded_weights, store_folder

DEFAULT_PRESET = "liveportrait-mini"
EXPORT_MANIFEST = "onnx.json"
"""What makes a folder one of ONNX files; as `export.MANIFEST`, which imports torch."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Preset:
    """One published set of weights."""

    name: str
    family: str
    summary: str
    """One sentence for a list on a screen."""
    embedded: bool
    """True: the weights come with the package. False: `vivant convert` puts them into the user's store."""
    sha256: str | None
    """Of model.safetensors. None where the file is made on the user's machine and declares its own hash."""
    licence: str
    source: str
    """Where the weights come from: a URL, or the recipe in this repository."""
    speed: str
    """Measured frames per second, and on what."""
    variant: str | None = None
    """Which of the family's published weights they are, where there are several; see its `convert.VARIANTS`."""
    voice: str | None = None
    """Embedded weights that turn speech into this preset's motion; None where there are none."""
    expected: Mapping[str, float] = field(default_factory=dict)
    """Metrics that `vivant evaluate` should reproduce, by name."""

    @property
    def folder(self) -> Path:
        """Where the checkpoint is, or would be."""
        return embedded_weights(self.name) if self.embedded else store_folder() / "presets" / self.name


PRESETS: dict[str, Preset] = {
    preset.name: preset
    for preset in (
        Preset(
            name="liveportrait-mini",
            family="liveportrait",
            summary="Small human portraits in real time on a CPU; trained from scratch on synthetic faces.",
            embedded=True,
            sha256="73914f052191aeb411dc651643bec69fbc65d742e7391d514bf43f9636dc4c02",
            licence="Apache-2.0",
            source="recipes mini_motion, _generator, _finish, _stage2; see weights/liveportrait-mini/README.md",
            voice="liveportrait-voice-mini",
            speed="32 frames/s networks, 20 end to end, 2 CPU cores (AVX512-BF16, no AMX)",
            expected={
                "psnr_over_copy_db": 4.97,
                "landmark_error_over_copy": 0.111,
                "jaw": 0.826,
                "blink": 0.939,
            },
        ),
        Preset(
            name="refvae-mini",
            family="refvae",
            summary="A voice makes a small portrait speak (diffusion, soft); trained from scratch on synthetic faces.",
            embedded=True,
            sha256="342101661597a2977895633111ae014521a9ae0eabdc5b3d2fcb1ed54b17a5c0",
            licence="Apache-2.0",
            source="recipes mini_vae_1 to mini_decoder; see weights/refvae-mini/README.md",
            speed="34 frames/s with pasting, 60 without, at 128 px, 2 CPU cores (AVX512-BF16, no AMX)",
        ),
        Preset(
            name="personalive-mini",
            family="personalive",
            summary="A video drives a small portrait as a stream, by diffusion (soft); trained on synthetic faces.",
            embedded=True,
            sha256="d83c69263a2296b10961bab4049b90b31e1301b23bf1cf1c50fc497700e25c24",
            licence="Apache-2.0",
            source="recipes mini_start to mini_stage3; see weights/personalive-mini/README.md",
            speed="7 frames/s with pasting, at 128 px, 2 CPU cores (AVX512-BF16, no AMX)",
        ),
        Preset(
            name="flashportrait-mini",
            family="flashportrait",
            summary="A video drives a small portrait by diffusion in windows (soft); trained on synthetic faces.",
            embedded=True,
            sha256="23168a8aab2306d03187ba362e2a81a6adb98bce2e09e49330c27439f05d50d9",
            licence="Apache-2.0",
            source="recipes mini_face to mini_decoder; see weights/flashportrait-mini/README.md",
            speed="15 frames/s end to end without pasting, at 128 px, 2 CPU cores (AVX512-BF16, no AMX)",
        ),
        Preset(
            name="liveportrait",
            family="liveportrait",
            summary="The published LivePortrait weights (human), converted by `vivant convert`.",
            embedded=False,
            sha256=None,
            licence="MIT",
            source="https://huggingface.co/KwaiVGI/LivePortrait",
            speed="1.4 s per 512 px frame on 2 CPU cores (AVX512-BF16, no AMX)",
        ),
        Preset(
            name="liveportrait-animals",
            family="liveportrait",
            summary="The published LivePortrait weights for animals, converted by `vivant convert`.",
            embedded=False,
            sha256=None,
            licence="MIT",
            source="https://huggingface.co/KwaiVGI/LivePortrait (liveportrait_animals/base_models_v1.1)",
            speed="as liveportrait: the same networks",
            variant="animals",
        ),
        Preset(
            name="personalive",
            family="personalive",
            summary="The published PersonaLive weights (diffusion, 15 frames late), converted by `vivant convert`.",
            embedded=False,
            sha256=None,
            licence="Apache-2.0, for academic research only",
            source="https://huggingface.co/huaichang/PersonaLive",
            speed="not measured; for GPUs (8.7 TFLOP per 512 px frame)",
        ),
        Preset(
            name="flashportrait",
            family="flashportrait",
            summary="The published FlashPortrait weights (17 G parameters, for GPUs), converted by `vivant convert`.",
            embedded=False,
            sha256=None,
            licence="of its authors and of Wan2.1 (Apache-2.0); read both before use",
            source="https://huggingface.co/FrancisRing/FlashPortrait and Wan-AI/Wan2.1-I2V-14B-720P",
            speed="not measured; 1.8 PFLOP per step of 81 frames at 512 px",
        ),
    )
}


Runtime = Literal["eager", "compile", "graphs", "onnx"]


def load(
    name_or_path: str | Path,
    device: str = "auto",
    dtype: str = "auto",
    runtime: Runtime = "eager",
    memory: str = "full",
) -> Any:
    """An Engine, ready to animate.

    Args:
        name_or_path: a name in PRESETS, or a folder with model.safetensors and config.json, or one that
            `vivant export` wrote.
        device: "auto" (CUDA, else CPU), or anything torch.device takes.
        dtype: "auto" (bfloat16 where the device computes it fast), "float32", "bfloat16" or "float16".
        runtime: "eager", "compile" for torch.compile (slow first frame, then faster on a GPU), "graphs" for CUDA graphs
            (not flashportrait; likewise), or "onnx" for onnxruntime on the CPU in float32 (a checkpoint is
            exported into the user's store the first time).
        memory: "full", or for models larger than the device's memory "fp8" (half as much, a little coarser), "model"
            (one network there at a time) or "sequential" (one layer at a time); see vivant.runtime.offload.

    Raises CheckpointError where weights are missing or wrong, InputError for an unknown name or setting.
    """
    import torch

    from vivant import checkpoint
    from vivant.engines import engine_class
    from vivant.runtime import offload, precision
    from vivant.runtime.compile import compile_methods

    if runtime not in get_args(Runtime):
        raise InputError(f"{runtime!r} is not a runtime; there are {', '.join(get_args(Runtime))}")
    preset = PRESETS.get(str(name_or_path))
    folder = find_checkpoint(name_or_path)
    if runtime == "onnx":
        return _load_onnx(folder, preset, device, dtype)
    if (folder / EXPORT_MANIFEST).is_file():
        raise InputError(f"{folder} holds ONNX files; they need the runtime onnx")
    target = precision.choose_device(device)
    way = offload.choose_memory(memory)
    family: Any = engine_class(checkpoint.read_config(folder)["family"])
    if runtime == "graphs":
        _check_recordable(family, target, way)
    config, networks = checkpoint.load(
        folder,
        family.config_type,
        family.build_networks,
        device=target if way == "full" else "cpu",
        sha256=preset.sha256 if preset is not None else None,
    )
    chosen = precision.choose_dtype(dtype, target)
    family.fold_networks(networks)
    precision.place(networks, target if way == "full" else torch.device("cpu"), chosen)
    offload.rest(networks, way, target)
    if runtime == "compile":
        compile_methods(networks, family.network_methods)
    engine = family(config, networks, chosen)
    if runtime == "graphs":
        engine.record()
    return engine


def _check_recordable(family: Any, device: Any, memory: str) -> None:
    if not (family.can_record and device.type == "cuda" and memory == "full"):
        raise InputError(
            f"the runtime graphs is for liveportrait, personalive and refvae on a CUDA device that holds all, not for "
            f"{family.family} on {device} with the memory {memory}; leave the runtime out"
        )


def _load_onnx(folder: Path, preset: Preset | None, device: str, dtype: str) -> Any:
    """An Engine on onnxruntime, from an exported folder, or from a checkpoint by way of the user's store."""
    from vivant import __version__, checkpoint
    from vivant.export import export, load_exported

    if device not in ("auto", "cpu"):
        raise InputError(f"the runtime onnx computes on the CPU, not on {device}; leave the device out")
    if dtype not in ("auto", "float32"):
        raise InputError(f"the runtime onnx computes in float32, not in {dtype}; leave the precision out")
    if not (folder / EXPORT_MANIFEST).is_file():
        digest = checkpoint.read_config(folder)["weights_sha256"]
        stored = store_folder() / "onnx" / f"{digest[:16]}-{__version__}"
        if not (stored / EXPORT_MANIFEST).is_file():
            log.info("exporting %s to %s, once", folder, stored)
            stored.parent.mkdir(parents=True, exist_ok=True)
            export(folder, stored, sha256=preset.sha256 if preset is not None else None)
        folder = stored
    return load_exported(folder)


def load_voice(name: str | Path, what: str | Path = "sound", nod_degrees: float | None = None) -> Any:
    """What turns speech into motion for a preset. Raises InputError, naming `what` speaks, where it has no voice.

    nod_degrees: how far the head nods with the stress of speech; None: the voice's default.
    """
    from vivant.engines import voice_class

    preset = PRESETS.get(str(name))
    if preset is None or preset.voice is None:
        able = ", ".join(sorted(other.name for other in PRESETS.values() if other.voice is not None))
        raise InputError(
            f"{what} has only sound, which cannot drive {name}; give a video, or use the preset {able}."
        )
    return voice_class(preset.family).load(embedded_weights(preset.voice), nod_degrees)


def find_checkpoint(name_or_path: str | Path) -> Path:
    """The folder that holds the weights of a preset, or of a path. Raises where there are none."""
    from vivant import checkpoint

    preset = PRESETS.get(str(name_or_path))
    if preset is not None:
        if not (preset.folder / checkpoint.WEIGHTS).is_file():
            raise CheckpointError(_how_to_get(preset))
        return preset.folder
    folder = Path(name_or_path).expanduser()
    if folder.is_dir():
        return folder
    if folder.name == checkpoint.WEIGHTS and folder.is_file():
        return folder.parent
    if folder.is_file():
        checkpoint.check_weights_file(folder)
        raise CheckpointError(
            f"{folder}: give the folder that holds {checkpoint.WEIGHTS} and {checkpoint.CONFIG}"
        )
    raise InputError(
        f"{name_or_path} is neither a preset ({', '.join(sorted(PRESETS))}) nor a folder with a checkpoint"
    )


def _how_to_get(preset: Preset) -> str:
    if preset.embedded:
        return f"the weights of {preset.name} are not in {preset.folder}; install vivant again"
    return (
        f"the weights of {preset.name} ({preset.licence}) are not in {preset.folder}; download them from "
        f"{preset.source} and run `vivant convert FOLDER --preset {preset.name}`"
    )
