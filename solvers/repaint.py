from itertools import pairwise

import torch

from benchmark_utils.sampler import PosteriorSampler


class Solver(PosteriorSampler):
    """RePaint: "RePaint: Inpainting using Denoising Diffusion Probabilistic Models",
    Lugmayr, Danelljan, Romero, Yu, Timofte and Van Gool, CVPR 2022, https://arxiv.org/abs/2201.09865

    Algorithm 1: a DDPM step (eq. 8c), whose seen pixels are replaced by y noised to the same level (eq. 8a). After
    ``jump_length`` steps the state is noised back by as many and the steps are redone, ``n_resample`` times in all
    (section 4.2), except for the first ones. The paper has no noise in y. With sigma_y > 0, a seen pixel
    ``sqrt(abar_s) y`` carries noise ``sqrt(abar_s) sigma_y`` already and gets only what is missing to the level;
    below the level where that is more than the level's, nothing is replaced and the prior denoises.
    """

    name = "repaint"
    parameters = {"n_steps": [None], "jump_length": [None], "n_resample": [None]}
    test_config = {"n_steps": 4, "jump_length": 2, "n_resample": 2}
    needs = {"mask", "gaussian"}
    # released configuration for faces: 2410 denoiser evaluations
    PRESETS = {("*", "*"): {"n_steps": 250, "jump_length": 10, "n_resample": 10}}

    def sample(self, problem, prior, rng):
        schedule = prior.schedule
        levels = schedule.grid(self.n_steps)
        x = rng.randn(*prior.event_shape)
        for first in self.progress(range(0, self.n_steps, self.jump_length)):
            stretch = levels[first : first + self.jump_length + 1]
            for repeat in range(self.n_resample if first else 1):
                if repeat:
                    x = schedule.sample_forward(x, stretch[-1], stretch[0], rng)
                for t, s in pairwise(stretch):
                    x = schedule.sample_bridge(prior.denoise(x, t), x, 0, s, t, rng)
                    x = self.replace_seen(problem, schedule, rng, x, s)
        return x

    def replace_seen(self, problem, schedule, rng, x_s, s):
        missing = (1 - schedule.abar(s)) - schedule.abar(s) * problem.noise.std**2
        if missing < 0:
            return x_s
        known = schedule.abar(s) ** 0.5 * problem.y + missing**0.5 * rng.randn_like(x_s)
        return torch.where(problem.operator.mask > 0, known, x_s)
