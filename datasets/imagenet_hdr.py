from benchopt import BaseDataset

from benchmark_utils.files.images import imagenet_data, prepare_imagenet
from benchmark_utils.operators.hdr import HDR


class Dataset(BaseDataset):
    """ImageNet images of twice the contrast that the sensor can take."""

    name = "imagenet_hdr"
    parameters = {
        "prior": ["imagenet256"],
        "first": [0],
        "n_images": [4],
        "noise_std": [0.05],
    }

    def prepare(self):
        prepare_imagenet(self)

    def get_data(self):
        return imagenet_data(self, lambda shape: HDR(), task="hdr")
