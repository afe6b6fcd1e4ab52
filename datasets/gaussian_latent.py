import torch
from benchopt import BaseDataset

from benchmark_utils.noise import GaussianNoise
from benchmark_utils.operators.dense_svd import DenseSVD
from benchmark_utils.priors import Prior
from benchmark_utils.rng import stream_seed


class Dataset(BaseDataset):
    """A Gaussian latent behind a linear decoder: latent methods with every moment of the signal known.

    ``x = W z``, ``z ~ N(0, I)``; the first two of the ``signal_dim`` coordinates are observed by ``diag(1, 0.3)``.
    Each of the ``n_problems`` has its own truth and measurement.
    """

    name = "gaussian_latent"
    parameters = {"dim": [3], "signal_dim": [5], "noise_std": [0.2], "n_problems": [8]}

    def get_data(self):
        if self.signal_dim < 2:
            raise ValueError(f"two coordinates are observed, so signal_dim must be at least 2, got {self.signal_dim}")
        prior = Prior("gaussian_latent", (("dim", self.dim), ("signal_dim", self.signal_dim)))
        problems = tuple(range(self.n_problems))
        identity = torch.eye(self.signal_dim, dtype=torch.float64)
        return {
            "x_true": torch.cat([prior.load("cpu").sample(1, self.generator(number)) for number in problems]),
            "operator": DenseSVD(identity[:2, :2], torch.tensor([1.0, 0.3], dtype=torch.float64), identity),
            "noise": GaussianNoise(self.noise_std),
            "task": "gaussian",
            "prior": prior,
            "metrics": ("mean_error", "mean_error_floor", "variance_ratio", "data_misfit"),
            "images": problems,
            "files": tuple(f"problem {number}" for number in problems),
            "n_samples": 1000,
        }

    def generator(self, number):
        return torch.Generator().manual_seed(stream_seed(0, "truth", "gaussian", self.dim, number))
