"""``faces64``: the embedded face prior, a small EDM-preconditioned U-Net trained by ``scripts/train/faces64.py``."""

import torch
import torch.nn.functional as F

from benchmark_utils.files.weights import Asset
from benchmark_utils.priors.base import PriorSpec
from benchmark_utils.priors.preconditioned import EmbeddedDenoiser

WEIGHTS = Asset("faces64/faces64.safetensors")
SHAPE = (3, 64, 64)


class EDMUNet(torch.nn.Module):
    """Denoiser ``D(x; sigma) = E[x_0 | x_0 + sigma eps = x]`` for 64-px RGB images.

    A ``diffusers.UNet2DModel`` (about 2 M parameters) works on the 2x2 space-to-depth image (12 channels, 32x32)
    inside the preconditioning of Karras et al. (2022), "Elucidating the Design Space of Diffusion-Based Generative
    Models", https://arxiv.org/abs/2206.00364, eq. (7) and table 1. Noise levels outside ``[SIGMA_MIN, SIGMA_MAX]``
    keep their true scalings c_skip, c_out and c_in; only the network's noise label is clamped there. ``channels`` is
    the width of each resolution from 32x32 down; the lowest one has attention.
    """

    SIGMA_DATA = 0.5
    SIGMA_MIN, SIGMA_MAX = 0.002, 160.0
    CHANNELS = (32, 64, 96)

    def __init__(self, channels=CHANNELS):
        from diffusers import UNet2DModel  # seconds to import, so only when a network is built

        super().__init__()
        self.unet = UNet2DModel(
            sample_size=32,
            in_channels=12,
            out_channels=12,
            block_out_channels=tuple(channels),
            layers_per_block=1,
            norm_num_groups=8,
            attention_head_dim=32,
            down_block_types=("DownBlock2D",) * (len(channels) - 1) + ("AttnDownBlock2D",),
            up_block_types=("AttnUpBlock2D",) + ("UpBlock2D",) * (len(channels) - 1),
            flip_sin_to_cos=True,
            freq_shift=0,
        )

    def forward(self, x, sigma):
        """Denoise ``x`` (n, 3, 64, 64), clean values in [-1, 1], at ``sigma`` (n,)."""
        log_sigma = sigma.clamp(self.SIGMA_MIN, self.SIGMA_MAX).log()
        sigma = sigma.view(-1, 1, 1, 1)
        total_variance = sigma**2 + self.SIGMA_DATA**2
        c_skip = self.SIGMA_DATA**2 / total_variance
        c_out = sigma * self.SIGMA_DATA / total_variance.sqrt()
        # 25 ln(sigma) spreads the trained levels over about 280 units of the sinusoidal embedding
        network_input = F.pixel_unshuffle(x / total_variance.sqrt(), 2)
        residual = self.unet(network_input, 25 * log_sigma).sample
        return c_skip * x + c_out * F.pixel_shuffle(residual, 2)


def load(device):
    return EmbeddedDenoiser(EDMUNet(), WEIGHTS, SHAPE, device)


PRIORS = {"faces64": lambda: PriorSpec("ffhq", SHAPE, load, weights=WEIGHTS)}
