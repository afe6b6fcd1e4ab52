from benchopt import BaseDataset

from benchmark_utils.images import ffhq_data
from benchmark_utils.operators.super_resolution import BlockAverage


class Dataset(BaseDataset):
    """FFHQ faces averaged over 4x4 or 16x16 blocks."""

    name = "ffhq_super_resolution"
    parameters = {
        "factor": [4, 16],
        "prior": ["faces64"],
        "first": [0],
        "n_images": [4],
        "noise_std": [0.05],
    }

    def get_data(self):
        return ffhq_data(self, lambda shape: BlockAverage(self.factor, shape), task=f"sr{self.factor}")
