"""Scores of posterior samples, their definitions and which direction is better."""

import functools
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from numpy.typing import ArrayLike
from scipy.special import stdtrit
from torch import Tensor

from benchmark_utils.files.paths import asset

STEMS = ("bass", "drums", "guitar", "piano")
SAMPLE_RATE = 22_050
WINDOW_LENGTH, WINDOW_HOP = 4 * SAMPLE_RATE, 2 * SAMPLE_RATE
SI_SDR_EPS = 1e-8
DIVERGED = 10  # times the range of the prior's signals


@dataclass(frozen=True)
class Metric:
    """A score of the D draws of one image.

    ``score(draws, truth)`` takes (D, *signal) and (*signal) and returns (D,) numbers; ``None`` marks a column
    that the objective computes itself. ``direction`` is +1 if higher is better, -1 if lower is, 0 if neither.
    """

    label: str
    direction: int
    definition: str
    score: Callable[[Tensor, Tensor], Tensor] | None = None


@functools.cache
def lpips_network(net: str = "alex") -> torch.nn.Module:
    """LPIPS (Zhang et al. 2018, https://arxiv.org/abs/1801.03924) by the ``lpips`` package.

    For AlexNet the trunk is the shipped one, so nothing is downloaded; another ``net`` is loaded by the package.
    """
    import lpips  # imports torchvision: seconds, so only when scored

    with warnings.catch_warnings():
        # the package calls torchvision by deprecated names
        warnings.filterwarnings("ignore", category=UserWarning, module="torchvision.models")
        network = lpips.LPIPS(net=net, pnet_rand=net == "alex", verbose=False).eval().requires_grad_(False)
    if net != "alex":
        return network
    trunk = torch.load(asset("lpips/alexnet_features.pth"), weights_only=True)
    slices = network.net
    for name, value in trunk.items():
        layer = int(name.split(".")[1])
        for number in range(1, 6):
            module = getattr(slices, f"slice{number}")
            if str(layer) in module._modules:
                getattr(module._modules[str(layer)], name.split(".")[2]).data.copy_(value)
    return network


def lpips_score(draws: Tensor, truth: Tensor) -> Tensor:
    draws, truth = draws.float().clamp(-1, 1), truth.float()
    with torch.no_grad():
        return torch.stack([lpips_network()(draw[None], truth[None]).flatten()[0] for draw in draws])


def psnr_score(draws: Tensor, truth: Tensor) -> Tensor:
    squared_error = ((draws.clamp(-1, 1) - truth) / 2).square().flatten(1).mean(1)
    return -10 * squared_error.log10()


def ssim_score(draws: Tensor, truth: Tensor) -> Tensor:
    from torchmetrics.functional.image import structural_similarity_index_measure as ssim

    draws, truth = (draws.float().clamp(-1, 1) + 1) / 2, (truth.float() + 1) / 2
    return cast(Tensor, ssim(draws, truth.expand_as(draws), data_range=1.0, reduction="none")).reshape(-1)


