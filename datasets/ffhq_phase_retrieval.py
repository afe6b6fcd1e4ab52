from benchopt import BaseDataset

from benchmark_utils.files.images import ffhq_data, prepare_ffhq
from benchmark_utils.operators.phase_retrieval import PhaseRetrieval


class Dataset(BaseDataset):
    """Moduli of the Fourier transforms of FFHQ faces; four samples per image, since many miss the right phase."""

    name = "ffhq_phase_retrieval"
    parameters = {
        "prior": ["faces64"],
        "first": [0],
        "n_images": [4],
        "noise_std": [0.05],
    }

    def prepare(self):
        prepare_ffhq(self)

    def get_data(self):
        return ffhq_data(self, lambda shape: PhaseRetrieval(), task="phase_retrieval", n_samples=4)
