from benchopt import BaseDataset

from benchmark_utils.files.images import imagenet_data, prepare_imagenet
from benchmark_utils.operators.phase_retrieval import PhaseRetrieval


class Dataset(BaseDataset):
    """Moduli of the Fourier transforms of ImageNet images; four samples per image, since many miss the right phase."""

    name = "imagenet_phase_retrieval"
    parameters = {
        "prior": ["imagenet256"],
        "first": [0],
        "n_images": [4],
        "noise_std": [0.05],
    }

    def prepare(self):
        prepare_imagenet(self)

    def get_data(self):
        return imagenet_data(self, lambda shape: PhaseRetrieval(), task="phase_retrieval", n_samples=4)
