from benchopt import BaseDataset

from benchmark_utils.files.images import imagenet_data, prepare_imagenet
from benchmark_utils.operators.super_resolution import super_resolution


class Dataset(BaseDataset):
    """ImageNet images averaged over 4x4 or 16x16 blocks; ``kind`` may also be ``"bicubic"``.

    ``poisson_rate``, if set, replaces the Gaussian noise by photon counts (0.05 in the MGDM paper).
    """

    name = "imagenet_super_resolution"
    parameters = {
        "factor": [4, 16],
        "kind": ["average"],
        "prior": ["imagenet256"],
        "first": [0],
        "n_images": [4],
        "noise_std": [0.05],
        "poisson_rate": [None],
    }

    def prepare(self):
        prepare_imagenet(self)

    def get_data(self):
        return imagenet_data(
            self, lambda shape: super_resolution(self.kind, self.factor, shape), task=f"sr{self.factor}"
        )
