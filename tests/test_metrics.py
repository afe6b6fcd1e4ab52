import lpips
import numpy as np
import ot
import pytest
import torch
from helpers import read_thumbnails
from torchmetrics.functional.image import peak_signal_noise_ratio

from benchmark_utils.files.paths import asset
from benchmark_utils.metrics import METRICS, exactness, lpips_score, mean_and_ci, sliced_wasserstein


@pytest.fixture(scope="module")
def faces():
    return read_thumbnails(4)


def test_lpips_is_the_packages_with_the_same_trunk(faces):
    """The package's module, its trunk filled layer by layer in order, agrees to 1e-6."""
    reference = lpips.LPIPS(net="alex", pnet_rand=True, verbose=False).eval()
    trunk = torch.load(asset("lpips/alexnet_features.pth"), weights_only=True)
    convolutions = [module for module in reference.net.modules() if isinstance(module, torch.nn.Conv2d)]
    names = sorted({int(name.split(".")[1]) for name in trunk})
    for number, convolution in zip(names, convolutions, strict=True):
        convolution.weight.data = trunk[f"features.{number}.weight"]
        convolution.bias.data = trunk[f"features.{number}.bias"]
    with torch.no_grad():
        expected = reference(faces[:3], faces[1:]).flatten()
    found = torch.cat([lpips_score(x[None], y) for x, y in zip(faces[:3], faces[1:], strict=True)])
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
    assert lpips_score(faces[:1], faces[0]).item() == 0


def test_psnr_and_ssim(faces):
    noisy = faces[:2] + 0.2
    truth = faces[0]
    expected = peak_signal_noise_ratio((noisy[0].clamp(-1, 1) + 1) / 2, (truth + 1) / 2, data_range=1.0)
    torch.testing.assert_close(METRICS["psnr"].score(noisy, truth)[0], expected)
    ssim = METRICS["ssim"].score(faces[:2], truth)
    assert ssim.shape == (2,) and ssim[0] == pytest.approx(1, abs=1e-5) and ssim[1] < 0.8


def test_exactness_of_exact_draws_and_of_wrong_ones():
    generator = torch.Generator().manual_seed(0)
    mean, std = torch.tensor([1.0, 2.0]), torch.tensor([0.5, 2.0])
    draws = mean + std * torch.randn(4000, 2, generator=generator)
    exact = exactness(draws, mean, std.square().sum())
    assert exact["mean_error"] < 3 * exact["mean_error_floor"]
    assert exact["variance_ratio"] == pytest.approx(1, abs=0.1)
    collapsed = exactness(mean + 1 + 0.1 * (draws - mean), mean, std.square().sum())
    assert collapsed["mean_error"] > 10 * exact["mean_error_floor"]
    assert collapsed["variance_ratio"] == pytest.approx(0.01, abs=0.002)


def test_variance_ratio_of_two_draws_is_unbiased():
    draws = torch.tensor([[0.0, 0.0], [2.0, 4.0]])
    # sums of squares 2 and 8, divided by n - 1 = 1
    assert exactness(draws, draws[0], torch.tensor(5.0))["variance_ratio"] == pytest.approx(2)


def test_sliced_wasserstein_agrees_with_pot():
    generator = np.random.default_rng(0)
    x, y = generator.standard_normal((500, 6)), generator.standard_normal((500, 6)) + 1
    expected = ot.sliced_wasserstein_distance(x, y, n_projections=4000, p=1, seed=1)
    assert sliced_wasserstein(x, y, n_projections=4000) == pytest.approx(expected, rel=0.03)
    directions = np.random.default_rng(0).standard_normal((6, 100))
    directions /= np.linalg.norm(directions, axis=0)
    same = ot.sliced_wasserstein_distance(x, y, projections=directions, p=1)
    assert sliced_wasserstein(x, y) == pytest.approx(same, rel=1e-10)


def test_confidence_interval():
    mean, half_width = mean_and_ci([1.0, 2.0, 3.0, 4.0])
    assert mean == 2.5 and half_width == pytest.approx(3.182446 * np.std([1, 2, 3, 4], ddof=1) / 2)  # Student's t
    assert np.isnan(mean_and_ci([1.0])[1])
