"""The training loop. It owns steps, precision, averaging, sharding, snapshots and logging; it knows no family.

Progress is counted in images seen. A run stopped at any moment (time limit, Ctrl-C, kill) goes on exactly
where its last snapshot was: data are pure functions of an index, and all generators are saved.
"""

from __future__ import annotations

import json
import math
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from types import FrameType
from typing import Any

import cv2
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from vivant.errors import InputError
from vivant.training import snapshot
from vivant.training.config import Stage, TrainConfig
from vivant.training.distributed import (
    any_rank,
    average_gradients,
    barrier,
    broadcast_parameters,
    gather_bytes,
    process_group,
    shard,
)
from vivant.training.ema import Average

WARM_UP_SHARE = 0.05
"""Of a run: no warm-up takes more of it."""


@contextmanager
def flushed_denormals() -> Iterator[None]:
    """Inside, numbers below 1e-38 are zero: dead features leave such gradients, and CPUs are 100 times slower on them.

    The processor's mode is the whole thread's, so it is put back: other code of the process may count on small numbers.
    """
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)


def _quicken_gpu() -> None:
    """Products of float32 as TF32, as convolutions are, and of those the quickest kernel: sizes seldom change."""
    torch.set_float32_matmul_precision("high")
    torch.backends.cudnn.benchmark = True


def _leave_kills_to_the_trainer(worker: int) -> None:
    """In a process that makes batches: a polite kill of the whole group must reach the trainer alone.

    A worker that it ended would take the step, and with it the last snapshot, along. Workers end with their trainer.
    """
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


