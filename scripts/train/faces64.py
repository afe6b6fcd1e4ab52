"""Train the embedded prior ``faces64`` and write ``<out>/faces64.safetensors`` in half precision.

    python -m scripts.train.faces64 --train faces64_train.parquet --heldout faces64_heldout.parquet

Both parquet files have the columns ``name`` and ``webp`` (64-px WebP bytes); the denoising errors are also reported
for the shipped FFHQ thumbnails, which are never trained on. ``--start`` goes on from a file of weights.
The loss is the EDM denoising loss (Karras et al. 2022, https://arxiv.org/abs/2206.00364, eq. 8)
with ln sigma ~ N(-0.8, 1.2^2) for 95 % of the images and log-uniform over
the network's whole range for the rest, so that the start of sampling is seen too.
The training images are augmented towards the sharper and more colourful test faces, see :func:`augment`.

The learning rate is constant after a warm-up and falls as a cosine to 0 over the last ``--cool-down`` of
``--minutes``. The clock is the wall clock of this process, summed over resumes.
The run continues from ``<out>/checkpoint.pt`` if that exists. ``<out>/checkpoint_stable.pt`` is the
state before the fall: copied over ``checkpoint.pt``, it starts a longer run with a larger ``--minutes``.
The exponential moving average of the weights is what gets evaluated and exported.
"""

import argparse
import contextlib
import copy
import functools
import io
import math
import os
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load_file, save_file
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from torchvision.utils import save_image

from benchmark_utils.files.images import THUMBNAILS
from benchmark_utils.files.paths import write_atomically
from benchmark_utils.priors.faces64 import EDMUNet
from benchmark_utils.schedule import karras_levels

EVALUATED_SIGMAS = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
WARM_UP_IMAGES = 10_000
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


def draw_sigmas(n, generator):
    log_sigma = -0.8 + 1.2 * torch.randn(n, generator=generator, device=generator.device)
    low, high = math.log(EDMUNet.SIGMA_MIN), math.log(EDMUNet.SIGMA_MAX)
    log_uniform = draw_uniform(n, low, high, generator).flatten()
    return torch.where(draw_uniform(n, 0, 1, generator).flatten() < 0.05, log_uniform, log_sigma).exp()


def denoising_loss(denoiser, x, generator):
    """The EDM loss at one random noise level per image."""
    sigma = draw_sigmas(len(x), generator)
    noisy = x + sigma.view(-1, 1, 1, 1) * torch.randn(x.shape, generator=generator, device=x.device)
    weight = (sigma**2 + EDMUNet.SIGMA_DATA**2) / (sigma * EDMUNet.SIGMA_DATA) ** 2
    return (weight * (denoiser(noisy, sigma) - x).square().mean((1, 2, 3))).mean()


@torch.no_grad()
def denoising_errors(denoiser, images, device, n_seeds=1):
    """Mean squared denoising error per value on the [-1, 1] scale, for each sigma."""
    errors = {}
    for sigma in EVALUATED_SIGMAS:
        total = 0.0
        for seed in range(n_seeds):
            generator = torch.Generator().manual_seed(seed)
            for batch in images.split(100):
                x = to_range(batch, device)
                noisy = x + sigma * torch.randn(x.shape, generator=generator).to(device)
                sigmas = torch.full((len(x),), sigma, device=device)
                total += (denoiser(noisy, sigmas) - x).square().mean((1, 2, 3)).sum().item()
        errors[sigma] = total / (n_seeds * len(images))
    return errors


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


@functools.cache
def has_bfloat16(device):
    """Whether the device multiplies bfloat16 matrices in hardware."""
    if device.startswith("cuda"):
        return torch.cuda.is_bf16_supported(including_emulation=False)
    cpuinfo = Path("/proc/cpuinfo")
    flags = set(cpuinfo.read_text().split()) if cpuinfo.exists() else set()
    return bool(flags & {"amx_bf16", "avx512_bf16"})


@contextlib.contextmanager
def fast_arithmetic(device):
    """bfloat16 where the device has it, and attention as plain products.

    There are 16 tokens: the flash kernel's backward pass took a fifth of a training step on a CPU.
    """
    with torch.autocast(device.split(":")[0], torch.bfloat16, enabled=has_bfloat16(device)):
        with sdpa_kernel(SDPBackend.MATH):
            yield


