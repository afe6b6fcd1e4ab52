"""Latent priors of faces.

``ffhq256_latent``: the FFHQ network of Rombach et al. 2022, "High-Resolution Image Synthesis with Latent Diffusion
Models", https://arxiv.org/abs/2112.10752, on the latents (3, 64, 64) of its autoencoder VQ-f4. ``faces64_latent``: a
small one that is shipped, trained by ``scripts/train/faces64_latent.py``.
"""

import torch

from benchmark_utils.files.convert import LATENT_UNET, VQ_F4, adm_to_diffusers, vq_to_diffusers
from benchmark_utils.files.weights import Asset, Published, load_networks, read_archive
from benchmark_utils.priors.base import PriorSpec
from benchmark_utils.priors.networks import Autoencoder, Network
from benchmark_utils.schedule import NoiseSchedule


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


# the authors publish no checksums, so a zip file is checked by the sums that it contains
FFHQ_WEIGHTS = Published(
    name="ffhq256_latent",
    url="https://ommer-lab.com/files/latent-diffusion",
    converters={"ffhq.zip": denoiser_tensors, "vq-f4.zip": autoencoder_tensors},
    read=read_archive,
)


def ffhq256_latent(force_not_quantize=False, checkpoint=False):
    shapes = {"event_shape": (3, 64, 64), "signal_shape": (3, 256, 256)}

    def load(device):
        unet, model = LATENT_UNET.network(), VQ_F4.network()
        load_networks(FFHQ_WEIGHTS.find(), {"unet.": unet, "autoencoder.": model})
        autoencoder = Autoencoder(model, force_not_quantize=force_not_quantize)
        return Network(unet, latent_schedule(), device, **shapes, autoencoder=autoencoder, checkpoint=checkpoint)

    return PriorSpec(family="ffhq_latent", load=load, is_latent=True, weights=FFHQ_WEIGHTS, **shapes)


PATCH = 2  # the small autoencoder works on the space-to-depth image: 12 channels, 32x32
LATENT_SHAPE, TINY_SHAPE = (8, 16, 16), (3, 64, 64)


def tiny_autoencoder():
    """``AutoencoderKL`` between (12, 32, 32), a 64-px RGB image in patches, and (8, 16, 16); 0.7 M parameters."""
    from diffusers import AutoencoderKL  # seconds to import, so only when a network is built

    return AutoencoderKL(
        in_channels=3 * PATCH**2,
        out_channels=3 * PATCH**2,
        latent_channels=LATENT_SHAPE[0],
        sample_size=64 // PATCH,
        block_out_channels=(48, 64),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        layers_per_block=1,
        norm_num_groups=8,
        mid_block_add_attention=False,
    )


def tiny_unet():
    """``UNet2DModel`` on latents (8, 16, 16), predicting the velocity; 2.9 M parameters."""
    from diffusers import UNet2DModel

    return UNet2DModel(
        sample_size=LATENT_SHAPE[1],
        in_channels=LATENT_SHAPE[0],
        out_channels=LATENT_SHAPE[0],
        block_out_channels=(64, 96, 96),
        layers_per_block=1,
        norm_num_groups=8,
        attention_head_dim=32,
        down_block_types=("DownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
        flip_sin_to_cos=True,
        freq_shift=0,
    )


def tiny_prior(path, device, checkpoint=False):
    """The prior that ``scripts/train/faces64_latent.py`` wrote to a safetensors file."""
    unet, model = tiny_unet(), tiny_autoencoder()
    tensors = load_networks(path, {"unet.": unet, "autoencoder.": model})
    autoencoder = Autoencoder(model, scale=tensors["scale"].item(), patch=PATCH)
    schedule = latent_schedule()
    return Network(unet, schedule, device, LATENT_SHAPE, TINY_SHAPE, "v_prediction", autoencoder, checkpoint)


def faces64_latent(checkpoint=False):
    weights = Asset("faces64/faces64_latent.safetensors")
    return PriorSpec(
        family="ffhq_latent",
        signal_shape=TINY_SHAPE,
        event_shape=LATENT_SHAPE,
        is_latent=True,
        load=lambda device: tiny_prior(weights.find(), device, checkpoint),
        weights=weights,
    )


PRIORS = {"ffhq256_latent": ffhq256_latent, "faces64_latent": faces64_latent}
