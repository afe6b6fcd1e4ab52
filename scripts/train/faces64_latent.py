"""Train the embedded prior ``faces64_latent``, one network at a time, and write ``faces64_latent.safetensors``.

    python -m scripts.train.faces64_latent autoencoder --train train.parquet --heldout heldout.parquet
    python -m scripts.train.faces64_latent unet --train train.parquet --heldout heldout.parquet \\
        --start outputs/train_faces64_latent/autoencoder/faces64_latent.safetensors

Both parquet files are those of ``faces64.py``. As in latent diffusion (Rombach et al.
2022, https://arxiv.org/abs/2112.10752) there are two stages, without the discriminator:

autoencoder
    mean absolute error + 0.1 LPIPS (AlexNet) + 0.002 times the Kullback-Leibler divergence per latent value. Half of
    the images get other colours: a posterior sampler needs what it is shown, clothes and backgrounds of any colour, to
    be in the range of the decoder;
unet
    latents of the augmented faces of ``faces64``, in units of the standard deviation of the latents of all faces, under
    the schedule of that paper. The network predicts the velocity ``sqrt(abar) eps - sqrt(1 - abar) z_0``, which for
    data of unit variance is the preconditioning of Karras et al. 2022 (https://arxiv.org/abs/2206.00364, table 1).
    ln sigma ~ N(-0.2, 1.4^2) for 95 % of the latents and log-uniform over the schedule for the rest.

The weights start from those in ``--start``, those of the stage's own network among them. What the first stage writes
without ``--start`` has an untrained U-Net: it is for the second stage only. The files of a stage are in
``<out>/<stage>``; ``scripts/train/loop.py`` says how the run is timed, resumed and cooled down.
"""

import argparse
from itertools import pairwise
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torchvision.utils import save_image

from benchmark_utils.files.images import THUMBNAILS
from benchmark_utils.files.weights import load_networks
from benchmark_utils.metrics import lpips_network, psnr_score
from benchmark_utils.priors.latent import PATCH, latent_schedule, tiny_autoencoder, tiny_prior, tiny_unet
from scripts.train.faces64 import EVALUATED_SIGMAS, augment, draw_uniform, load_images, read_pixels, to_range
from scripts.train.loop import add_arguments, denoising_loss, draw_sigmas, fast_arithmetic, print_errors, train

LPIPS_WEIGHT, KL_WEIGHT = 0.1, 0.002


class Denoiser(torch.nn.Module):
    """E[z | z + sigma eps] of latents of unit variance by a U-Net that predicts the velocity, at the nearest level."""

    SIGMA_DATA = 1.0

    def __init__(self, unet):
        super().__init__()
        self.unet, schedule = unet, latent_schedule()
        self.register_buffer("sigmas", schedule.sigma(torch.arange(1, schedule.T + 1)).float(), persistent=False)

    def forward(self, x, sigma):
        label = torch.searchsorted((self.sigmas[1:] * self.sigmas[:-1]).sqrt(), sigma)
        sigma = sigma.view(-1, 1, 1, 1)
        scale = (1 + sigma**2).rsqrt()
        velocity = self.unet(scale * x, label).sample
        return scale * (scale * x - sigma * velocity)


def recolour(x, generator):
    """Images in [-1, 1], mirrored or not, half of them with permuted channels and a random contrast and saturation."""
    x = torch.where(draw_uniform(len(x), 0, 1, generator) < 0.5, x.flip(-1), x)
    n = len(x) // 2
    order = torch.rand(n, 3, generator=generator, device=x.device).argsort(1)
    changed = x[:n].gather(1, order.view(n, 3, 1, 1).expand(x[:n].shape))
    contrast, saturation = draw_uniform(n, 0.5, 1.5, generator), draw_uniform(n, 0, 3, generator)
    grey = changed.mean(1, keepdim=True)
    return torch.cat([(contrast * (grey + saturation * (changed - grey))).clamp(-1, 1), x[n:]])


