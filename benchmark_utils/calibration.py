"""Scores that ask whether D posterior draws spread as the truth does around them.

``samples`` is (n, D, *signal) with D >= 2, ``truth`` (n, *signal); the result has one row per truth, since the entries
of one truth are no independent trials. If the truth is a draw of the same law as the D draws, its rank among them is
uniform on 0..D: that is where the nominal values come from, which hold for every D.
"""

import numpy as np
import torch
from torch import Tensor

LEVELS = (0.5, 0.8, 0.9)  # of the central intervals that are columns of the tables
MOST_BINS = 20
MOST_REPLICATES = 100


def _check(samples: Tensor, truth: Tensor) -> None:
    if samples.ndim < 2 or samples.shape[:1] + samples.shape[2:] != truth.shape:
        raise ValueError(f"samples (n, D, *signal) and truth (n, *signal) have {samples.shape} and {truth.shape}")
    if samples.shape[1] < 2:
        raise ValueError("calibration needs 2 or more draws per truth: set the objective's n_samples")
    if not (samples.isfinite().all() and truth.isfinite().all()):
        raise ValueError("calibration needs finite draws and truths: some are NaN or infinite")


def crps(samples: Tensor, truth: Tensor) -> Tensor:
    """Continuous ranked probability score of each entry, mean over the entries, (n,); in the signal's unit.

    ``mean_i |x_i - x| - sum_{i<j} |x_i - x_j| / (D (D - 1))``, the fair form: its mean does not depend on D, and is
    smallest for draws of the truth's law (Ferro 2014, https://doi.org/10.1002/qj.2270).
    """
    _check(samples, truth)
    samples, truth, n_draws = samples.double(), truth.double(), samples.shape[1]
    distance = (samples - truth[:, None]).abs().mean(1)
    # sum_{i<j} |x_i - x_j| of sorted values is sum_j (2 j - D - 1) x_(j)
    weights = 2 * torch.arange(n_draws, dtype=torch.float64, device=samples.device) - (n_draws - 1)
    pairs = torch.tensordot(samples.sort(1).values.movedim(1, -1), weights, 1)
    return (distance - pairs / (n_draws * (n_draws - 1))).flatten(1).mean(1)


def energy_score(samples: Tensor, truth: Tensor) -> Tensor:
    """``mean_i ||x_i - x|| - sum_{i<j} ||x_i - x_j|| / (D (D - 1))``, (n,): the CRPS of the whole signal.

    The fair form of Gneiting & Raftery's score (2007, https://doi.org/10.1198/016214506000001437), Euclidean norms.
    """
    _check(samples, truth)
    draws, n_draws = samples.flatten(2).double(), samples.shape[1]
    distance = (draws - truth.flatten(1).double()[:, None]).norm(dim=2).mean(1)
    pairs = torch.cdist(draws, draws, compute_mode="donot_use_mm_for_euclid_dist").sum((1, 2)) / 2
    return distance - pairs / (n_draws * (n_draws - 1))


def ranks(samples: Tensor, truth: Tensor) -> Tensor:
    """Rank histogram: share of the entries that have r of the D draws below them, (n, D + 1); nominal 1 / (D + 1).

    An entry that equals some of its draws counts in equal parts for every rank that breaking the tie could give.
    """
    _check(samples, truth)
    below, above = ((samples < truth[:, None]).sum(1), (samples > truth[:, None]).sum(1))
    n_draws = samples.shape[1]
    share = 1 / (n_draws - above - below + 1).double() / truth[0].numel()
    # a share for the ranks below, ..., D - above: up at the first, down behind the last
    steps = share.new_zeros(len(share), n_draws + 2)
    steps.scatter_add_(1, below.flatten(1), share.flatten(1))
    steps.scatter_add_(1, (n_draws + 1 - above).flatten(1), -share.flatten(1))
    return steps.cumsum(1)[:, :-1]


