from benchopt import BaseDataset

from benchmark_utils.files.images import imagenet_data, prepare_imagenet
from benchmark_utils.operators.inpainting import inpainting


class Dataset(BaseDataset):
    """ImageNet images with a hidden box or right half (``mask``), or 70 % of the pixels hidden (``"random"``)."""

    name = "imagenet_inpainting"
    parameters = {
        "mask": ["box", "half"],
        "prior": ["imagenet256"],
        "first": [0],
        "n_images": [4],
        "noise_std": [0.05],
    }

    def prepare(self):
        prepare_imagenet(self)

    def get_data(self):
        images = range(self.first, self.first + self.n_images)
        return imagenet_data(self, lambda shape: inpainting(self.mask, shape, images), task=self.mask)
