import torch

from benchmark_utils.sampler import PosteriorSampler
from benchmark_utils.schedule import time_travel


class Solver(PosteriorSampler):
    """RePaint: "RePaint: Inpainting using Denoising Diffusion Probabilistic Models",
    Lugmayr, Danelljan, Romero, Yu, Timofte and Van Gool, CVPR 2022, https://arxiv.org/abs/2201.09865

    Algorithm 1: a DDPM step (eq. 8c), whose seen pixels are replaced by y noised to the same level (eq. 8a). After
    ``jump_length`` steps the state is noised back by as many and the steps are redone, ``n_resample`` times in all
    (section 4.2), except for the first ones. The paper has no noise in y. With sigma_y > 0, a seen pixel
    ``sqrt(abar_s) y`` carries noise ``sqrt(abar_s) sigma_y`` already and gets only what is missing to the level;
    below the level where that is more than the level's, nothing is replaced and the prior denoises. Steps that are
    all below it are not redone: noising them back would forget y.
    """

    name = "repaint"
    parameters = {"n_steps": [None], "jump_length": [None], "n_resample": [None]}
    test_config = {"n_steps": 4, "jump_length": 2, "n_resample": 2}
    needs = {"mask", "gaussian"}
    # released configuration for faces: 2410 denoiser evaluations
    PRESETS = {
        ("*", "*"): {"n_steps": 250, "jump_length": 10, "n_resample": 10},
        ("ecg", "*"): {"n_resample": 2},  # of the ECG follow-up of MGPS
    }

    def sample(self, problem, prior, rng):
        schedule = prior.schedule
        levels = schedule.grid(self.n_steps)
        lowest = min((t for t in levels if schedule.sigma(t) >= problem.noise.std), default=schedule.T)
        x = rng.randn(*prior.event_shape)
        for t, s in self.progress(time_travel(levels, self.jump_length, self.n_resample, lowest)):
            if s > t:
                x = schedule.sample_forward(x, t, s, rng)
            else:
                x = schedule.sample_bridge(prior.denoise(x, t), x, 0, s, t, rng)
                x = self.replace_seen(problem, schedule, rng, x, s)
        return x

    def replace_seen(self, problem, schedule, rng, x_s, s):
        missing = (1 - schedule.abar(s)) - schedule.abar(s) * problem.noise.std**2
        if missing < 0:
            return x_s
        known = schedule.abar(s) ** 0.5 * problem.y + missing**0.5 * rng.randn_like(x_s)
        return torch.where(problem.operator.mask > 0, known, x_s)
