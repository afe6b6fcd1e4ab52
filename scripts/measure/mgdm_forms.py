"""MGDM with one of its draws replaced: no gradient through the denoiser, moves without noise, an index that y drives.

    python -m scripts.measure.mgdm_forms linearised --steps 50 --gibbs 1 --on closed half sr4 phase_retrieval

Prints rows of docs/mgdm.md. *closed*: mean error, variance ratio and misfit on ``gaussian``, on
``gaussian[correlation=0.9,dim=8]`` and on ``gaussian_latent`` (8 problems, 250 draws), and the sliced Wasserstein
distance on four problems of ``gaussian_mixture[dim=8,dim_y=2]``. The other names: LPIPS, PSNR and misfit on ``--faces``
faces, whose rows ``--out FILE`` keeps; ``--against FILE`` prints paired differences to such rows. A task that a form
skips is printed with the reason. The forms are here and not in ``solvers/`` because none was shown to be better at
equal cost without being worse elsewhere.

The slope of D_s at any point is taken for that of N(0, v I), v the prior's variance of a value:
c = sqrt(abar_s) r^2 / (1 - abar_s) with r^2 = v (1 - abar_s) / (abar_s v + 1 - abar_s), the variance of x_0 given x_s.
"""

import argparse
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import torch

from benchmark_utils.evaluate import objective_of, score
from benchmark_utils.mgdm_loop import LOOP, MGDMLoop
from benchmark_utils.rng import RNG
from datasets.ffhq_inpainting import Dataset as Inpainting
from datasets.ffhq_phase_retrieval import Dataset as PhaseRetrieval
from datasets.ffhq_super_resolution import Dataset as SuperResolution
from datasets.gaussian import Dataset as Gaussian
from datasets.gaussian_latent import Dataset as GaussianLatent
from datasets.gaussian_mixture import Dataset as GaussianMixture
from scripts.measure.common import interval
from solvers.mgdm import Solver as MGDM

VARIANCES = {"gaussian": 1.0, "mixture": 129.0, "ffhq": 0.25, "ffhq_latent": 1.0}  # v of a family of priors


def slope_of(schedule, s, variance):
    """c and r^2 at level s."""
    abar = schedule.abar(s)
    r2 = variance * (1 - abar) / (abar * variance + 1 - abar)
    return abar**0.5 * r2 / (1 - abar), r2


class Scalar(MGDM):
    """(a) Algorithm 3 with c I in place of the Jacobian of D_s: one forward pass a gradient step, no backward one."""

    name, variance = "mgdm_scalar", 1.0

    def sample_x_s(self, problem, prior, rng, x_0, x_t, s, t, *effort):
        slope, _ = slope_of(prior.schedule, s, self.variance)

        def denoise(x_s, s):
            return prior.denoise(x_s.detach(), s) + slope * (x_s - x_s.detach())

        sloped = SimpleNamespace(denoise=denoise, schedule=prior.schedule, event_shape=prior.event_shape)
        return super().sample_x_s(problem, sloped, rng, x_0, x_t, s, t, *effort)


class Linearised(MGDMLoop):
    """(b) D_s linear around the bridge's mean, D_s(mean) + c (x_s - mean): an exact draw by the SVD of A."""

    name, variance = "mgdm_linearised", 1.0
    parameters = {name: [None] for name in LOOP}
    needs = {"svd", "gaussian"}
    PRESETS = {("*", "*"): LOOP}

    def noise_std(self, problem, r2):
        """Standard deviation that y is given, a number or one for each singular value."""
        return problem.noise.std

    def sample_x_s(self, problem, prior, rng, x_0, x_t, s, t):
        slope, r2 = slope_of(prior.schedule, s, self.variance)
        c_0, c_t, std = prior.schedule.bridge(0, s, t)
        mean = c_0 * x_0 + c_t * x_t
        x_hat = prior.denoise(mean, s)
        return mean + (problem.draw_conditional(x_hat, slope * std, self.noise_std(problem, r2), rng) - x_hat) / slope


