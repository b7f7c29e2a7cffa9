"""Converting published weights: the whole tree end to end at a tiny size, published names at full size, LoRA."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers.loaders.single_file_utils import convert_wan_vae_to_diffusers
from flash_golden import transformer_names
from safetensors.torch import save_file
from seeded_weights import seeded_state_dict
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor, nn
from transformers import CLIPVisionConfig, CLIPVisionModel, PreTrainedTokenizerFast

from vivant import checkpoint
from vivant.engines.flashportrait.config import NEGATIVE_PROMPT, PROMPTS, Config, tiny
from vivant.engines.flashportrait.config_networks import wan_image_encoder, wan_vae
from vivant.engines.flashportrait.convert import FILES, RENAME, convert_published
from vivant.engines.flashportrait.engine import FlashPortrait
from vivant.engines.flashportrait.networks import Networks
from vivant.engines.flashportrait.networks.image_encoder import ImageEncoder
from vivant.engines.flashportrait.networks.vae import VideoVae
from vivant.engines.flashportrait.text import NAMES, text_encoder_of
from vivant.errors import CheckpointError
from vivant.runtime import precision

Manifest = dict[str, dict[str, list[int]]]
# The published VAE's names count its blocks, so it keeps their number.
CONFIG = replace(
    tiny(),
    vae=replace(tiny().vae, num_residual_blocks=2, channel_multipliers=(1, 2, 4, 4)),
    transformer=replace(tiny().transformer, num_text_tokens=8),
)
WORDS = sorted({word for prompt in (*PROMPTS.values(), NEGATIVE_PROMPT) for word in prompt.split()})


def empty(shapes: dict[str, list[int]]) -> dict[str, Tensor]:
    return {key: torch.empty(shape, device="meta") for key, shape in shapes.items()}


def shapes_of(state: dict[str, Tensor]) -> dict[str, list[int]]:
    return {key: list(value.shape) for key, value in state.items()}


def vae_names(manifest: Manifest) -> dict[str, str]:
    """Our names -> published names."""
    return convert_wan_vae_to_diffusers({key: key for key in manifest["Wan2.1_VAE.pth"]})


def state() -> dict[str, Tensor]:
    return seeded_state_dict(Networks(CONFIG).state_dict())


def published_image_encoder(ours: dict[str, Tensor]) -> dict[str, Tensor]:
    """OpenCLIP's names for our one block, and a second that nobody reads."""
    width = CONFIG.image_encoder.width
    plain = {"layer_norm1": "norm1", "layer_norm2": "norm2", "self_attn.out_proj": "attn.proj"}
    plain |= {"mlp.fc1": "mlp.0", "mlp.fc2": "mlp.2"}
    out = {
        "cls_embedding": ours["embeddings.class_embedding"].view(1, 1, -1),
        "pos_embedding": ours["embeddings.position_embedding.weight"][None],
        "patch_embedding.weight": ours["embeddings.patch_embedding.weight"],
        "head": torch.zeros(width, 7),
        "post_norm.weight": torch.ones(width),
        "post_norm.bias": torch.zeros(width),
    }
    for leaf in ("weight", "bias"):
        out[f"pre_norm.{leaf}"] = ours[f"pre_layrnorm.{leaf}"]
        for mine, theirs in plain.items():
            out[f"transformer.0.{theirs}.{leaf}"] = ours[f"encoder.layers.0.{mine}.{leaf}"]
        parts = [ours[f"encoder.layers.0.self_attn.{part}_proj.{leaf}"] for part in "qkv"]
        out[f"transformer.0.attn.to_qkv.{leaf}"] = torch.cat(parts)
    out |= {
        key.replace(".0.", ".1.", 1): value for key, value in out.items() if key.startswith("transformer.")
    }
    return {f"visual.{key}": value for key, value in out.items()} | {"textual.weight": torch.zeros(2)}


def published_text_encoder(width: int) -> dict[str, Tensor]:
    inner, hidden, heads = 2 * width, 3 * width, 2
    shapes = {"token_embedding.weight": (len(WORDS) + 2, width), "norm.weight": (width,)}
    for layer in range(2):
        block = {
            **{f"attn.{name}.weight": (inner, width) for name in "qkv"},
            "attn.o.weight": (width, inner),
            "pos_embedding.embedding.weight": (32, heads),
            **{f"norm{number}.weight": (width,) for number in (1, 2)},
            **{f"ffn.{name}.weight": (hidden, width) for name in ("gate.0", "fc1")},
            "ffn.fc2.weight": (width, hidden),
        }
        shapes |= {f"blocks.{layer}.{key}": shape for key, shape in block.items()}
    return seeded_state_dict({key: torch.empty(shape) for key, shape in shapes.items()})


