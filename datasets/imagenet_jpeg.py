from benchopt import BaseDataset

from benchmark_utils.files.images import imagenet_data, prepare_imagenet
from benchmark_utils.operators.jpeg import jpeg


class Dataset(BaseDataset):
    """ImageNet images in JPEG files of quality 2; ``codec="soft"`` has the papers' soft codec for the data."""

    name = "imagenet_jpeg"
    parameters = {
        "codec": ["real"],
        "prior": ["imagenet256"],
        "first": [0],
        "n_images": [4],
        "noise_std": [0.05],
    }

    def prepare(self):
        prepare_imagenet(self)

    def get_data(self):
        return imagenet_data(self, lambda shape: jpeg(2, self.codec), task="jpeg2")
