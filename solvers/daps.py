from itertools import pairwise

import torch

from benchmark_utils.sampler import PosteriorSampler
from benchmark_utils.schedule import karras_levels


def chain(n_inner, step_size, step_decay, momentum):
    return {"n_inner": n_inner, "step_size": step_size, "step_decay": step_decay, "momentum": momentum}


PIXEL = {
    "n_levels": 200,
    "sigma_max": 100.0,
    "sigma_min": 0.1,
    "n_ode": 5,
    "ode_sigma_min": 0.01,
    "inner": "mcmc",
    "tau": 0.01,
    "data_factor": 0.5,
    "clamp": float("inf"),
} | chain(100, 5e-5, 0.01, 0.0)
LATENT = {"n_levels": 50, "sigma_max": 10.0, "n_ode": 2, "ode_sigma_min": 0.001, "data_factor": 1.0, "clamp": 1.0}
AUDIO = {"sigma_max": 20.0, "sigma_min": 1e-3, "ode_sigma_min": 1e-4, "tau": 0.005}


class Solver(PosteriorSampler):
    """DAPS: "Improving Diffusion Inverse Problem Solving with Decoupled Noise Annealing",
    Zhang, Chu, Berner, Meng, Anandkumar and Song, CVPR 2025, https://arxiv.org/abs/2407.01521

    Algorithm 1 (variance exploding). At each level sigma of a poly-7 grid:
      x_hat: ``n_ode`` Euler steps of the probability-flow ODE on a poly-7 grid from sigma to ``ode_sigma_min``
      x_0 ~ exp(-c ||y - A x_0||^2 / tau^2 - ||x_0 - x_hat||^2 / (2 sigma^2)), the inner step
      x = x_0 + (next sigma) eps
    ``inner="mcmc"`` makes ``n_inner`` Langevin steps (eq. 9), or underdamped ones for ``momentum`` > 0 (the code calls
    them HMC), with a step size that falls linearly to ``step_decay`` times itself over the levels; ``"exact"`` draws
    x_0 by the SVD, the limit of many steps. ``data_factor`` is c: 1/2 in the paper and its first code, 1 in the later
    code. ``tau`` is 0.01 in the published settings whatever the noise; ``"noise"`` takes the noise's standard
    deviation. ``clamp`` bounds each value of the gradient of ||y - A x||^2, as the code does for latents.
    """

    name = "daps"
    parameters = {name: [None] for name in PIXEL}
    test_config = {"n_levels": 3, "n_ode": 2, "n_inner": 2}
    needs = {"differentiable", "gaussian"}
    choices = {"inner": ("mcmc", "exact"), "tau": ("noise", float)}
    ranges = {"momentum": (0, 1)}
    # the released code's settings per task; step sizes of sr16, half and jpeg2 (not there) from MGDM's code
    PRESETS = {
        ("*", "*"): PIXEL,
        **{("*", group): {"step_size": 1e-4} for group in ("sr*", "random*", "gaussian_blur*")},
        ("*", "hdr"): {"step_size": 2e-5},
        ("*", "nonlinear_blur"): {"step_size": 1e-5, "n_inner": 200},
        # latent DAPS of the released code, whose c is 1; of the tasks it lacks, sr16 as sr4 and the others as box
        ("ffhq_latent", "*"): LATENT | chain(15, 9.02e-6, 0.13, 0.74),
        ("ffhq_latent", "sr*"): chain(24, 1.35e-4, 0.023, 0.86),
        ("ffhq_latent", "random*"): chain(38, 8.4e-6, 0.013, 0.92),
        ("ffhq_latent", "gaussian_blur*"): chain(35, 2.7e-6, 0.95, 0.95),
        ("ffhq_latent", "motion_blur"): chain(49, 2.4e-5, 0.041, 0.45),
        ("ffhq_latent", "phase_retrieval"): chain(65, 2.1e-5, 0.12, 0.41),
        ("ffhq_latent", "nonlinear_blur"): chain(80, 3.71e-6, 0.024, 0.91),
        ("ffhq_latent", "hdr"): chain(38, 4.52e-6, 0.015, 0.58),
        ("audio", "*"): AUDIO | chain(50, 1e-5, 1e-3, 0.0),  # the MGDM paper's released code
        # absolute step sizes are made for images: the exact inner draw needs none
        ("mixture", "*"): {"inner": "exact", "tau": "noise"},
        **{("mixture", task): {"inner": "mcmc"} | chain(50, 5e-3, 1.0, 0.0) for task in ("modulus", "clip")},  # ours
        ("gaussian", "*"): {"inner": "exact", "tau": "noise"},
        ("ecg", "*"): {"inner": "exact", "tau": "noise", "n_levels": 50},
    }

    def sample(self, problem, prior, rng):
        if self.inner == "exact" and "svd" not in problem.capabilities:
            raise ValueError(f"daps: inner='exact' needs an SVD, which {problem.task} has not; use inner='mcmc'")
        levels = [*karras_levels(self.sigma_max, self.sigma_min, self.n_levels), 0.0]
        x = self.sigma_max * rng.randn(*prior.event_shape)
        for k in self.progress(range(self.n_levels)):
            x_hat = self.solve_ode(prior, x, levels[k])
            decay = 1 + (self.step_decay - 1) * k / self.n_levels
            x_0 = self.sample_x_0(problem, rng, x_hat, levels[k], self.step_size * decay)
            x = x_0 + levels[k + 1] * rng.randn(*prior.event_shape)
        return x

    def solve_ode(self, prior, x, sigma):
        levels = karras_levels(sigma, self.ode_sigma_min, self.n_ode + 1)
        for s, s_next in pairwise(levels):
            x = x + (s_next - s) / s * (x - prior.denoise_sigma(x, s))
        return x

    def sample_x_0(self, problem, rng, x_hat, r, step):
        """The inner step at coupling ``r`` around x_hat."""
        tau = problem.noise.std if self.tau == "noise" else self.tau
        if self.inner == "exact":
            return problem.draw_conditional(x_hat, r, tau / (2 * self.data_factor) ** 0.5, rng)
        x, v = x_hat, rng.randn_like(x_hat)
        for _ in range(self.n_inner):
            with torch.enable_grad():
                x_0 = x.detach().requires_grad_()
                (gradient,) = torch.autograd.grad(problem.residual(x_0).square().sum(), x_0)
            score = (x_hat - x) / r**2 - self.data_factor * gradient.clamp(-self.clamp, self.clamp) / tau**2
            kick = (2 * (1 - self.momentum)) ** 0.5 * rng.randn_like(x)
            v = self.momentum * v + step**0.5 * score + kick
            x = x + step**0.5 * v
        return x
