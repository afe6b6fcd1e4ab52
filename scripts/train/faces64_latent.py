"""Train the embedded prior ``faces64_latent`` and write ``assets/faces64/faces64_latent.safetensors``.

    python -m scripts.train.faces64_latent --train faces64_train.parquet --heldout faces64_heldout.parquet

Both parquet files have the columns ``name`` and ``webp`` (64-px WebP bytes). As in latent diffusion (Rombach et al.
2022, https://arxiv.org/abs/2112.10752) there are two stages, without the discriminator:

autoencoder
    mean absolute error + 0.1 LPIPS (AlexNet) + 0.002 times the Kullback-Leibler divergence per latent value. Half of
    the images get other colours: a posterior sampler needs what it is shown, clothes and backgrounds of any colour, to
    be in the range of the decoder;
U-Net
    the latents of all images and their mirror images, scaled to unit standard deviation, under the schedule of
    that paper. The network predicts the velocity ``sqrt(abar) eps - sqrt(1 - abar) z_0``, which for data of unit
    variance is the preconditioning of Karras et al. 2022 (https://arxiv.org/abs/2206.00364, table 1). ln sigma is
    N(-0.2, 1.4^2) for 80 % of the latents; the label is uniform for the rest, so that the start of sampling is
    seen too.

The run is resumable: each stage continues from its checkpoint in ``<out>`` if that exists. The learning rate falls
as a cosine over the stage's minutes of training (of CPU time on a CPU), and the exponential moving average of the
weights is what gets evaluated and exported, in half precision.
"""

import argparse
import copy
import math
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torchvision.utils import save_image

from benchmark_utils.files.paths import write_atomically
from benchmark_utils.metrics import lpips_network, psnr_score
from benchmark_utils.priors.latent import PATCH, latent_schedule, tiny_autoencoder, tiny_prior, tiny_unet
from scripts.train.faces64 import EVALUATED_SIGMAS, load_images, to_range

LPIPS_WEIGHT, KL_WEIGHT = 0.1, 0.002


class Stage:
    """One network with its optimiser, average and clock: what is common to both stages."""

    def __init__(self, name, network, minutes, learning_rate, args):
        self.name, self.network, self.args = name, network.to(args.device), args
        self.seconds_in_all, self.learning_rate = 60 * minutes, learning_rate
        self.average = copy.deepcopy(self.network).eval().requires_grad_(False)
        self.optimiser = torch.optim.Adam(self.network.parameters(), lr=learning_rate, betas=(0.9, 0.99))
        self.images_seen, self.seconds = 0, 0.0
        self.path = args.out / f"{name}.pt"
        if self.path.exists():
            saved = torch.load(self.path, map_location=args.device, weights_only=True)
            for part in ("network", "average", "optimiser"):
                getattr(self, part).load_state_dict(saved[part])
            self.images_seen, self.seconds = saved["images_seen"], saved["seconds"]
            print(f"{name}: resuming after {self.images_seen} images, {self.seconds / 60:.1f} minutes", flush=True)
        self.generator = torch.Generator().manual_seed(self.images_seen + 1)

    def save(self):
        parts = {part: getattr(self, part).state_dict() for part in ("network", "average", "optimiser")}
        state = parts | {"images_seen": self.images_seen, "seconds": self.seconds}
        write_atomically(self.path, lambda partial: torch.save(state, partial))

    def train(self, loss_of_batch, report):
        """Minimise ``loss_of_batch(generator) -> (loss, images in the batch)`` until the time is over."""
        clock = time.perf_counter if self.args.device.startswith("cuda") else time.process_time
        start, last_report, seconds_before = clock(), self.seconds, self.seconds
        while self.seconds < self.seconds_in_all:
            warm_up = max(1e-3, min(1.0, self.images_seen / 3000))
            cosine = 0.5 * (1 + math.cos(math.pi * self.seconds / self.seconds_in_all))
            for group in self.optimiser.param_groups:
                group["lr"] = self.learning_rate * warm_up * cosine
            loss, n = loss_of_batch(self.generator)
            self.optimiser.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
            self.optimiser.step()
            self.images_seen += n
            # half-life: 5 % of the images seen so far, at most 10,000
            decay = 0.5 ** (n / max(1.0, min(10_000, 0.05 * self.images_seen)))
            with torch.no_grad():
                for mean, value in zip(self.average.parameters(), self.network.parameters(), strict=True):
                    mean.lerp_(value, 1 - decay)
            self.seconds = seconds_before + clock() - start
            if self.seconds - last_report > 60 * self.args.report_every:
                self.save()
                report(self)
                last_report = self.seconds
        self.save()
        report(self)


