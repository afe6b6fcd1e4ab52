from benchmark_utils.guidance import choose_weight, guided_levels, heun
from benchmark_utils.sampler import PosteriorSampler


class Solver(PosteriorSampler):
    """Reference: the ODE with the denoiser of the tilted law, by Heun's method
    (Karras et al. 2022, https://arxiv.org/abs/2206.00364): what a perfect guidance gets in as many steps as CFG.

    With ``g(x_0) = p(label | x_0)^(w - 1)`` that denoiser is ``E[x_0 g(x_0) | x, label] / E[g(x_0) | x, label]``: CFG's
    plus ``sigma^2 (w - 1)`` times the gradient of the Renyi divergence of order w between the denoising posteriors with
    and without the label. No pair of denoisers gives it; where labels depend on a plane of a mixture it is a sum over
    12 Gauss-Hermite nodes an axis, of whose means 64 nodes differ by at most .002 at w = 3 and .014 at w = 5 (40 noisy
    draws at each of eight levels). It calls no denoiser of the prior, so that its cost is not counted.
    """

    name = "tilted_ideal"
    parameters = {"weight": [None], "n_steps": [None]}
    test_config = {"n_steps": 3, "dataset": {"name": "labelled_mixture"}}
    needs = {"labelled", "tilted_denoiser"}
    choices = {"weight": ("problem", float)}
    steps_are_levels = False
    PRESETS = {("*", "*"): {"weight": "problem", "n_steps": 32}}

    def sample(self, problem, prior, rng):
        weight = choose_weight(self.weight, problem)

        def denoise(x, sigma):
            return prior.tilted_denoise_sigma(x, sigma, problem.label, weight)

        levels = guided_levels(prior.schedule, self.n_steps)
        return heun(denoise, levels[0] * rng.randn(*prior.event_shape), self.steps(levels))
