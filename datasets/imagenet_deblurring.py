from benchopt import BaseDataset

from benchmark_utils.files.images import imagenet_data, prepare_imagenet
from benchmark_utils.operators.blur import blur


class Dataset(BaseDataset):
    """Blurred ImageNet images; ``blur`` may also be ``"gaussian_reflect"`` or ``"nonlinear"`` (needs its network).

    ``poisson_rate``, if set, replaces the Gaussian noise by photon counts (0.05 in the MGDM paper).
    """

    name = "imagenet_deblurring"
    parameters = {
        "blur": ["gaussian", "motion"],
        "prior": ["imagenet256"],
        "first": [0],
        "n_images": [4],
        "noise_std": [0.05],
        "poisson_rate": [None],
    }

    def prepare(self):
        prepare_imagenet(self)

    def get_data(self):
        images = range(self.first, self.first + self.n_images)
        task = f"{self.blur.removesuffix('_reflect')}_blur"
        return imagenet_data(self, lambda shape: blur(self.blur, shape, images), task=task)
