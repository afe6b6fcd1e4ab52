import math

import torch

from benchmark_utils.sampler import PosteriorSampler

SETTINGS = {"n_steps": 300, "n_blocks": 3, "learning_rate": 1.5, "n_gradient": 2}
SETTINGS |= {"n_langevin": 5, "langevin_step": 1e-3}  # the released code's demonstration


class Solver(PosteriorSampler):
    """DCPS: "Divide-and-Conquer Posterior Sampling for Denoising Diffusion Priors",
    Janati, Moufad, Durmus, Moulines and Olsson, NeurIPS 2024, https://arxiv.org/abs/2403.11407

    The ``n_steps`` levels are cut into ``n_blocks`` blocks. In the block that ends at level k the state is guided by
    the potential ``g_k(x_k) = N(sqrt(abar_k) y; A x_k, sigma^2 I)``. A block starts with ``n_langevin`` tamed
    Langevin steps on ``p_t(x) g_k(mean of DDPM's move of x to k)``; then each step from t to s draws
      x_s ~ N(m, diag e^(2 rho)),   fitted to p(x_s | x_t) E[g_k(x_k) | x_s], p being DDPM's kernel
    by ``n_gradient`` steps along the gradients of the mean and of rho, each scaled to one length.
    ``learning_rate`` is that length for a 3x256x256 image, and in proportion to the square root of the number of
    values for other sizes. The potential presumes ``A(c x) = c A(x)``; the authors also use it for JPEG.
    """

    name = "dcps"
    parameters = {name: [None] for name in SETTINGS}
    test_config = {"n_steps": 6}
    needs = {"differentiable", "gaussian"}
    ranges = {"n_langevin": (0, math.inf)}
    PRESETS = {
        ("*", "*"): SETTINGS,
        # chosen here: few coordinates, each far from its target, need an absolute step ten times as long
        ("mixture", "*"): {"learning_rate": 15.0},
        ("gaussian", "*"): {"learning_rate": 15.0},
    }

    def skip(self, problem, prior, **_):
        if not {"linear", "idempotent"} & problem.capabilities:
            return True, f"{self.name} needs linear or idempotent, which {problem.task} with {prior.name} has not"
        return super().skip(problem=problem, prior=prior)

    def sample(self, problem, prior, rng):
        levels = prior.schedule.grid(self.n_steps)
        cuts = [levels[self.n_steps * block // self.n_blocks] for block in range(self.n_blocks + 1)]
        x = rng.randn(*prior.event_shape)
        for t, s in self.steps(levels[:-1]):
            k = max(cut for cut in cuts if cut <= s)
            if t in cuts:
                x = self.langevin(problem, prior, rng, x, t, k)
            x = self.sample_x_s(problem, prior, rng, x, t, s, k)
        return prior.denoise(x, 1)

    def log_potential(self, problem, prior, x_k, k):
        scaled = prior.schedule.abar(k) ** 0.5 * problem.y
        return problem.noise.log_likelihood(scaled, problem.A(x_k)).sum()

    def langevin(self, problem, prior, rng, x, t, k):
        abar = prior.schedule.abar(t)
        c_0, c_t, _ = prior.schedule.bridge(0, k, t)
        for _ in range(self.n_langevin):
            with torch.enable_grad():
                x_t = x.detach().requires_grad_()
                x_hat = prior.denoise(x_t, t)
                log_potential = self.log_potential(problem, prior, c_0 * x_hat + c_t * x_t, k)
                (gradient,) = torch.autograd.grad(log_potential, x_t)
            drift = (abar**0.5 * x_hat.detach() - x) / (1 - abar) + gradient
            tamed = drift / (1 + self.langevin_step * row_norm(drift))
            x = x + self.langevin_step * tamed + (2 * self.langevin_step) ** 0.5 * rng.randn_like(x)
        return x

    def sample_x_s(self, problem, prior, rng, x_t, t, s, k):
        c_0, c_t, std = prior.schedule.bridge(0, s, t)
        kernel_mean = c_0 * prior.denoise(x_t, t) + c_t * x_t
        mean, rho = kernel_mean, torch.full_like(kernel_mean, math.log(std))
        length = self.learning_rate * (x_t[0].numel() / (3 * 256 * 256)) ** 0.5
        for _ in range(self.n_gradient):
            with torch.enable_grad():
                mean, rho = mean.detach().requires_grad_(), rho.detach().requires_grad_()
                x_s = mean + rho.exp() * rng.randn_like(x_t)
                x_k = prior.schedule.sample_bridge(prior.denoise(x_s, s), x_s, 0, k, s, rng) if k < s else x_s
                divergence = ((mean - kernel_mean).square() + (2 * rho).exp()).sum() / (2 * std**2) - rho.sum()
                loss = divergence - self.log_potential(problem, prior, x_k, k)
                gradients = torch.autograd.grad(loss, [mean, rho])
            mean, rho = (
                value.detach() - length * g / row_norm(g).clamp(min=1e-12)
                for value, g in zip((mean, rho), gradients, strict=True)
            )
        return mean + rho.exp() * rng.randn_like(x_t)


def row_norm(x):
    """Euclidean norm of each row, shaped to multiply ``x``."""
    return x.flatten(1).norm(dim=1).view(-1, *[1] * (x.ndim - 1))
