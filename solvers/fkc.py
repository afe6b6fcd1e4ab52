import torch

from benchmark_utils.guidance import choose_weight, guided_levels
from benchmark_utils.particles import Particles
from benchmark_utils.sampler import PosteriorSampler

DEFAULTS = {"weight": "problem", "n_steps": 400, "n_particles": 256, "ess_threshold": 0.5}


class Solver(PosteriorSampler):
    """FKC: "Feynman-Kac Correctors in Diffusion: Annealing, Guidance, and Product of Experts",
    Skreta, Akhound-Sadegh, Ohanesian, Bondesan, Aspuru-Guzik, Doucet, Brekelmans, Tong and Neklyudov, ICML 2025,
    https://arxiv.org/abs/2503.02819

    Particles follow the guided SDE with D_w, here by DDPM's steps on EDM's grid, and carry the weights
      d log W = w (w - 1) / 2 ||D_c - D_u||^2 / sigma^4 d(sigma^2)    while sigma falls
    under which they follow ``q_sigma ∝ p_sigma(x | label)^w p_sigma(x)^(1 - w)`` down to the law that guidance aims at:
    exact as particles and steps grow. A filter resamples systematically where its effective sample size is below
    ``ess_threshold`` of it. ``n_particles`` is per image (or the number of samples asked for, if larger); draws of one
    image share ancestors.
    """

    name = "fkc"
    parameters = {name: [None] for name in DEFAULTS}
    test_config = {"n_steps": 3, "n_particles": 4}
    needs = {"labelled"}
    choices = {"weight": ("problem", float)}
    ranges = {"ess_threshold": (0, 1)}
    steps_are_levels = False
    PRESETS = {("*", "*"): DEFAULTS}  # chosen here

    def sample(self, problem, prior, rng):
        weight = choose_weight(self.weight, problem)
        n_draws, n_images = problem.n_draws, len(problem.images) // problem.n_draws
        n_particles = max(self.n_particles, n_draws)
        label, rng = problem.with_draws(n_particles).label, rng.particles(n_particles)
        filters = Particles(rng, n_images)
        levels = guided_levels(prior.schedule, self.n_steps)
        x = levels[0] * rng.randn(*prior.event_shape)
        log_weights = torch.zeros(len(label), dtype=torch.float64, device=x.device)
        for sigma, lower in self.steps(levels):
            conditional, unconditional = prior.denoise_sigma(x, sigma, label), prior.denoise_sigma(x, sigma)
            gap = (conditional - unconditional).double().flatten(1).square().sum(1)
            log_weights = log_weights + weight * (weight - 1) / 2 * gap / sigma**4 * (sigma**2 - lower**2)
            x_hat, ratio = unconditional + weight * (conditional - unconditional), (lower / sigma) ** 2
            x = x_hat + ratio * (x - x_hat) + lower * (1 - ratio) ** 0.5 * rng.randn_like(x)
            if lower > 0:
                x, log_weights = self.resample_poor(filters, x, log_weights)
        rows = filters.systematic(log_weights, n_draws)
        self.ess = filters.ess_per_image(n_images)
        return x[rows]

    def resample_poor(self, filters, x, log_weights):
        """Particles and log-weights after the filters with too few effective particles were resampled."""
        shape = filters.n_filters, filters.n_particles
        squared = log_weights.view(shape).softmax(1).square().sum(1)
        poor = (1 / (filters.n_particles * squared) < self.ess_threshold).repeat_interleave(shape[1])
        rows = torch.where(poor, filters.systematic(log_weights), torch.arange(len(x), device=x.device))
        return x[rows], torch.where(poor, 0.0, log_weights)
