"""Networks of diffusers behind the interface of a prior, in pixel space or in the latent space of an autoencoder.

``ffhq256_latent``: the FFHQ network of Rombach et al. 2022, "High-Resolution Image Synthesis with Latent Diffusion
Models", https://arxiv.org/abs/2112.10752, on the latents (3, 64, 64) of its autoencoder VQ-f4. ``faces64_latent``: a
small one that is shipped, trained by ``scripts/train/faces64_latent.py``.
"""

import functools

import torch
import torch.nn.functional as F
from torch.utils.checkpoint import checkpoint as recomputed

from benchmark_utils.files.archives import Archives, load_parts
from benchmark_utils.files.convert import LATENT_UNET, VQ_F4, adm_to_diffusers, vq_to_diffusers
from benchmark_utils.files.paths import asset
from benchmark_utils.files.weights import read_safetensors
from benchmark_utils.priors.adm import LabelNetwork
from benchmark_utils.priors.base import PriorSpec, expand_like, frozen, rows_of_level
from benchmark_utils.schedule import NoiseSchedule

MICRO_BATCH = 8


class Autoencoder:
    """``encode`` and ``decode`` of a diffusers ``VQModel`` or ``AutoencoderKL``, on latents of the denoiser's scale.

    Parameters
    ----------
    model : VQModel or AutoencoderKL
    scale : the factor from the autoencoder's latents to the denoiser's (diffusers: ``scaling_factor``)
    patch : side of the pixel patches that are the channels of the autoencoder's image; 1 for an ordinary one
    force_not_quantize : decode latents as they are; else a VQModel takes the nearest vectors of its codebook first,
        and the gradient passes through that as if it were the identity
    micro_batch : rows encoded or decoded at once. More rows are taken in parts, each computed a second time for its
        gradient, so that the activations of one part only are in memory
    """

    def __init__(self, model, scale=1.0, patch=1, force_not_quantize=False, micro_batch=MICRO_BATCH):
        self.model = model
        self.scale, self.patch, self.micro_batch = scale, patch, micro_batch
        self.has_codebook = hasattr(model, "quantize")
        if force_not_quantize and not self.has_codebook:
            raise ValueError("force_not_quantize: this autoencoder has no codebook; leave the option out")
        self.options = {"force_not_quantize": force_not_quantize} if self.has_codebook else {}

    def decode(self, z):
        return self._in_parts(self._decode, z)

    def encode(self, x):
        return self._in_parts(self._encode, x)

    def _decode(self, z):
        return F.pixel_shuffle(self.model.decode(z / self.scale, **self.options).sample, self.patch)

    def _encode(self, x):
        encoded = self.model.encode(F.pixel_unshuffle(x, self.patch))
        return self.scale * (encoded.latents if self.has_codebook else encoded.latent_dist.mode())

    def _in_parts(self, function, x):
        if len(x) <= self.micro_batch:
            return function(x)
        if torch.is_grad_enabled() and x.requires_grad:
            function = functools.partial(recomputed, function, use_reentrant=False, preserve_rng_state=False)
        return torch.cat([function(part) for part in x.split(self.micro_batch)])


class DiffusersPrior(LabelNetwork):
    """A ``UNet2DModel`` trained with labels 0..T-1, on images or on the latents of an :class:`Autoencoder`.

    ``prediction`` is what the network predicts: "epsilon", "v_prediction" (the velocity ``sqrt(abar) eps -
    sqrt(1 - abar) x_0``) or "sample". ``checkpoint``: of each block of the networks only the input is kept for the
    gradient and the rest is computed a second time: less memory, more time.
    """

    def __init__(self, unet, schedule, prediction, event_shape, signal_shape, device, autoencoder, checkpoint=False):
        super().__init__(unet, schedule, device)
        self.prediction, self.autoencoder = prediction, autoencoder
        self.event_shape, self.signal_shape = event_shape, signal_shape
        if autoencoder:
            frozen(autoencoder.model, self.device)
            self.networks += [autoencoder.model.encoder, autoencoder.model.decoder]
        if checkpoint:
            for network in (self.network, autoencoder.model) if autoencoder else (self.network,):
                network._supports_gradient_checkpointing = True  # the class VQModel does not say so, its halves do
                network.enable_gradient_checkpointing()

    def denoise(self, x_t, t):
        level = rows_of_level(t, x_t).long()
        return self.x_hat(x_t, self.schedule.abar(level), level - 1)

    def denoise_sigma(self, x, sigma):
        sigma = rows_of_level(sigma, x)
        abar = 1 / (1 + sigma**2)
        return self.x_hat(x * expand_like(abar.sqrt(), x), abar, self.label_of(sigma))

    def x_hat(self, x_t, abar, label):
        """``E[x_0 | x_t]`` from what the network predicts; ``abar`` (n,), ``label`` (n,)."""
        signal, noise = (expand_like(part.sqrt(), x_t) for part in (abar, 1 - abar))
        predicted = self.predict_noise(x_t, label)
        if self.prediction == "epsilon":
            return (x_t - noise * predicted) / signal
        return signal * x_t - noise * predicted if self.prediction == "v_prediction" else predicted

    def decode(self, z):
        with self.autocast():
            return self.autoencoder.decode(z).to(z) if self.autoencoder else z

    def encode(self, x):
        with self.autocast():
            return self.autoencoder.encode(x).to(x) if self.autoencoder else x