class Trainer:
    """Runs one stage in one folder."""

    def __init__(
        self,
        stage: Stage,
        config: TrainConfig,
        folder: Path,
        device: torch.device,
        report: Callable[[dict[str, Any]], None] | None = None,
    ):
        self.stage, self.config, self.folder, self.device = stage, config, folder, device
        self.report = report
        self.step = 0
        # Counted, not computed from steps: earlier parts of the run may have had another number of processes.
        self.images = 0
        self.seconds = 0.0
        self.stopped = False
        self.fit_seconds = math.inf
        self.totals: dict[str, float] = {}

    def run(self, minutes: float | None = None, fit_minutes: float | None = None) -> bool:
        """Train until the run is complete (True) or stopped by time limit or signal (False); then snapshot.

        fit_minutes: the length of the run in time, over all its parts: the schedule spans what fits, at most the
        config's images. What comes out then depends on how fast the machine is. Raises InputError for several
        processes, whose clocks differ.
        """
        with process_group(self.device) as (rank, world_size), flushed_denormals():
            self.rank, self.world_size = rank, world_size
            if fit_minutes is not None:
                if world_size > 1:
                    raise InputError(
                        "--fit-minutes is for one process, for clocks differ; say --images instead."
                    )
                self.fit_seconds = fit_minutes * 60
            self._build()
            previous = {s: signal.signal(s, self._stop) for s in (signal.SIGINT, signal.SIGTERM)}
            try:
                self._loop(math.inf if minutes is None else minutes * 60)
            finally:
                for number, handler in previous.items():
                    signal.signal(number, handler)
            self._snapshot()
            return self.progress >= 1

    @property
    def progress(self) -> float:
        """From 0 to 1: of the images, or of the time where the run has a length in time and that is further."""
        return min(1.0, max(self.images / self.config.num_images, self.seconds / self.fit_seconds))

    @property
    def _images_per_step(self) -> int:
        """Of all processes as they are now."""
        return self.config.batch_size * self.config.accumulate * self.world_size

    def _build(self) -> None:
        config, network = self.config, self.stage.network
        torch.manual_seed(config.seed + 7919 * self.rank)
        if self.device.type == "cuda":
            _quicken_gpu()
        saved = snapshot.load(self.folder)
        if saved is not None:
            snapshot.check_same_run(self.folder, saved[1], config)
            snapshot.restore_network(network, "network", saved[0], self.folder)
        network.to(self.device)
        broadcast_parameters(network, self.world_size)
        self.average = Average(network, config.ema_decay)
        names = dict(network.named_parameters())
        groups = self._groups(names)
        if config.sharding == "fsdp" and self.world_size > 1:
            shard(network)
            names = dict(network.named_parameters())
            groups = self._groups(names)
        self.names = {id(p): n for n, p in names.items()}
        self.parameters = [p for group in groups for p in group["params"]]
        fused = self.device.type == "cuda" and config.sharding == "replicate"
        self.optimizer = torch.optim.AdamW(groups, lr=1.0, betas=config.betas, fused=fused)
        self.peaks = [group["lr"] for group in self.optimizer.param_groups]
        if saved is not None:
            tensors, meta = saved
            snapshot.restore_network(self.average.network, "average", tensors, self.folder)
            snapshot.restore_optimizer(self.optimizer, self.names, tensors)
            self.step, self.images, self.seconds = meta["step"], meta["images"], meta["seconds"]
            # A run may go on with another number of processes; then a new one starts from its own seed.
            if (key := f"random/{self.rank}") in tensors:
                torch.set_rng_state(tensors[key])
            if (key := f"random_cuda/{self.rank}") in tensors and self.device.type == "cuda":
                torch.cuda.set_rng_state(tensors[key], self.device)

    def _groups(self, names: dict[str, nn.Parameter]) -> list[dict[str, Any]]:
        """One optimiser group per ParameterGroup; parameters that no group names are frozen."""
        taken: set[str] = set()
        groups: list[dict[str, Any]] = []
        for group in sorted(self.config.groups, key=lambda g: "" in g.modules):
            prefixes = tuple(m if m == "" else m + "." for m in group.modules)
            chosen = [n for n in names if n not in taken and n.startswith(prefixes)]
            if not chosen:
                raise ValueError(f"no parameter belongs to the group {group.modules}")
            taken.update(chosen)
            groups.append(
                {
                    "params": [names[n] for n in chosen],
                    "lr": group.learning_rate,
                    "weight_decay": group.weight_decay,
                }
            )
        for name, parameter in names.items():
            parameter.requires_grad_(name in taken)
        return groups

    def _loop(self, seconds: float) -> None:
        config = self.config
        first = self.step * config.accumulate
        # Whole steps: micro-batches that fill none would never be learned from, and the run never be complete.
        left = math.ceil(max(0, config.num_images - self.images) / self._images_per_step)
        last = first + left * config.accumulate
        loader = DataLoader(
            self.stage.dataset(config, self.rank, self.world_size),
            batch_size=None,
            sampler=range(first, last),
            num_workers=config.num_workers,
            prefetch_factor=4 if config.num_workers else None,
            worker_init_fn=_leave_kills_to_the_trainer,
            # Its own generator: the loader draws a seed when it starts, and a resumed run starts once more.
            generator=torch.Generator().manual_seed(config.seed),
        )
        began = last_saved = time.monotonic()
        trained = self.seconds
        for index, batch in enumerate(loader, first):
            self._micro_step(batch, index)
            now = time.monotonic()
            self.seconds = trained + now - began
            if (index + 1) % config.accumulate:
                continue  # a snapshot has no gradients: within a step it would lose what this one has seen
            if self.step % config.log_steps == 0:
                self._log()
            # Clocks and signals differ between processes, and all must do the same thing at the same step.
            save, stop = any_rank(
                (
                    now - last_saved > config.checkpoint_minutes * 60,
                    self.stopped or now - began > seconds or self.seconds >= self.fit_seconds,
                ),
                self.device,
                self.world_size,
            )
            if stop:
                break
            if save:
                self._snapshot()
                last_saved = time.monotonic()

    def _micro_step(self, batch: dict[str, Tensor], index: int) -> None:
        config, network = self.config, self.stage.network
        network.train()
        batch = {k: v.to(self.device, non_blocking=True) for k, v in batch.items()}
        with torch.autocast(self.device.type, torch.bfloat16, enabled=config.precision == "bf16"):
            terms = self.stage.losses(batch, self.progress)
        (sum(terms.values(), torch.zeros((), device=self.device)) / config.accumulate).backward()
        for name, value in terms.items():
            self.totals[name] = self.totals.get(name, 0.0) + float(value.detach())
        self.totals["#"] = self.totals.get("#", 0.0) + 1
        if (index + 1) % config.accumulate:
            return
        if config.sharding == "replicate":
            average_gradients(self.parameters, self.world_size)
        norm = torch.nn.utils.clip_grad_norm_(self.parameters, config.clip_norm)
        rate = self._rate()
        for group, peak in zip(self.optimizer.param_groups, self.peaks, strict=True):
            group["lr"] = peak * rate
        # A single bad batch must not poison the weights and their average for good.
        if torch.isfinite(norm):
            self.optimizer.step()
        else:
            self.totals["skipped"] = self.totals.get("skipped", 0.0) + 1
        self.optimizer.zero_grad(set_to_none=True)
        self.step += 1
        self.images += self._images_per_step
        self.average.update(network, self.step)

    def _rate(self) -> float:
        """Share of the peak learning rate: linear warm-up, then cosine to `final_learning_rate`."""
        config = self.config
        # A run that time or --images makes short warms up within a share of it.
        warm = min(1.0, max((self.images + 1) / max(1, config.warmup_images), self.progress / WARM_UP_SHARE))
        floor = config.final_learning_rate
        return warm * (floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * self.progress)))

    def _log(self) -> None:
        count = self.totals.pop("#", 1.0)
        means = {k: round(v / count, 5) for k, v in self.totals.items()}
        self.totals = {}
        row: dict[str, Any] = {
            "step": self.step,
            "images": self.images,
            "of": self.config.num_images,
            "seconds": round(self.seconds, 1),
            "seconds_per_1000": round(1000 * self.seconds / max(1, self.images), 2),
            "eta_seconds": round(self.seconds * (1 / max(self.progress, 1e-9) - 1)),
            "rate": round(self._rate(), 4),
            "loss": round(sum(v for k, v in means.items() if k != "skipped"), 5),
            "terms": means,
        }
        if self.device.type == "cuda":
            row["peak_gpu_mb"] = round(torch.cuda.max_memory_allocated() / 2**20)
        if self.rank == 0:
            with (self.folder / "stats.jsonl").open("a") as file:
                file.write(json.dumps(row) + "\n")
            if self.report is not None:
                self.report(row)

    def _snapshot(self) -> None:
        """Everything needed to go on, an export that `vivant.load` opens, and pictures to look at."""
        tensors = snapshot.network_tensors(self.stage.network, "network")
        tensors |= snapshot.network_tensors(self.average.network, "average")
        tensors |= snapshot.optimizer_tensors(self.optimizer, self.names)
        tensors |= self._random_states()
        if self.rank == 0:
            config = asdict(self.config)
            meta = {"step": self.step, "images": self.images, "seconds": self.seconds, "config": config}
            snapshot.save(self.folder, tensors, meta)
            # What is drawn by chance for these comes after the saved states: a resumed run does not see it.
            with torch.random.fork_rng([self.device] if self.device.type == "cuda" else []):
                self.stage.export(self.average.network, self.folder / "export")
                self._draw()
        barrier(self.world_size)

    def _draw(self) -> None:
        """`pictures.png`: the same batch at every snapshot, drawn with the averaged weights."""
        batch = self.stage.dataset(self.config, 0, 1)[0]
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.config.precision == "bf16"):
            rows = self.stage.pictures(self.average.network, {k: v.to(self.device) for k, v in batch.items()})
        if rows:
            sheet = torch.cat([row.clamp(0, 1) for row in rows], 1)
            pixels = (sheet.permute(1, 2, 0).float().cpu().numpy() * 255 + 0.5).astype("uint8")
            cv2.imwrite(str(self.folder / "pictures.png"), pixels[..., ::-1])

    def _random_states(self) -> dict[str, Tensor]:
        states = {"random": torch.get_rng_state()}
        if self.device.type == "cuda":
            states["random_cuda"] = torch.cuda.get_rng_state(self.device)
        out: dict[str, Tensor] = {}
        for name, state in states.items():
            everyone = [state]
            if self.world_size > 1:
                everyone = gather_bytes(state, self.device, self.world_size)
            out |= {f"{name}/{rank}": own for rank, own in enumerate(everyone)}
        return out

    def _stop(self, number: int, frame: FrameType | None) -> None:
        self.stopped = True
