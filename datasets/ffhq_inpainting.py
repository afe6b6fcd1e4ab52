from benchopt import BaseDataset

from benchmark_utils.images import ffhq_data
from benchmark_utils.operators.inpainting import inpainting


class Dataset(BaseDataset):
    """FFHQ faces with a hidden box or right half."""

    name = "ffhq_inpainting"
    parameters = {
        "mask": ["box", "half"],
        "prior": ["faces64"],
        "first": [0],
        "n_images": [4],
        "noise_std": [0.05],
    }

    def get_data(self):
        return ffhq_data(self, lambda shape: inpainting(self.mask, shape), task=self.mask)
