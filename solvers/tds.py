import torch

from benchmark_utils.particles import Particles
from benchmark_utils.priors.base import expand_like
from benchmark_utils.sampler import PosteriorSampler


class Solver(PosteriorSampler):
    """TDS: "Practical and Asymptotically Exact Conditional Sampling in Diffusion Models",
    Wu, Trippe, Naesseth, Blei and Cunningham, NeurIPS 2023, https://arxiv.org/abs/2306.17775

    Algorithm 1. The twist ``g_t(x_t) = N(y; A D(x_t), V_t)`` guides each particle, replacing the denoised image by
    ``D + (1 - abar_t) / sqrt(abar_t) grad log g_t``, and the weights
    ``p(x_s | x_t) g_s(x_s) / (q(x_s | x_t) g_t(x_t))`` correct for it; the last twist is the likelihood, so the
    particles become exact as their number grows. ``twist="covariance"`` has ``V_t = sigma^2 I + (1 - abar_t) A A^T``,
    with I for A A^T where A has no SVD; ``"likelihood"`` is the paper's generic ``p(y | D(x_t))``, V_t = sigma^2 I.
    DDPM's last move has no noise, which leaves the ratio undefined: no move here has less than that from level 2
    to 1. ``n_particles`` is per image (or the number of samples asked for, if larger).
    Where x_0 is more uncertain than the V_t of ``"covariance"`` says (a prior with variances far above 1, at high
    noise), few steps overshoot y ever further; so the guidance is shortened to where its twist is largest along it.
    The weights hold for any guidance, and for N(0, I) it is never too long.
    """

    name = "tds"
    parameters = {"n_particles": [None], "n_steps": [None], "twist": [None]}
    test_config = {"n_particles": 4, "n_steps": 3}
    needs = {"differentiable", "gaussian"}
    choices = {"twist": ("covariance", "likelihood")}
    PRESETS = {
        ("*", "*"): {"n_particles": 16, "n_steps": 100, "twist": "covariance"},  # the paper's ImageNet experiment
        ("mixture", "*"): {"n_particles": 1000},
    }

    def sample(self, problem, prior, rng):
        schedule, n_draws = prior.schedule, problem.n_draws
        cloud = rng.particles(max(self.n_particles, n_draws))
        n_images = len(problem.images) // n_draws
        filters = Particles(cloud, n_images)
        problem = problem.with_draws(filters.n_particles)
        levels = schedule.grid(self.n_steps)
        least_std = schedule.bridge(0, 1, 2)[2]
        x = cloud.randn(*prior.event_shape)
        x_hat, log_twist, guidance = self.evaluate_twist(problem, prior, x, levels[0])
        log_weights = log_twist
        for t, s in self.steps(levels):
            rows = filters.systematic(log_weights)
            c_0, c_t, std = schedule.bridge(0, s, t)
            std = max(std, least_std)
            shift = c_0 * guidance[rows]
            z = cloud.randn(*prior.event_shape)
            x = c_0 * x_hat[rows] + c_t * x[rows] + shift + std * z
            # log p(x_s | x_t) - log q(x_s | x_t), two Gaussians ``shift`` apart
            log_weights = -(shift / std * (shift / (2 * std) + z)).double().flatten(1).sum(1) - log_twist[rows]
            if s > 0:
                x_hat, log_twist, guidance = self.evaluate_twist(problem, prior, x, s)
            else:
                log_twist = problem.log_likelihood(x).double()
            log_weights = log_weights + log_twist
        rows = filters.systematic(log_weights, n_draws)
        self.ess = filters.ess_per_image(n_images)
        return x[rows]

    def evaluate_twist(self, problem, prior, x, t):
        """Denoised image, log-twist (n,) in float64 and the guidance of the denoised image at level t."""
        abar, with_svd = prior.schedule.abar(t), "svd" in problem.capabilities
        squared_gain = problem.operator.mask**2 if with_svd else 1.0
        variance = problem.noise.std**2 + (1 - abar) * squared_gain

        def residual(x_0):
            return problem.operator.U_adjoint(problem.residual(x_0)) if with_svd else problem.residual(x_0)

        def inner(a, b):
            return (a * b / variance).double().flatten(1).sum(1)

        with torch.enable_grad():
            x_t = x.detach().requires_grad_()
            x_hat = prior.denoise(x_t, t)
            if self.twist == "likelihood":
                log_twist = problem.log_likelihood(x_hat).double()
            else:
                before = residual(x_hat)
                log_twist = -inner(before, before) / 2
            (gradient,) = torch.autograd.grad(log_twist.sum(), x_t)
        guidance = (1 - abar) / abar**0.5 * gradient
        if self.twist == "covariance":
            step = before - residual(x_hat + guidance)
            length = inner(step, before) / inner(step, step).clamp(min=torch.finfo(torch.float64).tiny)
            guidance = guidance * expand_like(length.clamp(0, 1), guidance)
        return x_hat.detach(), log_twist.detach(), guidance.detach()
