from benchopt import BaseDataset

from benchmark_utils.files.images import ffhq_data, prepare_ffhq
from benchmark_utils.operators.jpeg import jpeg


class Dataset(BaseDataset):
    """FFHQ faces in JPEG files of quality 2; ``codec="soft"`` is the papers' differentiable codec for the data too."""

    name = "ffhq_jpeg"
    parameters = {
        "codec": ["real"],
        "prior": ["faces64"],
        "first": [0],
        "n_images": [4],
        "noise_std": [0.05],
    }

    def prepare(self):
        prepare_ffhq(self)

    def get_data(self):
        return ffhq_data(self, lambda shape: jpeg(2, self.codec), task="jpeg2")
