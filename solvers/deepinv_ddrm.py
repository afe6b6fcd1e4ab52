import numpy as np
from deepinv.sampling import DDRM

from benchmark_utils.deepinv_adapter import UnitRangeDenoiser, sample_one_by_one
from benchmark_utils.sampler import PosteriorSampler


class Solver(PosteriorSampler):
    """DDRM as deepinv ships it, ``deepinv.sampling.DDRM``, for comparison with ``ddrm``.
    Method: "Denoising Diffusion Restoration Models",
    Kawar, Elad, Ermon and Song, NeurIPS 2022, https://arxiv.org/abs/2201.11793
    Library: "DeepInverse", Tachella et al., https://deepinv.github.io

    It departs from the paper: all noise is divided by sqrt(2), and a coordinate whose singular value is below the noise
    level counts as unseen. Here it runs on images in [0, 1], one image and draw at a time, over the levels of ``ddrm``:
    the class's own default, 100 equally spaced ones from sigma = 1 to 0, starts unseen coordinates near 0, which is
    black, with too little noise to leave it, and returned a black hidden half (mean -1.05 on [-1, 1]).
    """

    name = "deepinv_ddrm"
    parameters = {"n_steps": [None], "eta": [None], "eta_b": [None]}
    test_config = {"n_steps": 3}
    needs = {"svd", "gaussian", "image"}
    ranges = {"eta": (0, 1), "eta_b": (0, 1)}
    PRESETS = {("*", "*"): {"n_steps": 20, "eta": 0.85, "eta_b": 1.0}}  # the paper's section 5, as in ``ddrm``

    def sample(self, problem, prior, rng):
        levels = prior.schedule.grid(self.n_steps)
        sigmas = np.array([prior.schedule.sigma(t) / 2 for t in levels])  # / 2: on [0, 1]
        model = DDRM(UnitRangeDenoiser(prior), sigmas, eta=self.eta, etab=self.eta_b)
        return sample_one_by_one(model, problem, rng, self.progress)
