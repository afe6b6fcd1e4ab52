import torch
from benchopt import BaseDataset

from benchmark_utils.noise import GaussianNoise
from benchmark_utils.operators.dense_svd import random_svd
from benchmark_utils.options import check_options
from benchmark_utils.priors import Prior
from benchmark_utils.rng import stream_seed
from benchmark_utils.tasks import mixture_data


class Dataset(BaseDataset):
    """The mixture of 25 Gaussians with a random linear operator of MCGDiff (Cardoso et al. 2024,
    https://arxiv.org/abs/2308.07983, section 5): the posterior is known, and most methods miss some of its modes.

    ``seed`` draws the mixture's weights, the operator, its noise level ``sigma_y ~ U[0, 1] max(s)``, unless
    ``noise_std`` is set, and the truth.
    """

    name = "gaussian_mixture"
    parameters = {"dim": [8], "dim_y": [1], "seed": [0], "noise_std": [None]}

    def get_data(self):
        check_options(self)
        prior = Prior("gaussian_mixture", (("dim", self.dim), ("seed", self.seed)))
        generator = self.generator("operator")
        operator = random_svd(self.dim_y, self.dim, generator)
        noise_std = self.noise_std
        if noise_std is None:
            noise_std = float(torch.rand((), generator=generator, dtype=torch.float64) * operator.mask.max())
        return mixture_data(prior, self.seed, self.generator("truth"), operator, GaussianNoise(noise_std), "mixture")

    def generator(self, purpose):
        return torch.Generator().manual_seed(stream_seed(self.seed, purpose, "mixture", self.dim, self.dim_y))
