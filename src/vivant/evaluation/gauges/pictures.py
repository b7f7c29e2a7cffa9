"""Is the picture the true one? Only self-reenactment has a true picture."""

from __future__ import annotations

import torch

from vivant.evaluation import metrics
from vivant.evaluation.judges.given import Judges
from vivant.evaluation.shown import Means, Shown


class PictureGauge:
    """psnr, ssim, l1, and lpips_alex and lpips_vgg where those were given."""

    def __init__(self, judges: Judges) -> None:
        self._means = Means()
        self._lpips = {"lpips_alex": judges.lpips_alex, "lpips_vgg": judges.lpips_vgg}

    @torch.no_grad()
    def update(self, shown: Shown) -> None:
        frame, truth = shown.output_tensor, shown.target_tensor
        self._means.add("psnr", metrics.psnr(frame, truth).item())
        self._means.add("ssim", metrics.ssim(frame, truth).item())
        self._means.add("l1", metrics.l1(frame, truth).item())
        for name, network in self._lpips.items():
            if network is not None:
                self._means.add(name, network(frame, truth).item())

    def numbers(self) -> dict[str, float]:
        return self._means.values
