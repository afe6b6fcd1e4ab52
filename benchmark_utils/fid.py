"""The Fréchet Inception distance (Heusel et al. 2017, https://arxiv.org/abs/1706.08500) of a task's images."""

import functools
import warnings
from urllib.error import URLError

import numpy as np
import torch

BATCH = 16


@functools.cache
def inception():
    """torchmetrics' InceptionV3, weights fetched on first use (95 MB); None, with a notice, without them."""
    from torchmetrics.image.fid import NoTrainInceptionV3

    try:
        return NoTrainInceptionV3("inception-v3-compat", ["2048"])
    except (URLError, TimeoutError, ConnectionError) as error:
        folder = f"{torch.hub.get_dir()}/checkpoints"
        notice = f"FID is left out: the Inception weights are not in {folder} and not reachable ({error})"
        warnings.warn(notice, stacklevel=2)
        return None


def features(images):
    """Inception features of uint8 images (n, H, W, 3): (n, 2048) in float16, or None."""
    network = inception()
    if network is None:
        return None
    batches = torch.from_numpy(images).movedim(-1, 1).split(BATCH)
    with torch.no_grad():
        return torch.cat([network(batch) for batch in batches]).half().numpy()


def fids(rows):
    """``{solver: (FID, n images)}`` of the rows of a task, where at least two images have features."""
    first = rows[rows["idx_rep"] == rows["idx_rep"].min()] if "final_results" in rows else rows[:0]
    found = {}
    for solver, cells in first.groupby("solver_name", sort=False):
        kept = [cell for cell in cells["final_results"] if isinstance(cell, dict)]
        kept = [cell for cell in kept if cell.get("sample_features") is not None]
        drawn, real = ([cell[f"{name}_features"] for cell in kept] for name in ("sample", "truth"))
        n = sum(map(len, drawn))
        if n > 1:
            found[solver] = frechet_distance(np.concatenate(drawn), np.concatenate(real)), n
    return found


def frechet_distance(features, other):
    """``||m_1 - m_2||^2 + tr(S_1 + S_2 - 2 (S_1 S_2)^(1/2))`` of two sets (n, d) and (k, d), n and k at least 2.

    With ``S = X^T X`` of centred and scaled features, the last trace is the nuclear norm of ``X_1 X_2^T``: an n x k
    matrix, so that few images cost little and the singular covariances do no harm.
    """
    means, scaled = [], []
    for x in (np.asarray(features, np.float64), np.asarray(other, np.float64)):
        if len(x) < 2:
            raise ValueError(f"a Fréchet distance needs at least 2 images, got {len(x)}")
        means.append(x.mean(0))
        scaled.append((x - x.mean(0)) / (len(x) - 1) ** 0.5)
    cross = np.linalg.norm(scaled[0] @ scaled[1].T, "nuc")
    return float(sum(np.square(x).sum() for x in scaled) + np.square(means[0] - means[1]).sum() - 2 * cross)