def write(folder: Path, manifest: Manifest) -> Path:
    """The tree of the official release, next to that of Wan2.1."""
    whole = state()

    def below(name: str) -> dict[str, Tensor]:
        prefix = f"{name}."
        return {key.removeprefix(prefix): value for key, value in whole.items() if key.startswith(prefix)}

    transformer = Networks(CONFIG).transformer
    names = transformer_names(transformer)
    files = {
        "transformer": {"state_dict": {names[key]: value for key, value in below("transformer").items()}},
        "portrait_encoder": below("portrait_encoder"),
        "face_features": below("face_features"),
        "tiny_vae": below("tiny_vae") | {"encoder.0.weight": torch.zeros(2)},
        "vae": {vae_names(manifest)[key]: value for key, value in below("vae").items()},
        "image_encoder": published_image_encoder(
            {key.removeprefix("tower."): value for key, value in below("image_encoder").items()}
        ),
        "text_encoder": published_text_encoder(CONFIG.transformer.text_channels),
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name, tensors in files.items():
        torch.save(tensors, folder / f"{FILES[name]}.pth")
    tokenizer = Tokenizer(
        models.WordLevel({"[PAD]": 0, "[UNK]": 1} | {w: i + 2 for i, w in enumerate(WORDS)}, "[UNK]")
    )
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]")
    fast.save_pretrained(folder / "google" / "umt5-xxl")
    (folder / "xlm-roberta-large").mkdir()
    (folder / "xlm-roberta-large" / "tokenizer.json").write_text("{}")
    return folder


@pytest.fixture(scope="module")
def published_folder(tmp_path_factory: pytest.TempPathFactory, manifest: Manifest) -> Path:
    return write(tmp_path_factory.mktemp("published"), manifest)


def test_end_to_end(published_folder: Path, tmp_path: Path) -> None:
    convert_published([published_folder], tmp_path, config=CONFIG)
    config, networks = checkpoint.load(tmp_path, Config, FlashPortrait.build_networks)
    assert config == CONFIG
    assert checkpoint.read_config(tmp_path)["family"] == "flashportrait"
    made, expected = networks.state_dict(), state()
    for key, value in made.items():
        if key == "prompts":
            continue
        narrow = value.dtype == torch.bfloat16
        assert (
            narrow == (key.startswith("transformer.") and value.dim() == 2 and ".time_" not in key)
            or value.dim() > 2
        )
        torch.testing.assert_close(value, expected[key].to(value.dtype), atol=0, rtol=0)
    # Words: one row per scene, zeros after the last word, and different words differ.
    prompts = made["prompts"]
    assert prompts.shape == (
        len(PROMPTS) + 1,
        CONFIG.transformer.num_text_tokens,
        CONFIG.transformer.text_channels,
    )
    assert prompts[0].ne(0).any(1).sum() == len(PROMPTS["talking"].split())
    assert not torch.equal(prompts[0, :4], prompts[1, :4])
    # It runs, in both precisions.
    for dtype in (torch.float32, torch.bfloat16):
        engine = FlashPortrait(config, precision.place(networks, torch.device("cpu"), dtype), dtype)
        portrait = engine.prepare(torch.rand(3, 32, 32), face=None)
        state_ = engine.start(portrait)
        engine.render(state_, engine.encode_motion(state_, torch.rand(1, 3, 32, 32)))
        assert torch.isfinite(engine.flush(state_)).all()


def test_the_lora_is_merged_where_it_is_named(published_folder: Path, tmp_path: Path) -> None:
    names = {theirs: ours for ours, theirs in transformer_names(Networks(CONFIG).transformer).items()}
    width = CONFIG.transformer.width
    down, up, bias = torch.randn(2, width), torch.randn(width, 2), torch.randn(width)
    lora = {
        "diffusion_model.blocks.0.cross_attn.q.lora_down.weight": down,
        "diffusion_model.blocks.0.cross_attn.q.lora_up.weight": up,
        "diffusion_model.blocks.0.cross_attn.q.diff_b": bias,
        "diffusion_model.blocks.1.modulation.diff_m": torch.ones(1, 6, width),
    }
    lora["diffusion_model.blocks.1.diff_m"] = lora.pop("diffusion_model.blocks.1.modulation.diff_m")
    path = tmp_path / "fast_lora_rank64.safetensors"
    save_file(lora, path)
    convert_published([published_folder, path], tmp_path / "out", config=CONFIG, dtype=torch.float32)
    config, networks = checkpoint.load(tmp_path / "out", Config, FlashPortrait.build_networks)
    assert (config.distilled, config.num_steps) == (True, 4)
    expected, made = state(), networks.state_dict()
    query = "transformer." + names["blocks.0.cross_attn.q.weight"]
    torch.testing.assert_close(made[query], expected[query] + up @ down)
    query = query.replace("weight", "bias")
    torch.testing.assert_close(made[query], expected[query] + bias)
    table = "transformer.blocks.1.scale_shift_table"
    torch.testing.assert_close(made[table], expected[table] + 1)

    save_file({**lora, "diffusion_model.blocks.0.cross_attn.q.alpha": torch.ones(1)}, path)
    with pytest.raises(CheckpointError, match=r"unknown blocks\.0\.cross_attn\.q\.alpha"):
        convert_published([published_folder, path], tmp_path / "no", config=CONFIG)
    save_file({"diffusion_model.blocks.9.self_attn.q.diff": down}, path)
    with pytest.raises(CheckpointError, match=r"adds to blocks\.9\.self_attn\.q\.weight, which"):
        convert_published([published_folder, path], tmp_path / "no", config=CONFIG)
    save_file({"diffusion_model.blocks.0.self_attn.q.diff": down}, path)
    with pytest.raises(CheckpointError, match=r"adds \(2, 24\) to .* which is \(24, 24\)"):
        convert_published([published_folder, path], tmp_path / "no", config=CONFIG)
    assert not (tmp_path / "no" / "model.safetensors").exists()


