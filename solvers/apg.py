import math

from benchmark_utils.guidance import choose_weight, guided_levels, heun
from benchmark_utils.priors.base import expand_like
from benchmark_utils.sampler import PosteriorSampler


class Solver(PosteriorSampler):
    """APG: "Eliminating Oversaturation and Artifacts of High Guidance Scales in Diffusion Models",
    Sadat, Hilliges and Weber, ICLR 2025, https://arxiv.org/abs/2410.02416

    CFG whose update ``Delta = D_c - D_u`` (algorithm 1)
      gets momentum       Delta <- Delta + beta Delta_before,   beta < 0 weakens what repeats
      is shrunk           to a norm of ``radius`` at most
      loses its part along D_c, of which ``eta`` is left:   D = D_c + (w - 1) (Delta_orth + eta Delta_par)
    Norms and inner products are over each signal. Delta_before is that of the evaluation before, of which Heun's
    method has two at each step. The radius is for values of the model's size and depends on it: none by default.
    """

    name = "apg"
    parameters = {"weight": [None], "n_steps": [None], "beta": [None], "radius": [None], "eta": [None]}
    test_config = {"n_steps": 3, "dataset": {"name": "labelled_mixture"}}
    needs = {"labelled"}
    choices = {"weight": ("problem", float)}
    ranges = {"beta": (-1, 1)}
    steps_are_levels = False
    # chosen here; the radius depends on the model
    PRESETS = {("*", "*"): {"weight": "problem", "n_steps": 32, "beta": -0.5, "radius": math.inf, "eta": 0.0}}

    def sample(self, problem, prior, rng):
        weight = choose_weight(self.weight, problem)
        momentum = 0.0

        def denoise(x, sigma):
            nonlocal momentum
            conditional = prior.denoise_sigma(x, sigma, problem.label)
            momentum = conditional - prior.denoise_sigma(x, sigma) + self.beta * momentum
            size = momentum.flatten(1).norm(dim=1)
            update = momentum * expand_like((self.radius / size).clamp(max=1), x)
            squared = conditional.flatten(1).square().sum(1)
            along = (update * conditional).flatten(1).sum(1) / squared
            parallel = expand_like(along, x) * conditional
            return conditional + (weight - 1) * (update + (self.eta - 1) * parallel)

        levels = guided_levels(prior.schedule, self.n_steps)
        return heun(denoise, levels[0] * rng.randn(*prior.event_shape), self.steps(levels))
