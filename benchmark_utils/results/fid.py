"""The Fréchet Inception distance (Heusel et al. 2017, https://arxiv.org/abs/1706.08500) of a task's images."""

import numpy as np


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
