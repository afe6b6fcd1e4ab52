from itertools import pairwise

import torch

from benchmark_utils.sampler import PosteriorSampler

SETTINGS = {
    "n_steps": 500,
    "guidance": 0.5,
    "estimate": "code",
    "every": 10,
    "n_extra": 4,
    "gamma": 40.0,
    "n_pixel": 200,
    "n_latent": 200,
    "learning_rates": (0.01, 0.005),
    "tolerance": "noise",
}
GAMMA = {"sr*": 80.0, "sr16": 90.0, "box": 80.0, "half": 60.0}
GAMMA |= {"gaussian_blur*": 60.0, "motion_blur": 80.0, "nonlinear_blur": 70.0}


class Solver(PosteriorSampler):
    """ReSample: "Solving Inverse Problems with Latent Diffusion Models via Hard Data Consistency",
    Song, Kwon, Zhang, Hu, Qu and Shen, ICLR 2024, https://arxiv.org/abs/2307.08123

    Algorithm 1. The ``n_steps`` DDIM steps (eta = 0) are three stages of equal length; in all of them the latent moves
    by ``-guidance abar_t grad_{z_t} ||y - A Dec(z_0)||``. In the second and third, at every ``every``-th step:
      z_hat: the estimate z_0 after up to ``n_extra`` further DDIM steps on a copy
      hard data consistency: argmin_x ||y - A x||^2 from Dec(z_hat), then encoded (second stage), or
        argmin_z ||y - A Dec(z)||^2 from z_hat (third stage)
      stochastic resampling (eq. 12): z ~ N((s sqrt(abar) z_hat + (1 - abar) z) / (s + 1 - abar),
        1 / (1/s + 1/(1 - abar)) I), s = gamma (1 - abar) / (1 - abar_t) (1 - abar_t / abar), abar that of z
    and at the end the optimisation of the latent once more. The optimisations are AdamW with ``learning_rates`` for at
    most ``n_pixel`` and ``n_latent`` steps; an image stops where the root mean square of y - A x, over the m observed
    values, is below ``tolerance`` (``"noise"``: the noise's standard deviation). z_0 is D(z_t) for
    ``estimate="tweedie"``, and ``(z_t - (1 - abar_t) eps) / sqrt(abar_t)`` for ``"code"``, as in the released code.
    """

    name = "resample"
    parameters = {name: [None] for name in SETTINGS}
    test_config = {"n_steps": 6, "every": 2, "n_pixel": 3, "n_latent": 3, "dataset": {"name": "gaussian_latent"}}
    needs = {"differentiable", "gaussian", "latent"}
    choices = {"estimate": ("code", "tweedie"), "tolerance": ("noise", float)}
    ranges = {"n_extra": (0, float("inf"))}
    # gamma, iterations and tolerance of the MGDM paper's comparison; the released code has 40, 2000, 500 and 1e-3
    PRESETS = {("*", "*"): SETTINGS} | {("*", task): {"gamma": gamma} for task, gamma in GAMMA.items()}

    def sample(self, problem, prior, rng):
        schedule, levels = prior.schedule, prior.schedule.grid(self.n_steps)
        z = rng.randn(*prior.event_shape)
        for i, (t, s) in enumerate(self.steps(levels)):
            left = self.n_steps - 1 - i
            z = self.guided_step(problem, prior, z, t, s)
            if left == 0 or left > self.n_steps - self.n_steps // 3 or left % self.every:
                continue
            z_hat = self.look_ahead(prior, z, levels[i + 1 : i + 2 + self.n_extra])
            if left >= self.n_steps // 3:
                z_hat = prior.encode(self.fit(problem.pixel, prior.decode(z_hat), self.n_pixel, self.learning_rates[0]))
            else:
                z_hat = self.fit(problem, z_hat, self.n_latent, self.learning_rates[1])
            z = resample(z_hat, z, schedule.abar(t), schedule.abar(s), self.gamma, rng)
        return self.fit(problem, z, self.n_latent, self.learning_rates[1])

    def guided_step(self, problem, prior, z, t, s):
        abar = prior.schedule.abar(t)
        with torch.enable_grad():
            z_t = z.requires_grad_()
            x_hat = prior.denoise(z_t, t)
            distance = problem.residual(self.estimate_clean(z_t, x_hat, abar)).flatten(1).norm(dim=1)
            (gradient,) = torch.autograd.grad(distance.sum(), z_t)
        z_s = prior.schedule.sample_bridge(x_hat.detach(), z_t.detach(), 0, s, t, None, eta=0.0)
        return z_s - self.guidance * abar * gradient

    def estimate_clean(self, z_t, x_hat, abar):
        scaled_eps = (1 - abar) ** 0.5 * (z_t - abar**0.5 * x_hat)  # (1 - abar) eps
        return x_hat if self.estimate == "tweedie" else (z_t - scaled_eps) / abar**0.5

    def look_ahead(self, prior, z, levels):
        """z_0 after DDIM steps from the first of ``levels`` to the last above 0."""
        levels = [level for level in levels if level > 0]
        for t, s in pairwise(levels):
            z = prior.schedule.sample_bridge(prior.denoise(z, t), z, 0, s, t, None, eta=0.0)
        return self.estimate_clean(z, prior.denoise(z, levels[-1]), prior.schedule.abar(levels[-1]))

    def fit(self, problem, start, n_steps, learning_rate):
        """AdamW on ``||y - A(v)||^2 / m`` from ``start``; each row stops where it is below the squared tolerance."""
        tolerance = problem.noise.std if self.tolerance == "noise" else self.tolerance
        v = start.detach().clone().requires_grad_()
        optimiser = torch.optim.AdamW([v], lr=learning_rate)
        for _ in range(n_steps):
            with torch.enable_grad():
                loss = problem.residual(v).square().flatten(1).sum(1) / problem.n_observed
                (v.grad,) = torch.autograd.grad(loss.sum(), v)
            done = (loss <= tolerance**2).view(-1, *[1] * (v.ndim - 1))
            if done.all():
                break
            before = v.detach().clone()
            optimiser.step()
            v.copy_(torch.where(done, before, v))
        return v.detach()


def resample(z_hat, z, abar_t, abar, gamma, rng):
    """Eq. 12: a draw between the consistent clean estimate ``z_hat`` and the state ``z`` of level ``abar``."""
    s = gamma * (1 - abar) / (1 - abar_t) * (1 - abar_t / abar)
    mean = (s * abar**0.5 * z_hat + (1 - abar) * z) / (s + 1 - abar)
    return mean + (1 / (1 / s + 1 / (1 - abar))) ** 0.5 * rng.randn_like(z)
