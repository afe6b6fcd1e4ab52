from itertools import pairwise

import torch

from benchmark_utils.guidance import ancestral
from benchmark_utils.sampler import PosteriorSampler
from benchmark_utils.schedule import karras_levels

SIGMA_MIN = 0.002


class Solver(PosteriorSampler):
    """EnKG: "Ensemble Kalman Diffusion Guidance: A Derivative-free Method for Inverse Problems",
    Zheng, Chu, Wang, Kovachki, Baptista and Yue, arXiv 2024, https://arxiv.org/abs/2409.20175

    J = ``n_particles`` particles follow the probability-flow ODE down a poly-7 grid from 80, and at all
    levels but the first and the last 5 % they move ``n_updates`` times, without a gradient of A:
      Y_j = A(x_0 of the ODE from x_j),   K_jl = <Y_j - y, Y_l - mean Y> / J,
      x_j <- x_j - w / ||K||_F sum_l K_jl (x_l - mean x).
    The ODE to x_0 has min(1 + (levels left) // 4, ``n_ode``) Euler steps, one being the denoised image. The
    noise of y appears nowhere: what y sees collapses onto a value that fits it, so this is no sampler. Every
    sample is the first particle of an ensemble of its own: the particles of one are nearly the same where y
    sees them, and the spread of several draws of an image is that of separate ensembles. So a draw costs J
    times the ODEs.
    """

    name = "enkg"
    parameters = {"n_particles": [None], "n_levels": [None], "n_updates": [None], "weight": [None], "n_ode": [None]}
    test_config = {"n_particles": 3, "n_levels": 5, "n_ode": 2}
    needs = {"gaussian"}
    # the released code's for FFHQ at 256 px: 1588 evaluations a particle, three hours an image on an A100 (its authors)
    PRESETS = {("*", "*"): {"n_particles": 1024, "n_levels": 80, "n_updates": 2, "weight": 2.0, "n_ode": 20}}

    def sample(self, problem, prior, rng):
        n_draws, n_ensembles, n_levels = problem.n_draws, len(problem.images), self.n_levels
        cloud = rng.particles(n_draws * self.n_particles)
        problem = problem.with_draws(n_draws * self.n_particles)
        levels = [*karras_levels(80.0, SIGMA_MIN, n_levels), 0.0]
        x = levels[0] * cloud.randn(*prior.event_shape)
        for i, (sigma, lower) in enumerate(self.steps(levels)):
            n_ode = min(1 + (n_levels - i) // 4, self.n_ode)
            for _ in range(self.n_updates if 0.05 < i / n_levels < 0.95 else 0):
                grid = [*karras_levels(sigma, SIGMA_MIN, n_ode), 0.0]
                x_0 = ancestral(prior.denoise_sigma, x, pairwise(grid))
                x = x - self.weight * self.direction(problem, x, x_0, n_ensembles)
            x = ancestral(prior.denoise_sigma, x, [(sigma, lower)])
        return x[:: self.n_particles]

    def direction(self, problem, x, x_0, n_ensembles):
        """``sum_l K_jl (x_l - mean x) / ||K||_F``, each ensemble on its own: (n, *event)."""

        def by_ensemble(rows):
            return rows.reshape(n_ensembles, self.n_particles, -1)

        def center(rows):
            return rows - rows.mean(1, keepdim=True)

        predicted, residual = center(by_ensemble(problem.A(x_0))), -by_ensemble(problem.residual(x_0))
        centered, tiny = center(by_ensemble(x)), torch.finfo(x.dtype).tiny
        if predicted.shape[2] < self.n_particles:  # K is the larger matrix, and not formed
            size = torch.linalg.matrix_norm(residual @ torch.linalg.qr(predicted, mode="r").R.mT, keepdim=True)
            return (residual @ (predicted.mT @ centered) / size.clamp(min=tiny)).view_as(x)
        K = residual @ predicted.mT
        return (K @ centered / torch.linalg.matrix_norm(K, keepdim=True).clamp(min=tiny)).view_as(x)
