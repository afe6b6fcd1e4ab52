import math

import torch

from benchmark_utils.sampler import PosteriorSampler

FFHQ = {"n_steps": 300, "alpha": (0.5, 0.5), "learning_rate": 0.03, "gradient_steps": (20, 20, 2, 2)}
FFHQ |= {"stretches": (5, 10, 20), "warm_start": 0.7}


class Solver(PosteriorSampler):
    """MGPS: "Variational Diffusion Posterior Sampling with Midpoint Guidance",
    Moufad, Janati, Bedin, Durmus, Douc, Moulines and Olsson, ICLR 2025, https://arxiv.org/abs/2410.09945

    Each step from t to s goes through a midpoint ``m = floor(alpha s)``, the only place where y enters:
      x_m ~ g_0(y | D_m(x_m)) q(x_m | D_t(x_t), x_t)   fitted by N(mu, diag e^(2 l)) with Adam, KL in closed form
      x_s ~ q(x_s | x_m, x_t)                          the bridge
    The fit starts at the bridge of the running estimate ``D_m(x_m)``. For t >= ``warm_start`` T the bridges end at
    level 1 and a second fit draws ``x_1 ~ q(x_m | x_1) g_0(y | x_1) p_1(x_1)``, with the prior's score in place of
    its log-density; then x_1 is the running estimate and ``x_s ~ q(x_s | x_1, x_t)``.

    ``alpha`` is (for s > T / 2, for s <= T / 2). ``gradient_steps`` is (first, periodic, other, last): the numbers in
    the first, every ``stretches[1]``-th, other and last steps, the first being ``stretches[0]`` and the last
    ``stretches[2]`` steps of the run.
    """

    name = "mgps"
    parameters = {name: [None] for name in FFHQ}
    test_config = {"n_steps": 6, "gradient_steps": (2, 2, 1, 1)}
    needs = {"likelihood"}
    ranges = {"alpha": (0, 1), "gradient_steps": (0, math.inf)}
    PRESETS = {  # the released code's configurations
        ("*", "*"): FFHQ,
        ("imagenet", "*"): {"gradient_steps": (20, 10, 2, 2), "stretches": (5, 20, 10)},
        ("ffhq_latent", "*"): {"alpha": (0.5, 1.0), "gradient_steps": (20, 10, 5, 2), "stretches": (5, 10, 10)},
        ("audio", "*"): {"learning_rate": 0.005},  # not published: the MGDM paper's rate for audio
        # the ECG follow-up's, whose ten long steps are the first
        ("ecg", "*"): {"n_steps": 50, "gradient_steps": (10, 5, 5, 5)}
        | {"stretches": (10, 20, 20), "warm_start": math.inf},
        ("mixture", "*"): {"learning_rate": 0.1, "stretches": (10, 10, 20), "warm_start": math.inf},
        ("gaussian", "*"): {"learning_rate": 0.1, "stretches": (10, 10, 20), "warm_start": math.inf},
    }

    def sample(self, problem, prior, rng):
        schedule = prior.schedule
        levels = schedule.grid(self.n_steps)[:-1]  # down to level 1, which is denoised at the end
        x_t = rng.randn(*prior.event_shape)
        estimate = prior.denoise(x_t, levels[0])
        for i in self.progress(range(len(levels) - 1, 0, -1)):
            t, s = levels[-i - 1], levels[-i]
            m = max(1, math.floor(self.alpha[2 * s <= schedule.T] * s))
            n_steps = self.n_gradient_steps(i)
            if t >= self.warm_start * schedule.T and m > 1:
                x_m = self.sample_x_m(problem, prior, rng, estimate, x_t, 1, m, t, n_steps)
                estimate = self.sample_x_1(problem, prior, rng, x_m, m, n_steps)
                x_t = schedule.sample_bridge(estimate, x_t, 1, s, t, rng)
            else:
                x_m = self.sample_x_m(problem, prior, rng, estimate, x_t, 0, m, t, n_steps)
                estimate = prior.denoise(x_m, m)
                x_t = schedule.sample_bridge(x_m, x_t, m, s, t, rng)
        return prior.denoise(x_t, 1)

    def n_gradient_steps(self, i):
        """Number of gradient steps of the i-th step, counted from the end."""
        n_first, period, n_last = self.stretches
        first, periodic, other, last = self.gradient_steps
        if i <= n_last:
            return last
        if i >= self.n_steps - n_first:
            return first
        return periodic if i % period == 0 else other

    def sample_x_m(self, problem, prior, rng, estimate, x_t, end, m, t, n_steps):
        """Midpoint of a bridge between level ``end`` and t; up to level 1 the likelihood is that of x_m itself."""
        c_end, c_t, std = prior.schedule.bridge(end, m, t)
        mean = c_end * prior.denoise(x_t, t) + c_t * x_t

        def loss(x_m, mu, log_std):
            divergence = ((mu - mean).square() + (2 * log_std).exp()).sum() / (2 * std**2) - log_std.sum()
            return divergence - problem.log_likelihood(prior.denoise(x_m, m) if m > 1 else x_m).sum()

        return self.fit(loss, rng, c_end * estimate + c_t * x_t, std, n_steps)

    def sample_x_1(self, problem, prior, rng, x_m, m, n_steps):
        """State at level 1 given x_m and y; no gradient passes through the denoiser."""
        abar_1 = prior.schedule.abar(1)
        ratio = prior.schedule.abar(m) / abar_1
        c_0, c_m, std = prior.schedule.bridge(0, 1, m)

        def loss(x_1, mu, log_std):
            score = (abar_1**0.5 * prior.denoise(x_1.detach(), 1) - x_1.detach()) / (1 - abar_1)
            forward = (x_m - ratio**0.5 * x_1).square().sum() / (2 * (1 - ratio))
            return forward - problem.log_likelihood(x_1).sum() - (score * x_1).sum() - log_std.sum()

        return self.fit(loss, rng, c_0 * prior.denoise(x_m, m) + c_m * x_m, std, n_steps)

    def fit(self, loss, rng, mean, std, n_steps):
        """A draw of N(mu, diag e^(2 l)) after ``n_steps`` Adam steps from (mean, std), with a fresh draw in each."""
        mu = mean.clone().requires_grad_()
        log_std = torch.full_like(mu, math.log(std)).requires_grad_()
        optimiser = torch.optim.Adam([mu, log_std], lr=self.learning_rate)
        for _ in range(n_steps):
            with torch.enable_grad():
                x = mu + log_std.exp() * rng.randn_like(mu)
                mu.grad, log_std.grad = torch.autograd.grad(loss(x, mu, log_std), [mu, log_std])
            optimiser.step()
        return (mu + log_std.exp() * rng.randn_like(mu)).detach()