def test_what_is_missing_or_foreign_is_named(
    published_folder: Path, tmp_path: Path, manifest: Manifest
) -> None:
    for path in published_folder.iterdir():
        (tmp_path / path.name).symlink_to(path)
    out = tmp_path / "out"
    (tmp_path / "google").unlink()
    with pytest.raises(
        CheckpointError, match="should hold the tokenizer, the folder google/umt5-xxl, once; found 0"
    ):
        convert_published([tmp_path], out, config=CONFIG)
    (tmp_path / "transformer.pth").unlink()
    with pytest.raises(CheckpointError, match=r"lacks transformer\.pt \(or \.pth"):
        convert_published([tmp_path], out, config=CONFIG)
    data = torch.load(published_folder / "transformer.pth")["state_dict"]
    data["blocks.0.strange"] = data.pop("blocks.0.modulation")
    torch.save(data, tmp_path / "transformer.pt")
    with pytest.raises(
        CheckpointError, match=r"lacks blocks\.0\.scale_shift_table; it has unknown blocks\.0\.strange"
    ):
        convert_published([tmp_path], out, config=CONFIG)
    assert not out.exists()


def test_published_names_at_full_size(manifest: Manifest) -> None:
    with torch.device("meta"):
        networks: dict[str, nn.Module] = {
            "vae": VideoVae(wan_vae()),
            "image_encoder": ImageEncoder(wan_image_encoder()),
        }
    config = replace(
        CONFIG,
        image_encoder=wan_image_encoder(),
        transformer=replace(CONFIG.transformer, image_channels=1280),
    )
    for name, network in networks.items():
        file = next(file for file in manifest if file.startswith(FILES[name]))
        renamed = RENAME[name](empty(manifest[file]), config)
        assert shapes_of(renamed) == shapes_of(network.state_dict())
    encoder = text_encoder_of(Path("umt5"), empty(manifest[f"{FILES['text_encoder']}.pth"]), 4096)
    assert sum(p.numel() for p in encoder.parameters()) == 5_680_910_336


def test_every_text_name_is_used(manifest: Manifest) -> None:
    names = manifest[f"{FILES['text_encoder']}.pth"]
    assert all(any(theirs in key for key in names) for theirs, _ in NAMES)
    with pytest.raises(CheckpointError, match="gives text of width 4096, the transformer reads 8"):
        text_encoder_of(Path("umt5"), empty(names), 8)


def test_image_tokens_are_those_before_the_last_block() -> None:
    sizes = CONFIG.image_encoder
    encoder = ImageEncoder(sizes).eval()
    whole = CLIPVisionModel(
        CLIPVisionConfig(
            hidden_size=sizes.width,
            intermediate_size=sizes.feed_forward_channels,
            num_hidden_layers=sizes.num_layers + 1,
            num_attention_heads=sizes.num_heads,
            image_size=sizes.image_size,
            patch_size=sizes.patch_size,
            hidden_act="gelu",
        )
    ).eval()
    known = {key: value for key, value in whole.state_dict().items() if key in encoder.tower.state_dict()}
    encoder.tower.load_state_dict(known, strict=True)
    picture = torch.rand(1, 3, sizes.image_size, sizes.image_size)
    seen: list[Tensor] = []
    whole.register_forward_pre_hook(
        lambda _m, _a, named: seen.append(named["pixel_values"]), with_kwargs=True
    )
    ours = encoder(picture)
    mean, std = (
        torch.tensor([0.48145466, 0.4578275, 0.40821073]),
        torch.tensor([0.26862954, 0.26130258, 0.27577711]),
    )
    pixels = (picture - mean.view(1, 3, 1, 1)) / std.view(1, 3, 1, 1)
    states = whole(pixel_values=pixels, output_hidden_states=True).hidden_states
    torch.testing.assert_close(ours, states[-2], atol=1e-5, rtol=1e-5)
    assert ours.shape == (1, sizes.num_tokens, sizes.width)
