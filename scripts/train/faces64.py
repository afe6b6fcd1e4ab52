"""Train the embedded prior ``faces64`` and write ``assets/faces64/faces64.safetensors``.

    python -m scripts.train.faces64 --train faces64_train.parquet --heldout faces64_heldout.parquet

Both parquet files have the columns ``name`` and ``webp`` (64-px WebP bytes).
The loss is the EDM denoising loss (Karras et al. 2022, https://arxiv.org/abs/2206.00364, eq. 8)
with ln sigma ~ N(-0.8, 1.2^2) for 95 % of the images and log-uniform over
the network's whole range for the rest, so that the start of sampling is seen too.

The run is resumable: it continues from ``<out>/checkpoint.pt`` if that exists.
The learning rate falls as a cosine over ``--minutes`` of training time, and the
exponential moving average of the weights is what gets evaluated and exported.
"""

import argparse
import io
import math
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from PIL import Image
from safetensors.torch import save_file
from torchvision.utils import save_image

from benchmark_utils.priors.faces64 import EDMUNet

EVALUATED_SIGMAS = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)


def load_images(path):
    """All images of a parquet file as uint8, (n, 3, 64, 64)."""
    webps = pd.read_parquet(path)["webp"]
    pixels = np.stack([np.asarray(Image.open(io.BytesIO(webp)).convert("RGB")) for webp in webps])
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous()


def to_range(images, device):
    return images.to(device).float() / 127.5 - 1


def draw_sigmas(n, generator):
    log_sigma = -0.8 + 1.2 * torch.randn(n, generator=generator)
    low, high = math.log(EDMUNet.SIGMA_MIN), math.log(EDMUNet.SIGMA_MAX)
    log_uniform = low + (high - low) * torch.rand(n, generator=generator)
    return torch.where(torch.rand(n, generator=generator) < 0.05, log_uniform, log_sigma).exp()


@torch.no_grad()
def heldout_errors(denoiser, images, device):
    """Mean squared denoising error per value on the [-1, 1] scale, for each sigma."""
    errors = {}
    for sigma in EVALUATED_SIGMAS:
        generator = torch.Generator().manual_seed(0)
        total = 0.0
        for batch in images.split(100):
            x = to_range(batch, device)
            noisy = x + sigma * torch.randn(x.shape, generator=generator).to(device)
            sigmas = torch.full((len(x),), sigma, device=device)
            total += (denoiser(noisy, sigmas) - x).square().mean((1, 2, 3)).sum().item()
        errors[sigma] = total / len(images)
    return errors


@torch.no_grad()
def unconditional_samples(denoiser, n, device, n_steps=40):
    """Euler's method on the probability-flow ODE with the rho = 7 grid of Karras et al., eq. (5)."""
    ramp = torch.linspace(0, 1, n_steps)
    sigmas = (80 ** (1 / 7) + ramp * (0.01 ** (1 / 7) - 80 ** (1 / 7))) ** 7
    generator = torch.Generator().manual_seed(0)
    x = (sigmas[0] * torch.randn(n, 3, 64, 64, generator=generator)).to(device)
    for sigma, sigma_next in zip(sigmas, torch.cat([sigmas[1:], torch.zeros(1)]), strict=True):
        x_hat = denoiser(x, torch.full((n,), float(sigma), device=device))
        x = x_hat + float(sigma_next / sigma) * (x - x_hat)
    return x


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--train", type=Path, required=True)
    parser.add_argument("--heldout", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("outputs/train_faces64"))
    parser.add_argument("--minutes", type=float, default=120, help="total training time")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--report-every", type=float, default=20, help="minutes between reports and checkpoints")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    on_gpu = args.device.startswith("cuda")

    torch.manual_seed(0)
    network = EDMUNet().to(args.device, memory_format=torch.channels_last)
    average = {name: value.detach().clone() for name, value in network.state_dict().items()}
    optimiser = torch.optim.Adam(network.parameters(), lr=args.learning_rate, betas=(0.9, 0.99))
    images_seen, seconds_before = 0, 0.0
    checkpoint_path = args.out / "checkpoint.pt"
    if checkpoint_path.exists():
        checkpoint = torch.load(checkpoint_path, map_location=args.device, weights_only=True)
        network.load_state_dict(checkpoint["network"])
        optimiser.load_state_dict(checkpoint["optimiser"])
        average = checkpoint["average"]
        images_seen, seconds_before = checkpoint["images_seen"], checkpoint["seconds"]
        print(f"resuming after {images_seen} images, {seconds_before / 60:.1f} minutes", flush=True)
    compiled = torch.compile(network) if on_gpu else network
    averaged_network = EDMUNet().to(args.device).eval()

    train, heldout = load_images(args.train), load_images(args.heldout)
    generator = torch.Generator().manual_seed(images_seen + 1)

    def report(seconds):
        torch.save(
            {
                "network": network.state_dict(),
                "optimiser": optimiser.state_dict(),
                "average": average,
                "images_seen": images_seen,
                "seconds": seconds,
            },
            checkpoint_path.with_suffix(".tmp"),
        )
        checkpoint_path.with_suffix(".tmp").replace(checkpoint_path)
        averaged_network.load_state_dict(average)
        errors = heldout_errors(averaged_network, heldout, args.device)
        table = "  ".join(f"{sigma:g}: {error:.5f}" for sigma, error in errors.items())
        print(f"{seconds / 60:6.1f} min  {images_seen:8d} images  heldout mse  {table}", flush=True)
        samples = unconditional_samples(averaged_network, 16, args.device)
        save_image(samples.clamp(-1, 1) / 2 + 0.5, args.out / "samples.png", nrow=8)
        save_file({k: v.contiguous() for k, v in average.items()}, args.out / "faces64.safetensors")

    start, last_report, seconds = time.perf_counter(), seconds_before, seconds_before
    while seconds < 60 * args.minutes:
        progress = seconds / (60 * args.minutes)
        warm_up = min(1.0, images_seen / 10_000)
        for group in optimiser.param_groups:
            group["lr"] = args.learning_rate * max(warm_up, 1e-3) * 0.5 * (1 + math.cos(math.pi * progress))
        index = torch.randint(len(train), (args.batch_size,), generator=generator)
        x = train[index]
        flipped = torch.rand(len(x), generator=generator) < 0.5
        x[flipped] = x[flipped].flip(-1)
        x = to_range(x, args.device)
        sigma = draw_sigmas(len(x), generator).to(args.device)
        noisy = x + sigma.view(-1, 1, 1, 1) * torch.randn(x.shape, generator=generator).to(args.device)
        weight = (sigma**2 + EDMUNet.SIGMA_DATA**2) / (sigma * EDMUNet.SIGMA_DATA) ** 2
        with torch.autocast("cuda", torch.bfloat16, enabled=on_gpu):
            loss = (weight.view(-1, 1, 1, 1) * (compiled(noisy, sigma) - x).square()).mean()
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()

        images_seen += args.batch_size
        # half-life: 5 % of the images seen so far, at most 20,000
        decay = 0.5 ** (args.batch_size / max(1.0, min(20_000, 0.05 * images_seen)))
        with torch.no_grad():
            for name, value in network.state_dict().items():
                average[name].lerp_(value, 1 - decay)
        seconds = seconds_before + time.perf_counter() - start
        if seconds - last_report > 60 * args.report_every:
            report(seconds)
            last_report = seconds
    report(seconds)


if __name__ == "__main__":
    main()