def describe(network):
    """Parameters and floating-point operations of a forward pass, two for each multiply-add."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(torch.zeros(1, 3, 64, 64), torch.ones(1))
    n_parameters = sum(parameter.numel() for parameter in network.parameters())
    return f"{n_parameters / 1e6:.2f} M parameters, {counter.get_total_flops() / 1e9:.3f} GFLOP a forward pass"


def learning_rate_factor(images_seen, seconds, total, cool_down):
    """Linear warm-up over images, constant, then a cosine to 0 over the last ``cool_down`` seconds."""
    progress = max(0.0, 1 - (total - seconds) / cool_down) if cool_down else 0.0
    return min(1.0, (images_seen + 1) / WARM_UP_IMAGES) * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


def main():
    start = time.perf_counter()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--train", type=Path, required=True)
    parser.add_argument("--heldout", type=Path, required=True)
    parser.add_argument("--start", type=Path, help="weights to go on from, a safetensors file")
    parser.add_argument("--channels", type=int, nargs="+", default=EDMUNet.CHANNELS)
    parser.add_argument("--out", type=Path, default=Path("outputs/train_faces64"))
    parser.add_argument("--minutes", type=float, default=150, help="of training in all")
    parser.add_argument("--cool-down", type=float, default=25, help="minutes of falling learning rate")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--checkpoint-every", type=float, default=5, help="minutes")
    parser.add_argument("--evaluate-every", type=float, default=25, help="minutes")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    total, cool_down = 60 * args.minutes, 60 * args.cool_down

    torch.manual_seed(0)
    network = EDMUNet(args.channels)
    print(describe(network), flush=True)
    if args.start:
        network.load_state_dict(load_file(args.start))
    network = network.to(args.device, memory_format=torch.channels_last)
    averaged_network = copy.deepcopy(network).eval().requires_grad_(False)
    parameters, averages = list(network.parameters()), list(averaged_network.parameters())
    optimiser = torch.optim.Adam(parameters, lr=args.learning_rate, betas=(0.9, 0.99), fused=True)
    images_seen, seconds_before = 0, 0.0
    checkpoint_path = args.out / "checkpoint.pt"
    if checkpoint_path.exists():
        checkpoint = torch.load(checkpoint_path, map_location=args.device, weights_only=True)
        network.load_state_dict(checkpoint["network"])
        averaged_network.load_state_dict(checkpoint["average"])
        optimiser.load_state_dict(checkpoint["optimiser"])
        images_seen, seconds_before = checkpoint["images_seen"], checkpoint["seconds"]
        print(f"resuming after {images_seen} images, {seconds_before / 60:.1f} minutes", flush=True)

    print(f"{args.device}, {torch.get_num_threads()} threads, bfloat16: {has_bfloat16(args.device)}", flush=True)
    denoiser = torch.compile(network, dynamic=False)
    train, heldout = load_images(args.train).to(args.device), load_images(args.heldout)
    faces = read_pixels(sorted(THUMBNAILS.glob("*.png")))
    generator = torch.Generator(args.device).manual_seed(images_seen + 1)

    def clock():
        return seconds_before + time.perf_counter() - start

    def checkpoint(path):
        state = {"network": network.state_dict(), "average": averaged_network.state_dict()}
        state |= {"optimiser": optimiser.state_dict(), "images_seen": images_seen, "seconds": clock()}
        write_atomically(path, lambda partial: torch.save(state, partial))

    def evaluate():
        """Print the errors of the average, draw from it and export it."""
        with fast_arithmetic(args.device):
            for name, images, n_seeds in ("held-out", heldout, 1), ("faces", faces, 8):
                errors = denoising_errors(averaged_network, images, args.device, n_seeds)
                table = "  ".join(f"{sigma:g}: {error:.5f}" for sigma, error in errors.items())
                print(f"{clock() / 60:6.1f} min  {images_seen:8d} images  {name:8s} mse  {table}", flush=True)
            samples = unconditional_samples(averaged_network, 32, args.device)
        save_image(samples.clamp(-1, 1) / 2 + 0.5, args.out / "samples.png", nrow=8)
        weights = {name: value.half().contiguous() for name, value in averaged_network.state_dict().items()}
        write_atomically(args.out / "faces64.safetensors", lambda partial: save_file(weights, partial))

    seconds = last_checkpoint = last_evaluation = clock()
    mean_loss, first = 0.0, images_seen
    while seconds < total:
        for group in optimiser.param_groups:
            group["lr"] = args.learning_rate * learning_rate_factor(images_seen, seconds, total, cool_down)
        index = torch.randint(len(train), (args.batch_size,), generator=generator, device=args.device)
        x = augment(train[index], generator)
        with fast_arithmetic(args.device):
            loss = denoising_loss(denoiser, x, generator)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        images_seen += args.batch_size
        # half-life: 5 % of the images seen so far, at most 20,000
        decay = 0.5 ** (args.batch_size / max(1.0, min(20_000, 0.05 * images_seen)))
        with torch.no_grad():
            torch._foreach_lerp_(averages, parameters, 1 - decay)
        mean_loss += 0.01 * (loss.item() - mean_loss)

        before, seconds = seconds, clock()
        if before < total - cool_down <= seconds:
            checkpoint(args.out / "checkpoint_stable.pt")
        if seconds - last_checkpoint > 60 * args.checkpoint_every:
            checkpoint(checkpoint_path)
            progress = f"{seconds / 60:6.1f} min  {images_seen:8d} images  loss {mean_loss:.4f}"
            rate = (images_seen - first) / (seconds - last_checkpoint)
            print(f"{progress}  {rate:.1f} images/s", flush=True)
            last_checkpoint, first = seconds, images_seen
        if seconds - last_evaluation > 60 * args.evaluate_every and total - seconds > 30 * args.evaluate_every:
            evaluate()
            last_evaluation = clock()
    checkpoint(checkpoint_path)
    evaluate()
    cpu_seconds = sum(os.times()[:2])
    print(f"{clock() / 60:.1f} minutes, {cpu_seconds / 60:.1f} CPU minutes of this process", flush=True)


if __name__ == "__main__":
    main()
