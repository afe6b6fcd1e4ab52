from benchopt import BaseDataset

from benchmark_utils.options import check_options
from benchmark_utils.priors import Prior
from benchmark_utils.tasks import gaussian_data


class Dataset(BaseDataset):
    """A Gaussian prior, observed in its first two coordinates by ``A = diag(1, 0.3)``: every moment is known.

    The prior has unit variances and correlation ``correlation^|i - j|``. One coordinate is seen well, one badly, the
    others not at all. Each of the ``n_problems`` has its own truth and measurement.
    """

    name = "gaussian"
    parameters = {"dim": [3], "correlation": [0.0], "noise_std": [0.2], "n_problems": [8]}

    def get_data(self):
        check_options(self)
        prior = Prior("gaussian", (("dim", self.dim), ("correlation", self.correlation)))
        return gaussian_data(prior, self.dim, self.noise_std, self.n_problems)
