"""``faces64``: the embedded face prior, a small network trained by ``scripts/train/faces64.py``."""

import torch

from benchmark_utils.files.paths import asset_tensors
from benchmark_utils.priors.base import LoadedPrior, PriorSpec, frozen, rows_of_level
from benchmark_utils.schedule import NoiseSchedule


class Faces64(LoadedPrior):
    """EDM-preconditioned U-Net on 64-px faces, used through the DDPM table at its exact sigma_t."""

    event_shape = signal_shape = (3, 64, 64)
    dtype = torch.float32

    def __init__(self, device):
        from benchmark_utils.priors.edm_unet import EDMUNet  # imports diffusers: seconds, so only when loaded

        self.device = torch.device(device)
        self.schedule = NoiseSchedule.linear()
        network = EDMUNet()
        network.load_state_dict(asset_tensors("faces64/faces64.safetensors"))
        self.network = frozen(network, self.device)
        self.networks = [self.network]

    def denoise_sigma(self, x, sigma):
        with self.autocast():
            return self.network(x, rows_of_level(sigma, x).to(x))


PRIORS = {"faces64": lambda: PriorSpec(family="ffhq", signal_shape=Faces64.signal_shape, load=Faces64)}