def central_coverage(histogram: Tensor, level: float) -> tuple[Tensor, float]:
    """Share of the entries inside a central interval of their D draws, (n,), and its nominal value, from ``ranks``.

    The interval lies between the k-th smallest and the k-th largest draw, for the k whose nominal value
    ``(D + 1 - 2 k) / (D + 1)`` is nearest to ``level``. Interpolated quantiles would have none.
    """
    n_draws = histogram.shape[1] - 1
    k = min(max(round((1 - level) / 2 * (n_draws + 1)), 1), n_draws // 2)
    return histogram[:, k : n_draws + 1 - k].sum(1), (n_draws + 1 - 2 * k) / (n_draws + 1)


def tarp(samples: Tensor, truth: Tensor) -> Tensor:
    """Probability of the smallest ball around a random point that holds the truth, (n,); uniform if calibrated.

    The random regions of Lemos et al. (2023, https://arxiv.org/abs/2302.03026): the share of the truths with a value
    below alpha is the expected coverage at alpha. The first draw is the ball's centre, a random point that depends on
    y alone, as they allow; of the D - 1 others, those nearer to it than the truth count, one at the same distance
    half. The values of a right sampler are uniform on 0, 1 / (D - 1), ..., 1.
    """
    _check(samples, truth)
    draws = samples.flatten(2).double()
    centre, others = draws[:, :1], draws[:, 1:]
    radius = (truth.flatten(1).double()[:, None] - centre).norm(dim=2)
    distance = (others - centre).norm(dim=2)
    return ((distance < radius).double() + (distance == radius).double() / 2).mean(1)


# Rows and null bands


def rank_bins(n_draws: int) -> np.ndarray:
    """The bin of each of the D + 1 ranks: at most ``MOST_BINS`` of them, as equal as they can be."""
    return np.arange(n_draws + 1) * min(n_draws + 1, MOST_BINS) // (n_draws + 1)


def binned(histogram: Tensor) -> np.ndarray:
    """Histograms of :func:`ranks` in the bins of :func:`rank_bins`, (n, bins) in float32."""
    bins, histogram = torch.from_numpy(rank_bins(histogram.shape[1] - 1)), histogram.cpu()
    return histogram.new_zeros(len(histogram), int(bins[-1]) + 1).index_add_(1, bins, histogram).float().numpy()


def calibration_scores(draws: Tensor, truth: Tensor) -> dict[str, float | np.ndarray]:
    """The columns of one truth (*signal) and its draws (D, *signal), each coverage beside its nominal value."""
    samples, truth = draws[None], truth[None].to(draws)
    row: dict[str, float | np.ndarray] = {"n_draws": len(draws)}
    histogram = ranks(samples, truth)
    for level in LEVELS:
        coverage, nominal = central_coverage(histogram, level)
        row |= {f"coverage_{100 * level:.0f}": float(coverage), f"coverage_{100 * level:.0f}_floor": nominal}
    row |= {"crps": float(crps(samples, truth)), "energy_score": float(energy_score(samples, truth))}
    return row | {"tarp": float(tarp(samples, truth)), "rank_histogram": binned(histogram)[0]}


def exact_scores(reference: Tensor, truth: Tensor) -> dict[str, float | np.ndarray]:
    """What exact draws reach for one truth, from D + 1 of them, ``reference`` (D + 1, *signal).

    ``rank_null``: rank histograms of one of them among the D others, for as many of them in turn as
    ``MOST_REPLICATES``, flat: the law from which the null bands of a task are drawn.
    """
    samples, truth = reference[None], truth[None].to(reference)
    chosen = np.unique(np.linspace(0, len(reference) - 1, MOST_REPLICATES).round().astype(int))
    others = (torch.cat([reference[:j], reference[j + 1 :]])[None] for j in chosen)
    null = [binned(ranks(rest, reference[j : j + 1])) for j, rest in zip(chosen, others, strict=True)]
    return {
        "crps_floor": float(crps(samples, truth)),
        "energy_score_floor": float(energy_score(samples, truth)),
        "rank_null": np.concatenate(null).ravel(),
    }
