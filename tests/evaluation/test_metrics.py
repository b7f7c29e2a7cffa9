"""Every metric against its definition, and SSIM against scikit-image."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from skimage.data import astronaut
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from vivant.evaluation import metrics
from vivant.evaluation.piecewise import PiecewiseAffine


def pictures(count: int, side: int = 48) -> torch.Tensor:
    """Crops of a photograph, (T, 3, side, side)."""
    photo = torch.from_numpy(astronaut()).permute(2, 0, 1).float() / 255
    return torch.stack([photo[:, 40 * i : 40 * i + side, 60 * i : 60 * i + side] for i in range(count)])


def test_psnr_is_that_of_scikit_image() -> None:
    truth = pictures(3)
    frames = (truth + 0.05 * torch.randn(truth.shape, generator=torch.Generator().manual_seed(0))).clamp(0, 1)
    expected = [
        peak_signal_noise_ratio(a.numpy(), b.numpy(), data_range=1)
        for a, b in zip(truth, frames, strict=True)
    ]
    assert metrics.psnr(frames, truth).tolist() == pytest.approx(expected, abs=1e-4)
    assert metrics.psnr(truth, truth).tolist() == [100.0] * 3
    with pytest.raises(ValueError, match="differ in shape"):
        metrics.psnr(frames[:1], truth)


@pytest.mark.parametrize("noise", [0.0, 0.02, 0.3])
def test_ssim_is_that_of_scikit_image(noise: float) -> None:
    truth = pictures(2, 41)
    frames = (truth + noise * torch.randn(truth.shape, generator=torch.Generator().manual_seed(1))).clamp(
        0, 1
    )
    expected = [
        structural_similarity(
            a.double().numpy(),
            b.double().numpy(),
            channel_axis=0,
            data_range=1,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
        )
        for a, b in zip(truth, frames, strict=True)
    ]
    assert metrics.ssim(frames, truth).tolist() == pytest.approx(expected, abs=1e-9)


def test_ssim_refuses_small_pictures() -> None:
    with pytest.raises(ValueError, match="11 px"):
        metrics.ssim(torch.zeros(1, 3, 10, 20), torch.zeros(1, 3, 10, 20))


def test_region_psnr_sees_only_its_box() -> None:
    truth = torch.zeros(2, 3, 16, 16)
    frames = truth.clone()
    frames[0, :, :4, :4] = 0.1
    boxes = [metrics.Box(0, 0, 4, 4), metrics.Box(8, 8, 16, 16)]
    assert metrics.region_psnr(frames, truth, boxes).tolist() == pytest.approx([20.0, 100.0], abs=1e-4)


def test_boxes_hold_their_landmarks_and_stay_inside() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        landmarks = rng.uniform(-1.3, 1.3, (81, 2)).astype(np.float32) * rng.uniform(0.02, 1)
        boxes = metrics.region_boxes(landmarks, 64)
        assert set(boxes) == {"face", "mouth", "eyes"}
        for box in boxes.values():
            assert 0 <= box.x0 < box.x1 <= 64
            assert 0 <= box.y0 < box.y1 <= 64
    small = 0.3 * landmarks / np.abs(landmarks).max()
    mouth = metrics.region_boxes(small, 64)["mouth"]
    at = (small[48:68] + 1) * 32
    assert (at >= [mouth.x0, mouth.y0]).all()
    assert (at <= [mouth.x1, mouth.y1]).all()


def test_landmark_error_is_relative_to_the_eyes() -> None:
    truth = torch.rand(2, 68, 2)
    moved = torch.cat([truth + torch.tensor([0.3, 0.4]), torch.ones(2, 68, 1)], -1)
    assert metrics.landmark_error(moved, truth, 2.0).tolist() == pytest.approx([0.25, 0.25])


def test_correlation_and_amplitude() -> None:
    wave = np.sin(np.linspace(0, 9, 50))
    other = np.cos(np.linspace(0, 31, 50))
    assert metrics.correlation(wave, 3 * wave - 1) == pytest.approx(1)
    assert metrics.correlation(wave, -wave) == pytest.approx(-1)
    assert metrics.correlation(wave, other) == pytest.approx(np.corrcoef(wave, other)[0, 1])
    assert np.isnan(metrics.correlation(wave, np.ones(50)))
    assert np.isnan(metrics.correlation(wave[:2], wave[:2]))
    assert metrics.amplitude_ratio(3 * wave - 1, wave) == pytest.approx(3)
    assert np.isnan(metrics.amplitude_ratio(wave, np.ones(50)))


def test_jitter_is_the_second_difference() -> None:
    steady = np.arange(6)[:, None, None] * np.ones((1, 4, 2))
    assert metrics.jitter(steady) == 0
    shaken = steady.copy()
    shaken[::2, :, 0] += 1
    assert metrics.jitter(shaken) == pytest.approx(2)
    assert np.isnan(metrics.jitter(steady[:2]))


def test_background_error_ignores_the_person() -> None:
    truth = torch.zeros(2, 3, 8, 8)
    frames = truth.clone()
    frames[:, :, :4] = 1.0
    frames[:, :, 4:] = 2 / 255
    below = torch.zeros(2, 8, 8, dtype=torch.bool)
    below[0, 4:] = True
    errors = metrics.background_error(frames, truth, below)
    assert errors[0].item() == pytest.approx(2)
    assert torch.isnan(errors[1])


def test_outside_heads_is_outside_all_of_them() -> None:
    left, right = (np.array([[x, 30], [x + 8, 30], [x, 38], [x + 8, 38]], np.float32) for x in (10, 44))
    outside = metrics.outside_heads([left, right], 64)
    assert not outside[34, 14]
    assert not outside[34, 48]
    assert not outside[34, 8]  # within the enlarged head
    assert outside[34, 31]
    assert outside[2, 2]


def test_texture_is_found_where_the_mesh_says() -> None:
    photo = np.ascontiguousarray(astronaut()[40:168, 150:278])
    mesh = np.stack(np.meshgrid(np.linspace(20, 100, 9), np.linspace(20, 100, 9)), -1).reshape(-1, 2)
    laid_back = PiecewiseAffine(mesh, 128)
    assert metrics.texture_kept(photo, photo, laid_back, mesh) == pytest.approx(1)
    moved = np.roll(photo, (5, 9), (0, 1))
    assert metrics.texture_kept(moved, photo, laid_back, mesh + np.array([9, 5])) == pytest.approx(1)
    assert metrics.texture_kept(moved, photo, laid_back, mesh) < 0.9
