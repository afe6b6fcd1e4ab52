from benchopt import BaseDataset

from benchmark_utils.options import check_options
from benchmark_utils.priors import Prior
from benchmark_utils.tasks import gaussian_data


class Dataset(BaseDataset):
    """A Gaussian latent behind a linear decoder: latent methods with every moment of the signal known.

    ``x = W z``, ``z ~ N(0, I)``; the first two of the ``signal_dim`` coordinates are observed by ``diag(1, 0.3)``.
    Each of the ``n_problems`` has its own truth and measurement.
    """

    name = "gaussian_latent"
    parameters = {"dim": [3], "signal_dim": [5], "noise_std": [0.2], "n_problems": [8]}

    def get_data(self):
        check_options(self)
        prior = Prior("gaussian_latent", (("dim", self.dim), ("signal_dim", self.signal_dim)))
        return gaussian_data(prior, self.dim, self.noise_std, self.n_problems)
