"""The ablations of PersonaLive's supplement (arXiv 2512.11253, section C) on one checkpoint.

    python benchmarks/personalive_ablations.py CHECKPOINT --clip FOLDER [--tables tau decoder schedule signals]
        [--seeds 0 1 2] [--tau 15 16 17 18 19 20] [--protocol self | long] [--weights NAME=PATH]
        [--other CHECKPOINT] [-o FOLDER]

    tau       Table 1: motion threshold; at most 8 keyframes are kept
    decoder   Table 2: full and tiny decoder, with frames a second of drawing alone; not the paper's third, SVD's. Of
              a VAE that is solved the tiny decoder is the components without what mends their pictures
    schedule  Table 3: the checkpoint's noise levels and as many that end above 0. The paper trains a network for each;
              give one trained on the second with --other, else the same weights are asked to do both
    signals   Figure 3: implicit keypoints k and facial embedding m, each from the driver (d) or held still (s). With
              both held: what clips would show that hardly move, so that nothing can be told from them

Streams are as in the paper, not as in the published program: heads have the driver's size and place, chunks go down a
level with fresh noise, and keyframes do not wait. Measures, protocols and `--weights` are those of `vivant evaluate`.
Every clip drives its own first frame. Numbers are means over the clips, then over seeds, which choose the noise, with
their standard deviation. Below each table: whether its shape is the paper's. FOLDER keeps what was measured, and the
same call goes on where it was stopped. Clips of people that nothing was trained on:

    for i in 1 3 8; do vivant studio clip CLIPS/$i.mp4 --identity $i --articulation 1.6 --text "..."; done
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

import vivant
from vivant.engines.personalive.config import NUM_TRAINING_STEPS, Config, Options
from vivant.engines.personalive.engine import PersonaLive, PersonaLiveState
from vivant.engines.personalive.motion import Motion
from vivant.errors import VivantError
from vivant.evaluation.judges.given import Judges, load_judges, parse_weights
from vivant.evaluation.reenactment import Request, measure_reenactment

MEASURES = {
    "identity": ("csim", "csim_own"),
    "expression error": ("aed", "aed_mesh"),
    "pose error": ("apd", "apd_mesh"),
    "points error": ("lmd_mesh",),
    "FVD": ("fvd25",),
    "change error": ("tlp", "tl1"),
    "without face": ("share_without_face",),
}
"""What a column shows: the first that can be measured."""
SPEED = "frames/s"
AS_IN_PAPER = Options(placement="paper", renoise="fresh", keyframe_warmup_chunks=0)

Numbers = dict[str, list[float]]
"""By column, a value per seed."""


class Held(PersonaLive):
    """Parts of what the driver says are held as they are in the portrait: "pose", "expression"."""

    def __init__(
        self, config: Config, networks: nn.Module, dtype: torch.dtype, *parts: Literal["pose", "expression"]
    ) -> None:
        super().__init__(config, networks, dtype)
        self.parts = parts

    def encode_motion(self, state: PersonaLiveState, driving: Tensor) -> Motion:
        motion, portrait = super().encode_motion(state, driving), state.portrait
        still: dict[str, Tensor] = {}
        if "expression" in self.parts:
            still["tokens"] = portrait.scene.tokens
        if "pose" in self.parts:
            still |= {name: getattr(portrait.pose, name) for name in ("degrees", "scale", "translation")}
        return replace(motion, **{k: v.expand_as(getattr(motion, k)) for k, v in still.items()})


@dataclass(frozen=True)
class Variant:
    """A row."""

    name: str
    engine: PersonaLive
    options: Options = AS_IN_PAPER
    timed: bool = False


@dataclass(frozen=True)
class Ask:
    """What every row is measured on."""

    clips: Sequence[Path]
    seeds: Sequence[int]
    protocol: str
    judges: Judges
    output: Path | None


def tau(engine: PersonaLive, thresholds: Sequence[float]) -> list[Variant]:
    options = replace(AS_IN_PAPER, max_keyframes=8)
    return [
        Variant(f"{threshold:g}", engine, replace(options, keyframe_threshold=threshold))
        for threshold in thresholds
    ]


def decoders(engine: PersonaLive) -> list[Variant]:
    rows = [Variant("full", engine, timed=True)]
    if not engine.config.has_tiny_decoder:
        print("(the checkpoint has no tiny decoder)")
        return rows
    return [*rows, Variant("tiny", engine, replace(AS_IN_PAPER, decoder="tiny"), timed=True)]


def schedules(engine: PersonaLive, other: Path | None) -> list[Variant]:
    count = engine.config.num_chunks
    above = tuple((level + 1) * NUM_TRAINING_STEPS // count - 1 for level in range(count))
    trained = engine if other is None else loaded(other)
    second = PersonaLive(replace(trained.config, timesteps=above), trained.networks, trained.dtype)
    return [Variant(str([*row.config.timesteps][::-1]), row) for row in (engine, second)]


def signals(engine: PersonaLive) -> list[Variant]:
    parts: dict[str, tuple[Literal["pose", "expression"], ...]] = {
        "k_d + m_d": (),
        "k_d + m_s": ("expression",),
        "k_s + m_d": ("pose",),
        "k_s + m_s": ("pose", "expression"),
    }
    return [
        Variant(name, Held(engine.config, engine.networks, engine.dtype, *held))
        for name, held in parts.items()
    ]


def loaded(folder: Path) -> PersonaLive:
    engine = vivant.load(folder)
    if not isinstance(engine, PersonaLive):
        raise SystemExit(f"{folder} is of the family {engine.family}; give a checkpoint of personalive")
    return engine


def measured(table: str, variant: Variant, ask: Ask) -> Numbers:
    found: Numbers = {}
    for seed in ask.seeds:
        items = None if ask.output is None else ask.output / table / variant.name
        request = Request(
            protocol=ask.protocol,
            clips=ask.clips,
            judges=ask.judges,
            options=variant.options,
            items=items,
            seed=seed,
        )
        numbers = measure_reenactment(variant.engine, request).numbers
        for column, names in MEASURES.items():
            known = [numbers[name] for name in names if np.isfinite(numbers.get(name, np.nan))]
            found.setdefault(column, []).append(known[0] if known else float("nan"))
        if variant.timed:
            found.setdefault(SPEED, []).append(frames_per_second(variant, seed))
    return found


def frames_per_second(variant: Variant, seed: int, chunks: int = 4) -> float:
    """Of seeing and drawing, in the middle of a stream."""
    engine = variant.engine
    side, length = engine.config.image_size, engine.config.chunk_frames
    driving = torch.rand(length, 3, side, side, generator=torch.Generator().manual_seed(seed))
    state = engine.start(engine.prepare(driving[0], face=None), variant.options, seed)
    begin = 0.0
    for chunk in range(engine.config.num_chunks + chunks):
        if chunk == engine.config.num_chunks:
            begin = perf_counter()
        float(engine.step(state, driving).sum())  # waits for a GPU
    return chunks * length / (perf_counter() - begin)


def show(title: str, rows: Mapping[str, Numbers]) -> None:
    columns = list(dict.fromkeys(name for row in rows.values() for name in row))
    print(f"\n{title}\n\n| | {' | '.join(columns)} |\n| --- |{' --- |' * len(columns)}")
    for name, row in rows.items():
        cells = [_cell(row.get(column, [])) for column in columns]
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


def _cell(values: Sequence[float]) -> str:
    if not values or not np.isfinite(values).all():
        return "not measured"
    return f"{np.mean(values):.4g} ± {np.std(values):.1g}"


def rises(rows: Mapping[str, Numbers], column: str) -> str:
    """Whether a column gets larger from the first row to the last, by a straight line through the rows."""
    means = np.array([np.mean(row[column]) for row in rows.values()])
    if len(means) < 2 or not np.isfinite(means).all():
        return "not measured"
    rise = np.polyfit(np.arange(len(means)), means, 1)[0] * (len(means) - 1)
    spread = np.mean([np.std(row[column]) for row in rows.values()])
    if abs(rise) <= max(spread, 1e-9 * np.abs(means).max()):  # the fit rounds
        return "not beyond what seeds differ by"
    return "yes" if rise > 0 else "no"


def below(rows: Mapping[str, Numbers], column: str, less: str, more: str) -> str:
    """Whether a column is smaller in one row than in another."""
    return rises({name: rows[name] for name in (less, more) if name in rows}, column)


def shapes(table: str, rows: Mapping[str, Numbers]) -> dict[str, str]:
    """What the paper found, and whether it is so here."""
    if table == "tau":
        return {f"{name} rises with tau": rises(rows, name) for name in ("identity", "FVD", "change error")}
    if table == "decoder":
        return {
            "the full decoder keeps identity better": below(rows, "identity", "tiny", "full"),
            "the full decoder flickers less": below(rows, "change error", "full", "tiny"),
            "the tiny decoder is faster": below(rows, SPEED, "full", "tiny"),
        }
    if table == "schedule":
        first, second = rows
        return {"ending at 0 keeps identity better": below(rows, "identity", second, first)}
    return {
        "keypoints carry how heads turn": below(rows, "pose error", "k_d + m_s", "k_s + m_d"),
        "keypoints carry where heads are": below(rows, "points error", "k_d + m_s", "k_s + m_d"),
        "the embedding carries expression": below(rows, "expression error", "k_s + m_d", "k_d + m_s"),
    }


def main(line: Sequence[str] | None = None) -> dict[str, dict[str, Numbers]]:
    """Print the tables; their numbers."""
    given = parsed(line)
    engine = loaded(given.checkpoint)
    judges = load_judges(parse_weights(given.weights))
    ask = Ask(given.clip, given.seeds, given.protocol, judges, given.output)
    made: dict[str, tuple[str, Callable[[], list[Variant]]]] = {
        "tau": ("Motion threshold (Table 1)", lambda: tau(engine, given.tau)),
        "decoder": ("Decoder (Table 2)", lambda: decoders(engine)),
        "schedule": ("Noise levels (Table 3)", lambda: schedules(engine, given.other)),
        "signals": ("Keypoints and embedding (Figure 3)", lambda: signals(engine)),
    }
    tables: dict[str, dict[str, Numbers]] = {}
    for table in given.tables:
        title, variants = made[table]
        tables[table] = {row.name: measured(table, row, ask) for row in variants()}
        show(title, tables[table])
        print()
        for says, holds in shapes(table, tables[table]).items():
            print(f"{says}: {holds}")
    return tables


def parsed(line: Sequence[str] | None) -> Any:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    tables = ["tau", "decoder", "schedule", "signals"]
    arguments.add_argument("checkpoint", type=Path)
    arguments.add_argument("--clip", type=Path, required=True, action="append")
    arguments.add_argument("--tables", nargs="+", choices=tables, default=tables)
    arguments.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    arguments.add_argument("--tau", type=float, nargs="+", default=[15, 16, 17, 18, 19, 20])
    arguments.add_argument("--protocol", choices=["self", "long"], default="self")
    arguments.add_argument("--weights", action="append", default=[])
    arguments.add_argument("--other", type=Path)
    arguments.add_argument("-o", "--output", type=Path)
    return arguments.parse_args(line)


if __name__ == "__main__":
    try:
        main()
    except VivantError as error:
        raise SystemExit(str(error)) from error