class Widened(Linearised):
    """(b) with the variance r^2 of x_0 given x_s added to the noise: exact p(y | x_s) under N(0, v I)."""

    name = "mgdm_widened"

    def noise_std(self, problem, r2):
        return (problem.noise.std**2 + r2 * problem.operator.mask**2) ** 0.5


class Proximal(Linearised):
    """(c) x_0* nearest to D_s(mean) that explains y, ``argmin -log g_0(y | x_0) + ||x_0 - D||^2 / (2 r^2)``, noised."""

    name = "mgdm_proximal"

    def sample_x_s(self, problem, prior, rng, x_0, x_t, s, t):
        _, r2 = slope_of(prior.schedule, s, self.variance)
        c_0, c_t, _ = prior.schedule.bridge(0, s, t)
        x_hat = prior.denoise(c_0 * x_0 + c_t * x_t, s)
        nearest = x_hat + problem.correction(x_hat, problem.noise.std**2 / r2)
        return prior.schedule.sample_bridge(nearest, x_t, 0, s, t, rng)


class QuietRefresh(MGDM):
    """DDIM moves, without noise, from x_s to x_0."""

    name, eta = "mgdm_quiet_refresh", 0.0


class QuietNoising(MGDM):
    """x_t from x_0 and the noise that x_s has, as DDIM would, instead of fresh noise."""

    name = "mgdm_quiet_noising"

    def sample_x_t(self, prior, rng, x_0, x_s, x_t_next, s, t, t_next):
        abar, abar_t = prior.schedule.abar(s), prior.schedule.abar(t)
        eps = (x_s - abar**0.5 * x_0) / (1 - abar) ** 0.5
        return abar_t**0.5 * x_0 + (1 - abar_t) ** 0.5 * eps


class Quiet(QuietRefresh, QuietNoising):
    """Both: the fit of x_s, and the bridge to the next level, are then the only noise."""

    name = "mgdm_quiet"


class Driven(MGDM):
    """For each row its own s, one of four candidates, by the likelihood of one bridge draw at each.

    Candidates follow the index law; in the last part of the steps there is one, the next level. This is not algorithm
    4, which weighs each s with x_s integrated out: one draw of a wide bridge misses y where many would not.
    """

    name, n_candidates = "mgdm_driven", 4

    def draw_index(self, *step):
        return sorted({MGDM.draw_index(self, *step) for _ in range(self.n_candidates)})

    def gibbs_round(self, problem, prior, rng, x_0, x_t, x_t_next, s, t, t_next, *effort):
        chosen, seeds = self.choose(problem, prior, rng, x_0, x_t, s, t), rng.shared.integers(2**62, size=len(s))
        x_0, x_t = x_0.clone(), x_t.clone()
        for k, (level, seed) in enumerate(zip(s, seeds.tolist(), strict=True)):
            if rows := (chosen == k).nonzero().flatten().tolist():
                images, draws = ([numbers[i] for i in rows] for numbers in (rng.images, rng.draws))
                own = RNG(seed, "sampler", problem.task, images, draws, rng.device, rng.dtype, block=64)
                states = x_0[rows], x_t[rows], x_t_next[rows]
                x_0[rows], x_t[rows] = super().gibbs_round(
                    problem.rows(rows), prior, own, *states, level, t, t_next, *effort
                )
        return x_0, x_t

    def choose(self, problem, prior, rng, x_0, x_t, levels, t):
        """Number of the candidate of each row, (n,)."""
        if len(levels) == 1:
            return torch.zeros(len(x_0), dtype=torch.long, device=x_0.device)
        logs = []
        for s in levels:
            x_s = prior.schedule.sample_bridge(x_0, x_t, 0, s, t, rng)
            logs.append(problem.log_likelihood(prior.denoise(x_s, s)))
        bounds = torch.stack(logs).double().softmax(0).cumsum(0)
        return (bounds < bounds[-1] * rng.rand()).sum(0)


