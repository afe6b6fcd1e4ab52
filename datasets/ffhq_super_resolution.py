from benchopt import BaseDataset

from benchmark_utils.files.images import ffhq_data, prepare_ffhq
from benchmark_utils.operators.super_resolution import super_resolution


class Dataset(BaseDataset):
    """FFHQ faces averaged over 4x4 or 16x16 blocks; ``kind`` may also be ``"bicubic"``.

    ``poisson_rate``, if set, replaces the Gaussian noise by photon counts (0.05 in the MGDM paper).
    """

    name = "ffhq_super_resolution"
    parameters = {
        "factor": [4, 16],
        "kind": ["average"],
        "prior": ["faces64"],
        "first": [0],
        "n_images": [4],
        "noise_std": [0.05],
        "poisson_rate": [None],
    }

    def prepare(self):
        prepare_ffhq(self)

    def get_data(self):
        return ffhq_data(self, lambda shape: super_resolution(self.kind, self.factor, shape), task=f"sr{self.factor}")