def train_autoencoder(network, images, measured, args):
    lpips = lpips_network().to(args.device)

    def loss_of_batch(network, generator):
        index = torch.randint(len(images), (args.batch_size,), generator=generator, device=args.device)
        x = recolour(to_range(images[index], args.device), generator)
        with fast_arithmetic(args.device):
            law = network.encode(F.pixel_unshuffle(x, PATCH)).latent_dist
            z = law.mean + law.std * torch.randn(law.mean.shape, generator=generator, device=args.device)
            x_hat = F.pixel_shuffle(network.decode(z).sample, PATCH)
            divergence = (law.mean**2 + law.var - 1 - law.logvar).mean() / 2
            return (x_hat - x).abs().mean() + LPIPS_WEIGHT * lpips(x_hat, x).mean() + KL_WEIGHT * divergence

    @torch.no_grad()
    def evaluate(average):
        for name, images in measured.items():
            psnr, distance = [], []
            for x in images.split(100):
                z = average.encode(F.pixel_unshuffle(x, PATCH)).latent_dist.mean
                x_hat = F.pixel_shuffle(average.decode(z).sample, PATCH).float().clamp(-1, 1)
                psnr.append(psnr_score(x_hat, x))
                distance.append(lpips(x_hat, x).flatten())
            print(f"{name} PSNR {torch.cat(psnr).mean():.2f} dB  LPIPS {torch.cat(distance).mean():.4f}", flush=True)
            save_image(torch.cat([x[:8], x_hat[:8]]) / 2 + 0.5, args.out / f"{name}.png", nrow=8)

    # its encoder and decoder are called, not its forward pass: nothing that torch.compile would see
    average = train(network, loss_of_batch, evaluate, "autoencoder", args, compile=False)
    evaluate(average)  # in full precision
    return average


@torch.no_grad()
def encode(autoencoder, x):
    """Means of the latents of images in [-1, 1], (n, 8, 16, 16)."""
    return torch.cat([autoencoder.encode(F.pixel_unshuffle(part, PATCH)).latent_dist.mean for part in x.split(200)])


@torch.no_grad()
def unconditional_samples(prior, n, n_steps=50):
    """DDIM (eta = 0) from level T, decoded."""
    levels, generator = prior.schedule.grid(n_steps), torch.Generator().manual_seed(0)
    x = torch.randn(n, *prior.event_shape, generator=generator).to(prior.device)
    for t, s in pairwise(levels):
        c_0, c_t, _ = prior.schedule.bridge(0, s, t, eta=0.0)
        x = c_0 * prior.denoise(x, t) + c_t * x
    return prior.decode(x)


def train_unet(unet, autoencoder, images, measured, args):
    """The average of the U-Net, and the factor that gives latents a standard deviation of 1."""
    autoencoder = autoencoder.to(args.device).requires_grad_(False)
    both = torch.cat([encode(autoencoder, to_range(part, args.device)) for part in (images, images.flip(-1))])
    scale = 1 / both.std().item()
    latents = {name: scale * encode(autoencoder, x) for name, x in measured.items()}
    denoiser = Denoiser(unet)
    levels = denoiser.sigmas[[0, -1]].tolist()

    def loss_of_batch(denoiser, generator):
        index = torch.randint(len(images), (args.batch_size,), generator=generator, device=args.device)
        z = scale * encode(autoencoder, augment(images[index], generator))
        sigma = draw_sigmas(args.batch_size, -0.2, 1.4, levels, generator)
        return denoising_loss(denoiser, z, sigma, Denoiser.SIGMA_DATA, generator)

    def evaluate(average):
        print_errors(average, latents, EVALUATED_SIGMAS)

    return train(denoiser, loss_of_batch, evaluate, "unet", args).unet, scale


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("stage", choices=["autoencoder", "unet"])
    parser.add_argument("--train", type=Path, required=True)
    parser.add_argument("--heldout", type=Path, required=True)
    out = "outputs/train_faces64_latent"
    add_arguments(parser, out, minutes=60, cool_down=20, batch_size=32, evaluate_every=20)
    args = parser.parse_args()
    if args.stage == "unet" and not args.start:
        parser.error("the U-Net needs a trained autoencoder: --start with what the first stage wrote")
    args.out /= args.stage

    torch.manual_seed(0)
    networks = {"unet.": tiny_unet(), "autoencoder.": tiny_autoencoder()}
    scale = load_networks(args.start, networks)["scale"].item() if args.start else 1.0
    unet, autoencoder = networks.values()
    images, heldout = load_images(args.train).to(args.device), load_images(args.heldout)
    faces = read_pixels(sorted(THUMBNAILS.glob("*.png")))
    measured = {"held-out": to_range(heldout, args.device), "faces": to_range(faces, args.device)}
    if args.stage == "autoencoder":
        autoencoder = train_autoencoder(autoencoder, images, measured, args)
    else:
        unet, scale = train_unet(unet, autoencoder, images, measured, args)

    tensors = {
        start + name: value
        for start, network in (("unet.", unet), ("autoencoder.", autoencoder))
        for name, value in network.state_dict().items()
    }
    tensors = {name: value.half().contiguous().cpu() for name, value in tensors.items()}
    path = args.out / "faces64_latent.safetensors"
    save_file(tensors | {"scale": torch.tensor([scale], dtype=torch.float32)}, path)
    prior = tiny_prior(path, args.device)
    print_errors(prior.denoise_sigma, {name: prior.encode(x) for name, x in measured.items()}, EVALUATED_SIGMAS)
    save_image(unconditional_samples(prior, 16).clamp(-1, 1) / 2 + 0.5, args.out / "samples.png", nrow=8)


if __name__ == "__main__":
    main()