def mirror(x, generator):
    """Each image of a batch, or its mirror image."""
    flipped = torch.rand(len(x), generator=generator) < 0.5
    return torch.where(flipped.view(-1, 1, 1, 1), x.flip(-1), x)


def recolour(x, generator):
    """Float images in [-1, 1], half of them with its channels permuted and a random contrast and saturation."""
    n = len(x) // 2
    order = torch.rand(n, 3, generator=generator).argsort(1)
    changed = x[:n].gather(1, order.view(n, 3, 1, 1).expand(x[:n].shape))
    contrast, saturation = (
        low + wide * torch.rand(n, 1, 1, 1, generator=generator) for low, wide in ((0.5, 1), (0, 3))
    )
    grey = changed.mean(1, keepdim=True)
    return torch.cat([(contrast * (grey + saturation * (changed - grey))).clamp(-1, 1), x[n:]])


def train_autoencoder(train, heldout, args):
    stage = Stage("autoencoder", tiny_autoencoder(), args.autoencoder_minutes, 1e-3, args)
    lpips = lpips_network().to(args.device)

    def loss_of_batch(generator):
        index = torch.randint(len(train), (args.batch_size,), generator=generator)
        x = recolour(to_range(mirror(train[index], generator), "cpu"), generator).to(args.device)
        law = stage.network.encode(F.pixel_unshuffle(x, PATCH)).latent_dist
        z = law.mean + law.std * torch.randn(law.mean.shape, generator=generator).to(args.device)
        x_hat = F.pixel_shuffle(stage.network.decode(z).sample, PATCH)
        divergence = (law.mean**2 + law.var - 1 - law.logvar).mean() / 2
        return (x_hat - x).abs().mean() + LPIPS_WEIGHT * lpips(x_hat, x).mean() + KL_WEIGHT * divergence, len(x)

    @torch.no_grad()
    def report(stage):
        psnr, distance = [], []
        for batch in heldout.split(100):
            x = to_range(batch, args.device)
            z = stage.average.encode(F.pixel_unshuffle(x, PATCH)).latent_dist.mean
            x_hat = F.pixel_shuffle(stage.average.decode(z).sample, PATCH).clamp(-1, 1)
            psnr.append(psnr_score(x_hat, x))
            distance.append(lpips(x_hat, x).flatten())
        print(
            f"autoencoder {stage.seconds / 60:6.1f} min  {stage.images_seen:7d} images  heldout "
            f"PSNR {torch.cat(psnr).mean():.2f} dB  LPIPS {torch.cat(distance).mean():.4f}",
            flush=True,
        )
        save_image(torch.cat([x[:8], x_hat[:8]]) / 2 + 0.5, args.out / "reconstructions.png", nrow=8)

    stage.train(loss_of_batch, report)
    return stage.average


@torch.no_grad()
def latents_of(autoencoder, images, device):
    """Means of the latents of uint8 images, (n, 8, 16, 16)."""
    batches = (F.pixel_unshuffle(to_range(batch, device), PATCH) for batch in images.split(200))
    return torch.cat([autoencoder.encode(batch).latent_dist.mean for batch in batches])


