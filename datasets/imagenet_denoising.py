from benchopt import BaseDataset

from benchmark_utils.files.images import imagenet_data, prepare_imagenet
from benchmark_utils.operators.denoising import denoising


class Dataset(BaseDataset):
    """ImageNet images with noise of standard deviation ``noise_std`` and nothing else.

    ``poisson_rate``, if set, replaces the Gaussian noise by photon counts (0.05 in the MGDM paper).
    """

    name = "imagenet_denoising"
    parameters = {
        "prior": ["imagenet256"],
        "first": [0],
        "n_images": [4],
        "noise_std": [0.3],
        "poisson_rate": [None],
    }

    def prepare(self):
        prepare_imagenet(self)

    def get_data(self):
        return imagenet_data(self, denoising, task="denoising")
