"""Which judges a user has given: `--weights NAME=PATH`, each read when the evaluation starts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from vivant import published
from vivant.checkpoint import sha256_of
from vivant.engines.refvae.sync_expert import SyncExpert
from vivant.errors import CheckpointError, InputError
from vivant.evaluation.judges.arcface import ArcFace, load_arcface
from vivant.evaluation.judges.inception import Inception, load_inception
from vivant.evaluation.judges.perceptual import Lpips, load_lpips
from vivant.evaluation.judges.scripted import Scripted, load_scripted
from vivant.evaluation.judges.syncnet import SyncNet, load_syncnet
from vivant.face.identity import IdentityNetwork, embedded_identity, load_identity
from vivant.store import embedded_weights

FACE_PX = 224
"""Side of the face crops that scripts see."""
CLIP_FRAMES, CLIP_PX = 25, 224

NAMES = MappingProxyType(
    {
        "lpips-alex": "AlexNet of torchvision (alexnet-owt-7be5be79.pth), or lpips's whole network",
        "lpips-alex-heads": "heads of lpips 0.1 (alex.pth)",
        "lpips-vgg": "VGG16 of torchvision (vgg16-397923af.pth), or lpips's whole network",
        "lpips-vgg-heads": "heads of lpips 0.1 (vgg.pth)",
        "inception": "pytorch-fid's pt_inception-2015-12-05-6726825d.pth",
        "arcface": "an IR-ResNet of insightface's arcface_torch (backbone.pth)",
        "identity": "an embedding of our own (`vivant train face/identity`); without it, the embedded one",
        "coefficients": "TorchScript: faces (B, 3, 224, 224) in [0, 1] -> expression (B, E), pose (B, P), as SMIRK's",
        "gaze": "TorchScript: faces (B, 3, 224, 224) in [0, 1] -> eye directions (B, 3)",
        "clips": "TorchScript: clips (B, 3, 25, 224, 224) in [-1, 1] -> features (B, D), such as I3D's",
        "syncnet": "syncnet_v2.model",
        "sync-expert": "the lip-sync expert of Wav2Lip, or one of ours; without it, the embedded one",
    }
)


@dataclass(frozen=True, kw_only=True)
class Judges:
    """What was given; None where a network was not, and what needs it is then not measured."""

    lpips_alex: Lpips | None = None
    lpips_vgg: Lpips | None = None
    inception: Inception | None = None
    arcface: ArcFace | None = None
    identity: IdentityNetwork | None = None
    coefficients: Scripted | None = None
    gaze: Scripted | None = None
    clips: Scripted | None = None
    syncnet: SyncNet | None = None
    sync_expert: SyncExpert | None = None
    fingerprints: Mapping[str, str] = field(default_factory=dict)
    """First 12 digits of the SHA-256 of each file, by name; of embedded ones too."""

    @property
    def names(self) -> frozenset[str]:
        """Of those that are there, as `--weights` calls them."""
        given = {name.replace("-", "_"): name for name in NAMES}
        return frozenset(
            name for field_name, name in given.items() if getattr(self, field_name, None) is not None
        )


def parse_weights(texts: Iterable[str]) -> dict[str, Path]:
    """NAME=PATH, each name once. Raises InputError."""
    found: dict[str, Path] = {}
    for text in texts:
        name, separator, path = text.partition("=")
        if not separator or not path:
            raise InputError(f"--weights takes NAME=PATH, got {text!r}")
        if name not in NAMES:
            raise InputError(f"--weights knows no {name!r}; it knows {', '.join(sorted(NAMES))}")
        if name in found:
            raise InputError(f"--weights {name} was given twice; give it once")
        if not Path(path).is_file():
            raise InputError(f"--weights {name}={path}: there is no such file")
        found[name] = Path(path)
    return found


def _embedded() -> dict[str, Path]:
    """Our own judges in the package, by name: trained by us and shipped, or not."""
    files = {
        "identity": embedded_identity(),
        "sync-expert": embedded_weights("lipsync-expert") / "model.safetensors",
    }
    return {name: path for name, path in files.items() if path.is_file()}


def load_judges(weights: Mapping[str, Path]) -> Judges:
    """Read what was given, and our own for what was not. Raises CheckpointError or InputError, naming the file."""
    for kind in ("alex", "vgg"):
        if f"lpips-{kind}-heads" in weights and f"lpips-{kind}" not in weights:
            raise InputError(f"--weights lpips-{kind}-heads needs the trunk too: --weights lpips-{kind}=PATH")
    weights = _embedded() | dict(weights)
    face = (2, 3, FACE_PX, FACE_PX)
    clip = (1, 3, CLIP_FRAMES, CLIP_PX, CLIP_PX)

    def script(name: str, shape: tuple[int, ...], widths: list[int | None]) -> Scripted | None:
        return load_scripted(weights[name], name, [shape], widths) if name in weights else None

    def lpips(kind: str) -> Lpips | None:
        trunk = weights.get(f"lpips-{kind}")
        return None if trunk is None else load_lpips(kind, trunk, weights.get(f"lpips-{kind}-heads"))

    return Judges(
        lpips_alex=lpips("alex"),
        lpips_vgg=lpips("vgg"),
        inception=load_inception(weights["inception"]) if "inception" in weights else None,
        arcface=load_arcface(weights["arcface"]) if "arcface" in weights else None,
        identity=load_identity(weights["identity"]) if "identity" in weights else None,
        coefficients=script("coefficients", face, [None, None]),
        gaze=script("gaze", face, [3]),
        clips=script("clips", clip, [None]),
        syncnet=load_syncnet(weights["syncnet"]) if "syncnet" in weights else None,
        sync_expert=_sync_expert(weights["sync-expert"]) if "sync-expert" in weights else None,
        fingerprints={name: sha256_of(path)[:12] for name, path in sorted(weights.items())},
    )


def _sync_expert(path: Path) -> SyncExpert:
    """Published: {"state_dict": {"module.face_encoder...": ...}}; ours: the tensors alone, of any widths."""
    data = published.read_file(path)
    inner = data.get("state_dict")
    data = inner if isinstance(inner, Mapping) else data
    found = published.check_tensors(path, {key.removeprefix("module."): value for key, value in data.items()})
    widths = []
    for at in (0, 3, 6, 9, 12):
        tensor = found.get(f"audio_encoder.{at}.conv_block.0.weight")
        if tensor is None:
            raise CheckpointError(f"{path} is not a lip-sync expert: it has no audio_encoder.{at}")
        widths.append(len(tensor))
    network = SyncExpert(widths)
    published.check_fit(path, found, network.state_dict(), "")
    network.load_state_dict(found)
    return network.eval().requires_grad_(False)
