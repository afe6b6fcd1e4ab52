import torch
from benchopt import BaseDataset

from benchmark_utils.noise import GaussianNoise
from benchmark_utils.operators.dense_svd import DenseSVD
from benchmark_utils.priors import Prior
from benchmark_utils.rng import stream_seed


class Dataset(BaseDataset):
    """A Gaussian prior, observed in its first two coordinates by ``A = diag(1, 0.3)``: every moment is known.

    The prior has unit variances and correlation ``correlation^|i - j|``. One coordinate is seen well, one badly, the
    others not at all. Each of the ``n_problems`` has its own truth and measurement.
    """

    name = "gaussian"
    parameters = {"dim": [3], "correlation": [0.0], "noise_std": [0.2], "n_problems": [8]}

    def get_data(self):
        if self.dim < 2:
            raise ValueError(f"two coordinates are observed, so dim must be at least 2, got {self.dim}")
        prior = Prior("gaussian", (("dim", self.dim), ("correlation", self.correlation)))
        problems = tuple(range(self.n_problems))
        singular_values = torch.tensor([1.0, 0.3], dtype=torch.float64)
        identity = torch.eye(self.dim, dtype=torch.float64)
        return {
            "x_true": torch.cat([prior.load("cpu").sample(1, self.generator(number)) for number in problems]),
            "operator": DenseSVD(identity[:2, :2], singular_values, identity),
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