def scored_windows(length: int) -> list[tuple[int, int]]:
    """(first, last + 1) samples of the windows of MSDM's protocol: 4 s every 2 s, the last one possibly shorter."""
    count = max(1, -(-(length - WINDOW_HOP) // WINDOW_HOP))
    return [(i * WINDOW_HOP, min(i * WINDOW_HOP + WINDOW_LENGTH, length)) for i in range(count)]


def is_active(signals: Tensor) -> Tensor:
    """Whether signals (..., length) sound: ``||x|| / length >= 1.5e-5``, which depends on the length."""
    return signals.norm(dim=-1) / signals.shape[-1] >= 1.5e-5


def si_sdr(estimates: Tensor, targets: Tensor) -> Tensor:
    """Scale-invariant signal-to-distortion ratio in dB of float64 signals (..., length): (...)."""
    energy = targets.square().sum(-1) + SI_SDR_EPS
    scaled = (((estimates * targets).sum(-1) + SI_SDR_EPS) / energy)[..., None] * targets
    distortion = (scaled - estimates).square().sum(-1)
    return 10 * ((scaled.square().sum(-1) + SI_SDR_EPS) / (distortion + SI_SDR_EPS)).log10()


def si_sdri(draws: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
    """Improvement of SI-SDR over the mixture, (D, windows, stems), and which stems sound, (windows, stems).

    As MSDM (Mariani et al. 2024, https://arxiv.org/abs/2302.02257): windows where fewer than two stems sound are
    left out, in the others silent stems count too.
    """
    draws, truth = draws.double(), truth.double()
    gains, active = [], []
    for first, last in scored_windows(truth.shape[1]):
        target, estimate = truth[:, first:last], draws[..., first:last]
        sounding = is_active(target)
        if sounding.sum() < 2:
            continue
        active.append(sounding)
        gains.append(si_sdr(estimate, target) - si_sdr(target.sum(0), target))
    if not gains:
        return draws.new_empty(len(draws), 0, len(truth)), torch.empty(0, len(truth), dtype=torch.bool)
    return torch.stack(gains, 1), torch.stack(active)


def si_sdri_all_score(draws: Tensor, truth: Tensor) -> Tensor:
    return si_sdri(draws, truth)[0].mean((1, 2))


def si_sdri_active_score(draws: Tensor, truth: Tensor) -> Tensor:
    gains, active = si_sdri(draws, truth)
    return gains[:, active].mean(1)


def si_sdri_stem_score(draws: Tensor, truth: Tensor, stem: str) -> Tensor:
    return si_sdri(draws, truth)[0][..., STEMS.index(stem)].mean(1)


def data_consistency_score(draws: Tensor, truth: Tensor) -> Tensor:
    mixture = truth.double().sum(0)
    ratio = (draws.double().sum(1) - mixture).norm(dim=1) / mixture.norm()
    return 20 * ratio.clamp(min=1e-10).log10()


def mae_score(draws: Tensor, truth: Tensor) -> Tensor:
    return (draws - truth).abs().flatten(1).mean(1)


IMAGE_METRICS = ("lpips", "psnr", "ssim", "data_misfit")  # of the image tasks, the headline first
METRICS = {
    "lpips": Metric(
        "LPIPS", -1, "AlexNet, on [-1, 1] after clamping, a grey image repeated in three channels", lpips_score
    ),
    "psnr": Metric("PSNR", 1, "dB, on [0, 1] after clamping, peak 1", psnr_score),
    "ssim": Metric("SSIM", 1, "Gaussian window 11x11, sigma 1.5, on [0, 1] after clamping", ssim_score),
    "data_misfit": Metric(
        "data misfit",
        0,
        "||y - A x||^2 / (m sigma^2), for counts sum (k - mu)^2 / (m mu); about 1 for a posterior sample",
    ),
    "fid": Metric(
        "FID",
        -1,
        "of all images: Fréchet distance of InceptionV3 features (2048, torchmetrics) between first draws and truths, "
        "a grey image repeated in three channels; biased upwards for few images, so comparable at equal n only",
    ),
    "si_sdri_all": Metric("SI-SDRi", 1, "dB over the mixture, mean over 4 s windows and stems", si_sdri_all_score),
    **{
        f"si_sdri_{stem}": Metric(
            f"SI-SDRi {stem}", 1, f"the same of {stem} alone", functools.partial(si_sdri_stem_score, stem=stem)
        )
        for stem in STEMS
    },
    "si_sdri_active": Metric("active SI-SDRi", 1, "the same where the stem sounds in the window", si_sdri_active_score),
    "data_consistency_db": Metric(
        "consistency dB", -1, "20 log10(||sum of stems - y|| / ||y||), not below -200", data_consistency_score
    ),
    "si_sdri_mean": Metric("SI-SDRi of the mean", 1, "SI-SDRi of the mean over draws"),
    "psnr_mean": Metric("PSNR of the mean", 1, "PSNR of the mean over draws"),
    "mae": Metric("MAE of a draw", -1, "mean absolute error; of a right draw above that of the mean", mae_score),
    "mae_mean": Metric("MAE of the mean", -1, "mean absolute error of the mean over draws"),
    "rmse_mean": Metric("RMSE of the mean", -1, "root mean square error of the mean over draws"),
    "spread": Metric("spread", 0, "standard deviation over draws, root mean square over values, in the signal's unit"),
    "lpips_best": Metric("best LPIPS", -1, "lowest LPIPS over draws"),
    "sliced_wasserstein": Metric("sliced W1", -1, "mean over 100 random unit projections of the 1-D W1 to exact draws"),
    "sliced_wasserstein_floor": Metric("floor of sliced W1", -1, "the same between two sets of exact draws"),
    "mode_tv": Metric("mode TV", -1, "half the sum over components of |mean over draws of p(k | x) - p(k | y)|"),
    "mean_error": Metric("mean error", -1, "||mean of draws - posterior mean|| / sqrt(tr P), P its covariance"),
    "mean_error_floor": Metric("floor of mean error", -1, "1 / sqrt(n), the root mean square over n exact draws"),
    "variance_ratio": Metric("variance ratio", 0, "sum_j ||x_j - mean||^2 / ((n - 1) tr P); 1 is right"),
    **{
        f"coverage_{level}": Metric(
            f"coverage {level} %", 0, f"share of values inside the central interval of their draws nearest to {level} %"
        )
        for level in (50, 80, 90)
    },
    **{
        f"coverage_{level}_floor": Metric(f"nominal coverage {level} %", 0, "that of draws of the right law")
        for level in (50, 80, 90)
    },
    "crps": Metric("CRPS", -1, "continuous ranked probability score, fair ensemble form, mean over values"),
    "crps_floor": Metric("floor of CRPS", -1, "the same of D + 1 exact draws for the same truths"),
    "energy_score": Metric("energy score", -1, "mean ||x_j - x|| - half the mean ||x_i - x_j||, fair ensemble form"),
    "energy_score_floor": Metric("floor of energy score", -1, "the same of D + 1 exact draws for the same truths"),
    "tarp": Metric(
        "TARP",
        0,
        "share of the other draws nearer to the first one than the truth is (Lemos et al. 2023): uniform over truths",
    ),
    "label_probability": Metric("label probability", 0, "mean over draws of p(label | x)"),
    "label_probability_floor": Metric(
        "label probability of the exact law", 0, "E p(label | x) by quadrature, or by weighted draws of 64 dimensions"
    ),
    "mmd": Metric("MMD²", -1, "unbiased squared maximum mean discrepancy to exact draws, Gaussian kernel, h² = tr P"),
    "precision": Metric("precision", 0, "share of draws nearer to an exact draw than its 5th exact neighbour"),
    "recall": Metric("recall", 1, "share of exact draws nearer to a draw than its 5th neighbour among the draws"),
    "density": Metric("density", 0, "mean number of such balls, of exact draws, that hold a draw, divided by 5"),
    "coverage": Metric("coverage of balls", 1, "share of these balls that hold a draw"),
    "class_accuracy": Metric("class accuracy", 0, "share of digits in which a logistic regression sees the label"),
    **{
        f"{name}_floor": Metric(f"{label} of exact draws", 0, "the same of other exact draws")
        for name, label in {
            "mode_tv": "mode TV",
            "mmd": "MMD²",
            "precision": "precision",
            "recall": "recall",
            "density": "density",
            "coverage": "coverage of balls",
            "class_accuracy": "class accuracy",
        }.items()
    },
    "diverged": Metric("diverged", 0, f"share of draws with a value {DIVERGED} times outside the range of the signals"),
    "ess": Metric("ESS / N", 1, "particle methods: smallest effective sample size over the steps, divided by N"),
    "nfe": Metric("NFE", -1, "denoiser rows evaluated per returned sample"),
    "vjp": Metric("VJP", -1, "backward passes through the denoiser per returned sample"),
    "seconds_per_image": Metric(
        "s / image", -1, "wall-clock seconds of the sampler per image, or per chunk of a track"
    ),
    "peak_memory_gb": Metric("memory GB", -1, "peak allocated CUDA memory; not measured on a CPU"),
}


def diverged_share(draws: Tensor, signal_range: float) -> float:
    """Share of the draws (D, *signal) of which a value is NaN or more than ``DIVERGED`` times ``signal_range``."""
    within = draws.flatten(1).abs() <= DIVERGED * signal_range
    return float((~within).any(1).double().mean())


def exactness(draws: Tensor, posterior_mean: Tensor, trace_cov: Tensor) -> dict[str, float]:
    """Mean error and variance ratio of n >= 2 draws (n, *event) of one image against its exact posterior."""
    n = len(draws)
    center = draws.mean(0)
    return {
        "mean_error": float((center - posterior_mean).norm() / trace_cov.sqrt()),
        "mean_error_floor": n**-0.5,
        "variance_ratio": float((draws - center).square().sum() / ((n - 1) * trace_cov)),
    }


def sliced_wasserstein(x: Tensor, reference: Tensor, n_projections: int = 100, seed: int = 0) -> float:
    """Sliced Wasserstein-1 between two sets of as many points, (n, d) each, over random unit projections."""
    directions = np.random.default_rng(seed).standard_normal((x.shape[1], n_projections))
    directions /= np.linalg.norm(directions, axis=0)
    projected = [np.sort(np.asarray(points) @ directions, axis=0) for points in (x, reference)]
    return float(np.abs(projected[0] - projected[1]).mean())


def mode_total_variation(responsibilities: Tensor, weights: Tensor) -> float:
    """Total variation distance between the mode weights of n draws and the posterior's, ``weights`` (K,).

    A draw counts for component k with ``p(k | x)``, ``responsibilities`` (n, K). Since y depends on x alone, the mean
    of these over exact draws is ``p(k | y)``, also where components overlap.
    """
    return float((responsibilities.mean(0) - weights).abs().sum() / 2)


def mean_and_ci(values: ArrayLike) -> tuple[float, float]:
    """Mean and half-width ``t sd / sqrt(n)`` of Student's 95 % interval; NaN half-width for a single value.

    t is the quantile of n - 1 degrees of freedom: 12.7 for two values, 2.1 for twenty.
    """
    values, n = np.asarray(values, dtype=float), np.size(values)
    half_width = stdtrit(n - 1, 0.975) * values.std(ddof=1) / n**0.5 if n > 1 else float("nan")
    return float(values.mean()), float(half_width)
