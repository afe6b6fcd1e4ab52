import math

from benchmark_utils.guidance import SAMPLERS, ancestral, choose_weight, guide, guided_levels, heun
from benchmark_utils.sampler import PosteriorSampler

EVERYWHERE = (0.0, math.inf)
DEFAULTS = {"weight": "problem", "n_steps": 32, "sampler": "heun", "interval": EVERYWHERE, "preset": None}


class Solver(PosteriorSampler):
    """CFG: "Classifier-Free Diffusion Guidance", Ho and Salimans, 2022, https://arxiv.org/abs/2207.12598

    At each noise level the denoiser (eq. 6) is
      D_w = D_u + w (D_c - D_u),     D_c = E[x_0 | x, label],  D_u = E[x_0 | x]
    whose w is 1 + that of the paper. ``interval`` = (lo, hi) guides for lo < sigma < hi only and takes D_c elsewhere:
    "Applying Guidance in a Limited Interval Improves Sample and Distribution Quality in Diffusion Models",
    Kynkäänniemi, Aittala, Karras, Laine, Aila and Lehtinen, NeurIPS 2024, https://arxiv.org/abs/2404.07724;
    ``preset="limited"`` has its settings. ``sampler``: Heun's on EDM's grid, or DDIM or DDPM on the prior's levels.

    It does not draw from ``p(x | label)^w p(x)^(1 - w)``: of that law, noised, ``D_w`` lacks the gradient of a Renyi
    divergence of order w between the two denoising posteriors; ``tilted_ideal`` has it.
    """

    name = "cfg"
    parameters = {name: [None] for name in DEFAULTS}
    test_config = {"n_steps": 3}
    needs = {"labelled"}
    choices = {"weight": ("problem", float), "sampler": SAMPLERS}
    steps_are_levels = False
    PRESETS = {
        ("*", "*"): DEFAULTS,
        ("text", "*"): {"sampler": "ddim", "n_steps": 200},  # CFGiG's released configurations, for audio
        ("limited", "imagenet"): {"interval": (0.16, 3.0), "weight": 3.0},  # CFGiG's released code, for EDM2
        # chosen here: the published interval leaves the mixture as sure of its label as CFG
        **{("limited", family): {"interval": (0.16, 1.0)} for family in ("mixture", "digits")},
    }

    def sample(self, problem, prior, rng):
        levels = guided_levels(prior.schedule, self.n_steps, self.sampler)
        denoise = guide(prior, problem.label, choose_weight(self.weight, problem), self.interval)
        x = levels[0] * rng.randn(*prior.event_shape)
        if self.sampler == "heun":
            return heun(denoise, x, self.steps(levels))
        return ancestral(denoise, x, self.steps(levels), rng if self.sampler == "ddpm" else None)
