"""``ecg``: the embedded prior of electrocardiograms, a small 1-D U-Net trained by ``scripts/train/ecg.py``."""

import torch
import torch.nn.functional as F
from torch import nn

from benchmark_utils.files.ptbxl import LEADS, RECORD_LENGTH, WINDOW_LENGTH
from benchmark_utils.files.weights import Asset
from benchmark_utils.priors.base import PriorSpec
from benchmark_utils.priors.preconditioned import EmbeddedDenoiser, edm

WEIGHTS = Asset("ecg/ecg.safetensors")
SIGNAL_RANGE = 18.0  # the largest absolute value of the records it was trained on is 17.8


class ResidualBlock(nn.Module):
    """``x + conv(silu(scale norm(conv(silu(norm(x)))) + shift))`` with scale and shift from the noise level."""

    def __init__(self, n_in, n_out, n_level):
        super().__init__()
        self.norm1, self.norm2 = nn.GroupNorm(8, n_in), nn.GroupNorm(8, n_out)
        self.conv1, self.conv2 = convolution(n_in, n_out, 5), convolution(n_out, n_out, 5)
        self.level = nn.Linear(n_level, 2 * n_out)
        self.skip = convolution(n_in, n_out, 1) if n_in != n_out else nn.Identity()
        nn.init.zeros_(self.conv2.weight)

    def forward(self, x, level):
        scale, shift = self.level(level)[..., None, None].chunk(2, 1)
        hidden = self.norm2(self.conv1(F.silu(self.norm1(x)))) * (1 + scale) + shift
        return self.skip(x) + self.conv2(F.silu(hidden))


class Attention(nn.Module):
    """``x + attention(norm(x))`` over time, with heads of 48 channels."""

    def __init__(self, n_channels):
        super().__init__()
        self.norm = nn.GroupNorm(8, n_channels)
        self.qkv, self.out = nn.Linear(n_channels, 3 * n_channels), nn.Linear(n_channels, n_channels)
        nn.init.zeros_(self.out.weight)

    def forward(self, x):
        tokens = self.norm(x)[:, :, 0].mT  # (n, time, channels)
        query, key, value = self.qkv(tokens).unflatten(2, (3, -1, 48)).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)
        return x + self.out(mixed).mT[:, :, None]


def convolution(n_in, n_out, width):
    """Along time, of signals (n, n_in, 1, time): in two dimensions, whose channels-last layout is twice as fast."""
    return nn.Conv2d(n_in, n_out, (1, width), padding=(0, width // 2))


class ECGUNet(nn.Module):
    """Denoiser ``D(x; sigma) = E[x_0 | x_0 + sigma eps = x]`` for nine leads of any length divisible by 8.

    Two samples of each lead are one position with 18 channels; each halving of the positions has one residual block
    on the way down and one on the way up, the lowest resolution attention. The preconditioning is that of Karras et
    al. (2022), https://arxiv.org/abs/2206.00364, table 1, with sigma_data 1; outside ``[SIGMA_MIN, SIGMA_MAX]`` only
    the network's noise label is clamped.
    """

    SIGMA_DATA = 1.0
    SIGMA_MIN, SIGMA_MAX = 0.002, 160.0
    WIDTHS = (64, 128, 192)
    N_LEVEL = 256

    def __init__(self):
        super().__init__()
        widths, n_level = self.WIDTHS, self.N_LEVEL
        self.register_buffer("frequencies", torch.logspace(-1, 1, 32), persistent=False)
        self.level = nn.Sequential(nn.Linear(64, n_level), nn.SiLU(), nn.Linear(n_level, n_level), nn.SiLU())
        self.first = convolution(2 * len(LEADS), widths[0], 5)
        outputs = (widths[0], *widths[:-1])  # of the way up; the inputs of the way down
        self.down = nn.ModuleList(ResidualBlock(*pair, n_level) for pair in zip(outputs, widths, strict=True))
        self.middle = nn.ModuleList(ResidualBlock(widths[-1], widths[-1], n_level) for _ in range(3))
        self.attention = Attention(widths[-1])
        ways = zip(widths[::-1], outputs[::-1], strict=True)
        self.up = nn.ModuleList(ResidualBlock(2 * n_in, n_out, n_level) for n_in, n_out in ways)
        self.norm, self.last = nn.GroupNorm(8, widths[0]), convolution(widths[0], 2 * len(LEADS), 5)
        nn.init.zeros_(self.last.weight)

    def forward(self, x, sigma):
        """Denoise ``x`` (n, 9, time), whose clean values have variance 1, at ``sigma`` (n,)."""
        c_skip, c_out, c_in = (values.view(-1, 1, 1) for values in edm(sigma, self.SIGMA_DATA, 1)[:3])
        angles = sigma.clamp(self.SIGMA_MIN, self.SIGMA_MAX).log()[:, None] * self.frequencies
        level = self.level(torch.cat([angles.cos(), angles.sin()], 1))
        hidden = self.first((c_in * x).unflatten(2, (-1, 2)).transpose(2, 3).flatten(1, 2)[:, :, None])
        skips = []
        for position, block in enumerate(self.down):
            hidden = block(F.avg_pool2d(hidden, (1, 2)) if position else hidden, level)
            skips.append(hidden)
        hidden = self.attention(self.middle[0](hidden, level))
        hidden = self.middle[2](self.middle[1](hidden, level), level)
        for position, block in enumerate(self.up):
            hidden = F.interpolate(hidden, scale_factor=(1.0, 2.0)) if position else hidden
            hidden = block(torch.cat([hidden, skips.pop()], 1), level)
        residual = self.last(F.silu(self.norm(hidden)))[:, :, 0]
        return c_skip * x + c_out * residual.unflatten(1, (-1, 2)).transpose(2, 3).flatten(2)


def check_length(length, divisor):
    """Raise ValueError unless windows can have ``length`` samples: a multiple of ``divisor``, up to a record's."""
    if type(length) is not int or length % divisor or not 0 < length <= RECORD_LENGTH:
        raise ValueError(f"length must be a multiple of {divisor} from {divisor} to {RECORD_LENGTH}, got {length!r}")


def ecg(length=WINDOW_LENGTH):
    """Nine z-normalised leads of PTB-XL: the embedded network; ``length`` is a multiple of 8 samples at 100 Hz."""
    check_length(length, 8)
    shape = (len(LEADS), length)

    def load(device):
        return EmbeddedDenoiser(ECGUNet(), WEIGHTS, shape, device)

    return PriorSpec("ecg", shape, load, weights=WEIGHTS, signal_range=SIGNAL_RANGE)


PRIORS = {"ecg": ecg}
