from benchopt import BaseDataset

from benchmark_utils.files.images import ffhq_data, prepare_ffhq
from benchmark_utils.operators.inpainting import inpainting


class Dataset(BaseDataset):
    """FFHQ faces with a hidden box or right half (``mask``), or with 70 % of the pixels hidden (``"random"``)."""

    name = "ffhq_inpainting"
    parameters = {
        "mask": ["box", "half"],
        "prior": ["faces64"],
        "first": [0],
        "n_images": [4],
        "noise_std": [0.05],
    }

    test_config = {"mask": "half", "prior": "faces64_mfa", "n_images": 1}

    def prepare(self):
        prepare_ffhq(self)

    def get_data(self):
        images = range(self.first, self.first + self.n_images)
        return ffhq_data(self, lambda shape: inpainting(self.mask, shape, images), task=self.mask)
