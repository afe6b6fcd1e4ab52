from benchopt import BaseDataset

from benchmark_utils.files.images import ffhq_data, prepare_ffhq
from benchmark_utils.operators.denoising import denoising


class Dataset(BaseDataset):
    """FFHQ faces with noise of standard deviation ``noise_std`` and nothing else.

    ``poisson_rate``, if set, replaces the Gaussian noise by photon counts (0.05 in the MGDM paper).
    """

    name = "ffhq_denoising"
    parameters = {
        "prior": ["faces64"],
        "first": [0],
        "n_images": [4],
        "noise_std": [0.3],
        "poisson_rate": [None],
    }

    def prepare(self):
        prepare_ffhq(self)

    def get_data(self):
        return ffhq_data(self, denoising, task="denoising")