def latent_schedule():
    """The levels of latent diffusion: betas are squares of numbers uniform from sqrt(0.0015) to sqrt(0.0195)."""
    betas = torch.linspace(0.0015**0.5, 0.0195**0.5, 1000, dtype=torch.float64) ** 2
    return NoiseSchedule((1 - betas).cumprod(0))


def denoiser_tensors(state):
    """``unet.*`` of the training checkpoint of a latent denoiser: the average over training, if it has one.

    The average is what the authors sample with; its tensors are named as the network's, without dots.
    """
    start = "model.diffusion_model."
    current = {name.removeprefix(start): value for name, value in state.items() if name.startswith(start)}
    if not current:
        raise ValueError(f"no tensors {start}*: this is not a checkpoint of a latent diffusion model")
    average = {name: state.get(f"model_ema.diffusion_model{name.replace('.', '')}") for name in current}
    weights = current if all(value is None for value in average.values()) else average
    missing = [name for name, value in weights.items() if value is None]
    if missing:
        raise ValueError(f"the average over training lacks {len(missing)} tensors ({', '.join(missing[:3])})")
    return {f"unet.{name}": value for name, value in adm_to_diffusers(weights, LATENT_UNET).items()}


def autoencoder_tensors(state):
    """``autoencoder.*`` of the training checkpoint of VQ-f4, without the networks of its loss."""
    own = {name: value for name, value in state.items() if not name.startswith("loss.")}
    return {f"autoencoder.{name}": value for name, value in vq_to_diffusers(own, VQ_F4).items()}


FFHQ_WEIGHTS = Archives(
    name="ffhq256_latent",
    url="https://ommer-lab.com/files/latent-diffusion",
    files=("ffhq.zip", "vq-f4.zip"),
    converters=(denoiser_tensors, autoencoder_tensors),
)


def ffhq256_latent(force_not_quantize=False, checkpoint=False):
    shapes = {"event_shape": (3, 64, 64), "signal_shape": (3, 256, 256)}

    def load(device):
        unet, model = LATENT_UNET.network(), VQ_F4.network()
        FFHQ_WEIGHTS.load_into(unet=unet, autoencoder=model)
        autoencoder = Autoencoder(model, force_not_quantize=force_not_quantize)
        return DiffusersPrior(
            unet, latent_schedule(), "epsilon", device=device, autoencoder=autoencoder, checkpoint=checkpoint, **shapes
        )

    return PriorSpec(family="ffhq_latent", load=load, is_latent=True, weights=FFHQ_WEIGHTS, **shapes)


def tiny_prior(path, device, checkpoint=False):
    """The prior that ``scripts/train/faces64_latent.py`` wrote to a safetensors file."""
    from benchmark_utils.priors.tiny_ldm import LATENT_SHAPE, PATCH, tiny_autoencoder, tiny_unet

    tensors, unet, model = read_safetensors(path), tiny_unet(), tiny_autoencoder()
    load_parts(tensors, {"unet": unet, "autoencoder": model}, path)
    autoencoder = Autoencoder(model, scale=tensors["scale"].item(), patch=PATCH)
    schedule = latent_schedule()
    return DiffusersPrior(unet, schedule, "v_prediction", LATENT_SHAPE, (3, 64, 64), device, autoencoder, checkpoint)


def faces64_latent(checkpoint=False):
    return PriorSpec(
        family="ffhq_latent",
        signal_shape=(3, 64, 64),
        event_shape=(8, 16, 16),
        is_latent=True,
        load=lambda device: tiny_prior(asset("faces64/faces64_latent.safetensors"), device, checkpoint),
    )


PRIORS = {"ffhq256_latent": ffhq256_latent, "faces64_latent": faces64_latent}
