import numpy as np
from deepinv.sampling import DDRM

from benchmark_utils.deepinv_adapter import UnitRangeDenoiser, sample_one_by_one
from benchmark_utils.sampler import PosteriorSampler


class Solver(PosteriorSampler):
    """DDRM as deepinv ships it, ``deepinv.sampling.DDRM``, for comparison with ``ddrm``.
    Method: "Denoising Diffusion Restoration Models",
    Kawar, Elad, Ermon and Song, NeurIPS 2022, https://arxiv.org/abs/2201.11793
    Library: "DeepInverse", Tachella et al., https://deepinv.github.io

    It departs from the paper: all noise is divided by sqrt(2); the levels are ``n_steps`` equally spaced ones from
    sigma = 1 to 0 on images in [0, 1], so that unseen coordinates start near 0, which is black, with little noise, and
    large hidden regions stay dark; a coordinate whose singular value is below the noise level counts as unseen.
    Here it runs on images in [0, 1], one image and draw at a time.
    """

    name = "deepinv_ddrm"
    parameters = {"n_steps": [None], "eta": [None], "eta_b": [None]}
    test_config = {"n_steps": 3}
    needs = {"svd", "gaussian", "image"}
    PRESETS = {("*", "*"): {"n_steps": 100, "eta": 0.85, "eta_b": 1.0}}  # the class's defaults

    def sample(self, problem, prior, noise):
        sigmas = np.linspace(1, 0, self.n_steps)
        model = DDRM(UnitRangeDenoiser(prior), sigmas, eta=self.eta, etab=self.eta_b)
        return sample_one_by_one(model, problem, noise, self.progress)
