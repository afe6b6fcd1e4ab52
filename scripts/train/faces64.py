"""Train the embedded prior ``faces64`` and write ``<out>/faces64.safetensors`` in half precision.

    python -m scripts.train.faces64 --train faces64_train.parquet --heldout faces64_heldout.parquet

Both parquet files have the columns ``name`` and ``webp`` (64-px WebP bytes). They are not shipped: UTKFace's aligned
200-px crops, without the grey ones, resized to 64 (Lanczos). The denoising errors are also reported for the shipped
FFHQ thumbnails, which are never trained on.
The loss is the EDM denoising loss (Karras et al. 2022, https://arxiv.org/abs/2206.00364, eq. 8)
with ln sigma ~ N(-0.8, 1.2^2), or ``--log-sigma``, for 95 % of the images and log-uniform over
the network's whole range for the rest, so that the start of sampling is seen too.
The training images are augmented towards the sharper and more colourful test faces, see :func:`augment`.
``scripts/train/loop.py`` says how the run is timed, resumed and cooled down.
"""

import argparse
import io
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load_file
from torch.utils.flop_counter import FlopCounterMode
from torchvision.utils import save_image

from benchmark_utils.files.images import THUMBNAILS
from benchmark_utils.priors.faces64 import EDMUNet
from benchmark_utils.schedule import karras_levels
from scripts.train.loop import add_arguments, denoising_loss, draw_sigmas, print_errors, train

EVALUATED_SIGMAS = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
SHARPENING, CHROMA = (0.1, 1.8), (0.8, 1.6)  # the ranges of the augmentation strengths


def read_pixels(files):
    """RGB images of one size as uint8, (n, 3, height, width)."""
    pixels = np.stack([np.asarray(Image.open(file).convert("RGB")) for file in files])
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous()


def load_images(path):
    """All images of a parquet file as uint8, (n, 3, 64, 64)."""
    return read_pixels(io.BytesIO(webp) for webp in pd.read_parquet(path)["webp"])


def to_range(images, device):
    return images.to(device).float() / 127.5 - 1


def draw_uniform(n, low, high, generator):
    """``n`` draws as (n, 1, 1, 1), to scale a batch of images."""
    return low + (high - low) * torch.rand(n, 1, 1, 1, generator=generator, device=generator.device)


def warp(x, generator):
    """Rotated by up to 8 degrees, scaled by 0.9 to 1.1 and shifted by up to 3 pixels, reflected at the border."""
    n = len(x)
    angle = draw_uniform(n, -8, 8, generator).flatten().deg2rad()
    scale = draw_uniform(n, 0.9, 1.1, generator).flatten()
    shifts = draw_uniform(2 * n, -6 / 64, 6 / 64, generator).view(n, 2)  # the grid is 2 wide: 3 pixels are 6 / 64
    cos, sin = angle.cos() / scale, angle.sin() / scale
    rows = torch.stack([cos, -sin, shifts[:, 0], sin, cos, shifts[:, 1]], 1)
    grid = F.affine_grid(rows.view(n, 2, 3), x.shape, align_corners=False)
    return F.grid_sample(x, grid, mode="bilinear", padding_mode="reflection", align_corners=False)


def augment(images, generator):
    """A uint8 batch as floats in [-1, 1], drawn towards the look of the FFHQ thumbnails.

    Each image is mirrored and warped with probability 1/2 each, then sharpened (unsharp masking with a
    3x3 binomial blur), its chroma scaled around the mean of the channels and tinted, its contrast and
    brightness changed.
    """
    n, device = len(images), images.device
    x = to_range(images, device)
    x = torch.where(draw_uniform(n, 0, 1, generator) < 0.5, x.flip(-1), x)
    chosen = draw_uniform(n, 0, 1, generator).flatten() < 0.5
    x[chosen] = warp(x[chosen], generator)
    binomial = torch.tensor([1.0, 2.0, 1.0], device=device)
    kernel = (binomial.outer(binomial) / 16).expand(3, 1, 3, 3)
    blurred = F.conv2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), kernel, groups=3)
    x = x + draw_uniform(n, *SHARPENING, generator) * (x - blurred)
    grey = x.mean(1, keepdim=True)
    tint = 0.04 * torch.randn(n, 3, 1, 1, generator=generator, device=device)
    x = grey + draw_uniform(n, *CHROMA, generator) * (x - grey) + tint
    x = draw_uniform(n, 0.9, 1.15, generator) * x + draw_uniform(n, -0.08, 0.08, generator)
    return x.clamp(-1, 1)


@torch.no_grad()
def unconditional_samples(denoiser, n, device, n_steps=40):
    """Euler's method on the probability-flow ODE with the rho = 7 grid of Karras et al., eq. (5)."""
    sigmas = karras_levels(80, 0.01, n_steps)
    generator = torch.Generator().manual_seed(0)
    x = (sigmas[0] * torch.randn(n, 3, 64, 64, generator=generator)).to(device)
    for sigma, sigma_next in pairwise([*sigmas, 0.0]):
        x_hat = denoiser(x, torch.full((n,), sigma, device=device))
        x = x_hat + sigma_next / sigma * (x - x_hat)
    return x


def describe(network):
    """Parameters and floating-point operations of a forward pass, two for each multiply-add."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(torch.zeros(1, 3, 64, 64), torch.ones(1))
    n_parameters = sum(parameter.numel() for parameter in network.parameters())
    return f"{n_parameters / 1e6:.2f} M parameters, {counter.get_total_flops() / 1e9:.3f} GFLOP a forward pass"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--train", type=Path, required=True)
    parser.add_argument("--heldout", type=Path, required=True)
    parser.add_argument("--channels", type=int, nargs="+", default=EDMUNet.CHANNELS)
    parser.add_argument("--log-sigma", type=float, nargs=2, default=(-0.8, 1.2), metavar=("MEAN", "STD"))
    add_arguments(parser, "outputs/train_faces64", minutes=150, cool_down=25, batch_size=32, evaluate_every=25)
    args = parser.parse_args()

    torch.manual_seed(0)
    network = EDMUNet(args.channels)
    print(describe(network), flush=True)
    if args.start:
        network.load_state_dict(load_file(args.start))
    images = load_images(args.train).to(args.device)
    heldout = to_range(load_images(args.heldout), args.device)
    faces = to_range(read_pixels(sorted(THUMBNAILS.glob("*.png"))), args.device)

    def loss_of_batch(denoiser, generator):
        index = torch.randint(len(images), (args.batch_size,), generator=generator, device=args.device)
        # before the augmentation, which takes the numbers that follow in the stream
        sigma = draw_sigmas(args.batch_size, *args.log_sigma, (EDMUNet.SIGMA_MIN, EDMUNet.SIGMA_MAX), generator)
        return denoising_loss(denoiser, augment(images[index], generator), sigma, EDMUNet.SIGMA_DATA, generator)

    def evaluate(denoiser):
        print_errors(denoiser, {"held-out": heldout}, EVALUATED_SIGMAS)
        print_errors(denoiser, {"faces": faces}, EVALUATED_SIGMAS, n_seeds=8)
        samples = unconditional_samples(denoiser, 32, args.device)
        save_image(samples.clamp(-1, 1) / 2 + 0.5, args.out / "samples.png", nrow=8)

    train(network, loss_of_batch, evaluate, "faces64", args)


if __name__ == "__main__":
    main()