FORMS = {
    "mgdm": MGDM,
    "driven": Driven,
    "scalar": Scalar,
    "linearised": Linearised,
    "widened": Widened,
    "proximal": Proximal,
    "quiet-refresh": QuietRefresh,
    "quiet-noising": QuietNoising,
    "quiet": Quiet,
}
SCORES = ["lpips", "psnr", "data_misfit", "nfe", "vjp"]
FACES = {
    "half": (Inpainting, {"mask": "half"}),
    "sr4": (SuperResolution, {"factor": 4}),
    "phase_retrieval": (PhaseRetrieval, {}),
}


def rows_of(form, dataset, n_samples, n_steps, n_gibbs):
    """The objective's rows for a form on a dataset, M = 5; None where the form does not apply."""
    objective = objective_of(dataset, n_samples=n_samples)
    variance = VARIANCES[objective.prior.family]
    solver = type(form, (FORMS[form],), {"variance": variance}).get_instance(
        n_steps=n_steps, n_gibbs=n_gibbs, n_denoise=5
    )
    skipped, reason = solver.skip(**objective.get_objective())
    if skipped:
        print(dataset, reason)
        return None
    return score(solver, objective)


def print_closed_forms(form, *settings):
    """Mean error and variance ratio on Gaussians, distance on the mixture."""
    correlated = Gaussian.get_instance(correlation=0.9, dim=8)
    for dataset in (Gaussian.get_instance(), correlated, GaussianLatent.get_instance()):
        if (rows := rows_of(form, dataset, 250, *settings)) is not None:
            scores = rows[["mean_error", "variance_ratio", "data_misfit", "nfe", "vjp"]].mean()
            print(dataset, *(f"{name} {value:.3f}" for name, value in scores.items()), flush=True)
    problems = [GaussianMixture.get_instance(dim=8, dim_y=2, seed=seed) for seed in range(4)]
    distances = [rows_of(form, dataset, 250, *settings).sliced_wasserstein[0] for dataset in problems]
    print(
        "gaussian_mixture", *(f"{distance:.2f}" for distance in distances), f"mean {sum(distances) / 4:.2f}", flush=True
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("form", choices=FORMS)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--gibbs", type=int, default=1)
    parser.add_argument("--on", nargs="+", choices=["closed", *FACES], default=["closed"])
    parser.add_argument("--faces", type=int, default=8)
    parser.add_argument("--draws", type=int, default=1, help="of each face")
    parser.add_argument("--out", type=Path, help="Parquet file for the rows of the faces")
    parser.add_argument("--against", type=Path, help="such a file of another form, to be compared with")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    settings = arguments.steps, arguments.gibbs
    if "closed" in arguments.on:
        print_closed_forms(arguments.form, *settings)
    kept, base = [], pd.read_parquet(arguments.against) if arguments.against else None
    for name in (name for name in FACES if name in arguments.on):
        task, options = FACES[name]
        dataset = task.get_instance(n_images=arguments.faces, **options)
        if (rows := rows_of(arguments.form, dataset, arguments.draws, *settings)) is None:
            continue
        rows = rows.set_index("image")[SCORES].assign(task=name, draws=arguments.draws)
        print(name, rows[SCORES].mean().round(4).to_dict(), flush=True)
        kept.append(rows)
        if base is not None:
            other = base[base.task == name]
            if not other.index.equals(rows.index) or (other.draws != arguments.draws).any():
                parser.error(f"{arguments.against} has other faces or draws of {name}")
            print("difference", *(f"{column} {interval(rows[column] - other[column])}" for column in SCORES[:3]))
    if arguments.out and kept:
        pd.concat(kept).to_parquet(arguments.out)


if __name__ == "__main__":
    main()
