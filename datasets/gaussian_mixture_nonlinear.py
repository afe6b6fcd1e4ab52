import torch
from benchopt import BaseDataset

from benchmark_utils.noise import GaussianNoise
from benchmark_utils.operators.elementwise import elementwise
from benchmark_utils.options import check_options
from benchmark_utils.priors import Prior
from benchmark_utils.rng import stream_seed
from benchmark_utils.tasks import mixture_data


class Dataset(BaseDataset):
    """The mixture of 25 Gaussians seen through ``|x|`` or ``clip(x, -4, 4)`` of each coordinate, with noise.

    Several modes explain y equally well, and the posterior weighs them by the prior: it is known in every dimension.
    ``seed`` draws the mixture's weights and the truth.
    """

    name = "gaussian_mixture_nonlinear"
    parameters = {"operator": ["modulus", "clip"], "dim": [2], "seed": [0], "noise_std": [0.5]}

    def get_data(self):
        check_options(self)
        prior = Prior("gaussian_mixture", (("dim", self.dim), ("seed", self.seed)))
        generator = torch.Generator().manual_seed(stream_seed(self.seed, "truth", self.operator, self.dim))
        return mixture_data(
            prior, self.seed, generator, elementwise(self.operator), GaussianNoise(self.noise_std), self.operator
        )
