from benchopt import BaseDataset

from benchmark_utils.files.images import ffhq_data, prepare_ffhq
from benchmark_utils.operators.colorization import Colorization


class Dataset(BaseDataset):
    """FFHQ faces of which only the mean over the channels is seen."""

    name = "ffhq_colorization"
    parameters = {
        "prior": ["faces64"],
        "first": [0],
        "n_images": [4],
        "noise_std": [0.05],
    }

    def prepare(self):
        prepare_ffhq(self)

    def get_data(self):
        return ffhq_data(self, Colorization, task="colorization")
