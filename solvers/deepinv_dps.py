from functools import partial

from deepinv.sampling import DPS

from benchmark_utils.deepinv_adapter import UnitRangeDenoiser, sample_one_by_one
from benchmark_utils.sampler import PosteriorSampler


class Solver(PosteriorSampler):
    """DPS as deepinv ships it, ``deepinv.sampling.DPS``, for comparison with ``dps``.
    Method: "Diffusion Posterior Sampling for General Noisy Inverse Problems",
    Chung, Kim, McCann, Klasky and Ye, ICLR 2023, https://arxiv.org/abs/2209.14687
    Library: "DeepInverse", Tachella et al., https://deepinv.github.io

    In deepinv ``weight`` times the gradient of ``||y - A(D(x_t))||`` is part of the score, so that a DDPM step moves by
    about ``weight beta_t / 2`` times the gradient: where the paper's step is the same at all levels, this one vanishes
    at the last levels. ``weight = 200 zeta`` has the average step of ``dps``. The schedule is the continuous one (beta
    from 0.1 to 20), and the denoised image is clipped to [-1, 1] while its range is [0, 1].
    Here it runs on images in [0, 1], one image and draw at a time.
    """

    name = "deepinv_dps"
    parameters = {"n_steps": [None], "weight": [None]}
    test_config = {"n_steps": 3}
    needs = {"linear", "gaussian", "image"}
    steps_are_levels = False
    # the class's default weight, 1, leaves the samples far from y; chosen here: 100, which is zeta = 0.5
    PRESETS = {("*", "*"): {"n_steps": 1000, "weight": 100.0}}

    def sample(self, problem, prior, rng):
        model = DPS(UnitRangeDenoiser(prior), num_steps=self.n_steps, weight=self.weight, device=rng.device)
        return sample_one_by_one(partial(model, x_init=(1, *prior.event_shape)), problem, rng, self.progress)
