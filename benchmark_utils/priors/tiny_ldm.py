"""The networks behind the embedded prior ``faces64_latent``: a small autoencoder and a small latent U-Net."""

from diffusers import AutoencoderKL, UNet2DModel

PATCH = 2  # the autoencoder works on the space-to-depth image: 12 channels, 32x32
LATENT_SHAPE = (8, 16, 16)


def tiny_autoencoder():
    """``AutoencoderKL`` between (12, 32, 32), a 64-px RGB image in patches, and (8, 16, 16); 0.7 M parameters."""
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