@torch.no_grad()
def heldout_errors(prior, latents):
    """Mean squared denoising error per latent value, for each sigma."""
    errors = {}
    for sigma in EVALUATED_SIGMAS:
        generator = torch.Generator().manual_seed(0)
        noise = torch.randn(latents.shape, generator=generator).to(latents)
        batches = zip(latents.split(100), (latents + sigma * noise).split(100), strict=True)
        squared = [(prior.denoise_sigma(noisy, sigma) - z).square().flatten(1).mean(1) for z, noisy in batches]
        errors[sigma] = torch.cat(squared).mean().item()
    return errors


@torch.no_grad()
def unconditional_samples(prior, n, n_steps=50):
    """DDIM (eta = 0) from level T, decoded."""
    levels, generator = prior.schedule.grid(n_steps), torch.Generator().manual_seed(0)
    x = torch.randn(n, *prior.event_shape, generator=generator).to(prior.device)
    for t, s in zip(levels, levels[1:], strict=False):
        c_0, c_t, _ = prior.schedule.bridge(0, s, t, eta=0.0)
        x = c_0 * prior.denoise(x, t) + c_t * x
    return prior.decode(x)


def export(autoencoder, unet, scale, path):
    tensors = {f"autoencoder.{name}": value for name, value in autoencoder.state_dict().items()}
    tensors |= {f"unet.{name}": value for name, value in unet.state_dict().items()}
    tensors = {name: value.half().contiguous().cpu() for name, value in tensors.items()}
    save_file(tensors | {"scale": torch.tensor([scale], dtype=torch.float32)}, path)


def train_unet(autoencoder, train, heldout, args):
    stage = Stage("unet", tiny_unet(), args.unet_minutes, 1e-3, args)
    latents = torch.cat([latents_of(autoencoder, images, args.device) for images in (train, train.flip(-1))])
    scale = 1 / latents.std().item()
    latents *= scale
    heldout_latents = scale * latents_of(autoencoder, heldout, args.device)
    schedule = latent_schedule()
    log_sigma = schedule.sigma(torch.arange(1, schedule.T + 1)).log()
    path = args.out / "faces64_latent.safetensors"

    def loss_of_batch(generator):
        z = latents[torch.randint(len(latents), (args.batch_size,), generator=generator)]
        drawn = -0.2 + 1.4 * torch.randn(len(z), generator=generator, dtype=torch.float64)
        level = torch.searchsorted(log_sigma, drawn).clamp(max=schedule.T - 1) + 1
        uniform = torch.randint(1, schedule.T + 1, (len(z),), generator=generator)
        level = torch.where(torch.rand(len(z), generator=generator) < 0.2, uniform, level)
        abar = schedule.abar(level).float().view(-1, 1, 1, 1).to(args.device)
        eps = torch.randn(z.shape, generator=generator).to(args.device)
        z_t = abar.sqrt() * z + (1 - abar).sqrt() * eps
        velocity = stage.network(z_t, (level - 1).to(args.device)).sample
        return (velocity - abar.sqrt() * eps + (1 - abar).sqrt() * z).square().mean(), len(z)

    def report(stage):
        export(autoencoder, stage.average, scale, path)
        prior = tiny_prior(path, args.device)
        table = "  ".join(f"{sigma:g}: {e:.4f}" for sigma, e in heldout_errors(prior, heldout_latents).items())
        print(f"unet {stage.seconds / 60:6.1f} min  {stage.images_seen:8d} images  heldout mse  {table}", flush=True)
        save_image(unconditional_samples(prior, 16).clamp(-1, 1) / 2 + 0.5, args.out / "samples.png", nrow=8)

    stage.train(loss_of_batch, report)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--train", type=Path, required=True)
    parser.add_argument("--heldout", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("outputs/train_faces64_latent"))
    parser.add_argument("--autoencoder-minutes", type=float, default=30)
    parser.add_argument("--unet-minutes", type=float, default=40)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--report-every", type=float, default=5, help="minutes between reports and checkpoints")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    train, heldout = load_images(args.train), load_images(args.heldout)
    autoencoder = train_autoencoder(train, heldout, args)
    train_unet(autoencoder, train, heldout, args)


if __name__ == "__main__":
    main()
