from benchopt import BaseDataset

from benchmark_utils.files.images import imagenet_data, prepare_imagenet
from benchmark_utils.operators.colorization import Colorization


class Dataset(BaseDataset):
    """ImageNet images of which only the mean over the channels is seen."""

    name = "imagenet_colorization"
    parameters = {
        "prior": ["imagenet256"],
        "first": [0],
        "n_images": [4],
        "noise_std": [0.05],
    }

    def prepare(self):
        prepare_imagenet(self)

    def get_data(self):
        return imagenet_data(self, Colorization, task="colorization")
