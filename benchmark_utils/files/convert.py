"""Checkpoints of the guided-diffusion and latent-diffusion codes in the layout of diffusers' networks."""

import re
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class ADMArchitecture:
    """Shape of an ADM network (Dhariwal and Nichol 2021, https://arxiv.org/abs/2105.05233, section 3 and table 4).

    ``channels`` is the width at full resolution, ``multipliers`` the factor of each level, which halves the
    resolution of the one before, ``res_blocks`` the residual blocks of a level. The levels in ``attention`` have
    self-attention with ``head_dim`` channels a head. In pixel networks resampling is done by residual blocks, the
    time enters by scale and shift, and the six outputs are the noise and the variance; ``plain`` networks, those of
    latent diffusion, resample by convolutions, add the time, and have the noise for output only.
    """

    channels: int
    res_blocks: int
    attention: tuple
    multipliers: tuple = (1, 1, 2, 2, 4, 4)
    head_dim: int = 64
    plain: bool = False

    def network(self):
        """A ``UNet2DModel`` of this shape, without memory for its weights (on the meta device)."""
        from diffusers import UNet2DModel  # seconds to import, so only when a network is built

        levels = range(len(self.multipliers))
        without_attention = ("DownBlock2D", "UpBlock2D") if self.plain else RESAMPLING_BLOCKS
        down = ["AttnDownBlock2D" if level in self.attention else without_attention[0] for level in levels]
        up = ["AttnUpBlock2D" if level in self.attention else without_attention[1] for level in reversed(levels)]
        with torch.device("meta"):
            return UNet2DModel(
                in_channels=3,
                out_channels=3 if self.plain else 6,
                block_out_channels=tuple(self.channels * multiplier for multiplier in self.multipliers),
                layers_per_block=self.res_blocks,
                down_block_types=tuple(down),
                up_block_types=tuple(up),
                downsample_type="conv" if self.plain else "resnet",
                upsample_type="conv" if self.plain else "resnet",
                attention_head_dim=self.head_dim,
                attn_norm_num_groups=32,
                norm_eps=1e-5,
                resnet_time_scale_shift="default" if self.plain else "scale_shift",
                flip_sin_to_cos=True,
                freq_shift=0,
            )


RESAMPLING_BLOCKS = "ResnetDownsampleBlock2D", "ResnetUpsampleBlock2D"
RESIDUAL = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
ATTENTION = {"group_norm": "norm", "to_q": "qkv", "to_k": "qkv", "to_v": "qkv", "to_out.0": "proj_out"}
ENDS = {
    "conv_in": "input_blocks.0.0",
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
}


def original_name(name, architecture):
    """Name in a guided-diffusion checkpoint of the tensor that ``UNet2DModel`` calls ``name``."""
    module, leaf = name.rsplit(".", 1)
    if module in ENDS:
        return f"{ENDS[module]}.{leaf}"
    side, level, kind, index, part = re.fullmatch(
        r"(down|mid|up)_blocks?\.?(\d*)\.(resnets|attentions|downsamplers|upsamplers)\.(\d+)\.(.+)", module
    ).groups()
    if part == "conv":
        part = "op" if kind == "downsamplers" else "conv"
    else:
        part = ATTENTION[part] if kind == "attentions" else RESIDUAL[part]
    index = int(index)
    if side == "mid":
        return f"middle_block.{1 if kind == 'attentions' else 2 * index}.{part}.{leaf}"
    # a level is a run of numbered blocks: residual block, then attention if it has any, at place 1;
    # going down one more block halves the resolution, going up the last block also doubles it
    level, n = int(level), architecture.res_blocks
    place = 1 if kind == "attentions" else 0
    if side == "down":
        block = 1 + level * (n + 1) + (n if kind == "downsamplers" else index)
        return f"input_blocks.{block}.{place}.{part}.{leaf}"
    block = level * (n + 1) + (n if kind == "upsamplers" else index)
    if kind == "upsamplers":
        place = 2 if len(architecture.multipliers) - 1 - level in architecture.attention else 1
    return f"output_blocks.{block}.{place}.{part}.{leaf}"


def adm_to_diffusers(state, architecture):
    """Tensors of a guided-diffusion ADM checkpoint, renamed and reshaped for ``architecture.network()``, in float32.

    The rows of an original attention layer are ordered (head, query/key/value, channel of the head); diffusers has
    one matrix each for queries, keys and values. Raises ValueError, naming tensors, if ``state`` has other names or
    shapes than this architecture.
    """
    shapes = {name: tensor.shape for name, tensor in architecture.network().state_dict().items()}
    originals = {name: original_name(name, architecture) for name in shapes}
    check_names(state, originals, architecture)
    converted = {}
    for name, shape in shapes.items():
        tensor = state[originals[name]].float()
        head_matrix = re.search(r"\.to_([qkv])\.", name)
        expected = (3 * shape[0], *shape[1:]) if head_matrix else tuple(shape)
        # attention layers are 1-D convolutions in the original, so a matrix has a trailing axis of size 1
        check_shape(tensor, originals[name], (expected, (*expected, 1)), architecture)
        if head_matrix:
            tensor = tensor.view(-1, 3, architecture.head_dim, *tensor.shape[1:])[:, "qkv".index(head_matrix[1])]
        converted[name] = tensor.reshape(shape).contiguous()
    return converted


# the U-Net of FFHQ in Rombach et al. 2022, https://arxiv.org/abs/2112.10752, appendix E
LATENT_UNET = ADMArchitecture(
    channels=224, res_blocks=2, attention=(1, 2, 3), multipliers=(1, 2, 3, 4), head_dim=32, plain=True
)


@dataclass(frozen=True)
class VQArchitecture:
    """Shape of an autoencoder of latent diffusion with a codebook (https://arxiv.org/abs/2112.10752, section 3.1).

    ``channels`` is the width at full resolution, ``multipliers`` the factor of each level, which halves the
    resolution of the one before, ``res_blocks`` the residual blocks of a level of the encoder (the decoder has one
    more), ``codes`` the number of vectors, of 3 channels each. Both halves have attention in the middle.
    """

    channels: int = 128
    multipliers: tuple = (1, 2, 4)
    res_blocks: int = 2
    codes: int = 8192

    def network(self):
        """A ``VQModel`` of this shape, without memory for its weights (on the meta device)."""
        from diffusers import VQModel  # seconds to import, so only when a network is built

        n_levels = len(self.multipliers)
        with torch.device("meta"):
            return VQModel(
                block_out_channels=tuple(self.channels * multiplier for multiplier in self.multipliers),
                down_block_types=("DownEncoderBlock2D",) * n_levels,
                up_block_types=("UpDecoderBlock2D",) * n_levels,
                layers_per_block=self.res_blocks,
                latent_channels=3,
                num_vq_embeddings=self.codes,
                scaling_factor=1.0,
            )


VQ_F4 = VQArchitecture()
VQ_PARTS = {
    "conv_shortcut": "nin_shortcut",
    "group_norm": "norm",
    "to_q": "q",
    "to_k": "k",
    "to_v": "v",
    "to_out.0": "proj_out",
    "conv_norm_out": "norm_out",
}


def original_vq_name(name, architecture):
    """Name in a latent-diffusion autoencoder of the tensor that ``VQModel`` calls ``name``."""
    module, leaf = name.rsplit(".", 1)
    block = re.fullmatch(r"(encoder|decoder)\.(down|mid|up)_blocks?\.?(\d*)\.(\w+)\.(\d+)\.(.+)", module)
    if not block:
        half, _, end = module.rpartition(".")
        return ".".join([*filter(None, [half]), VQ_PARTS.get(end, end), leaf])
    half, side, level, kind, index, part = block.groups()
    part = VQ_PARTS.get(part, part)
    if side == "mid":
        return f"{half}.mid.{'attn_1' if kind == 'attentions' else f'block_{int(index) + 1}'}.{part}.{leaf}"
    if side == "up":  # the original counts levels from full resolution in both halves
        level = len(architecture.multipliers) - 1 - int(level)
    place = f"{side}sample" if kind.endswith("samplers") else f"block.{index}"
    return f"{half}.{side}.{level}.{place}.{part}.{leaf}"


def vq_to_diffusers(state, architecture):
    """Tensors of a latent-diffusion autoencoder, renamed and reshaped for ``architecture.network()``, in float32.

    The original's attention layers are 1x1 convolutions, those of diffusers are matrices. Raises ValueError, naming
    tensors, if ``state`` has other names or shapes than this architecture.
    """
    shapes = {name: tensor.shape for name, tensor in architecture.network().state_dict().items()}
    originals = {name: original_vq_name(name, architecture) for name in shapes}
    check_names(state, originals, architecture)
    converted = {}
    for name, shape in shapes.items():
        tensor = state[originals[name]].float()
        check_shape(tensor, originals[name], (tuple(shape), (*shape, 1, 1)), architecture)
        converted[name] = tensor.reshape(shape).contiguous()
    return converted


def check_names(state, originals, architecture):
    """Raise ValueError, naming tensors, unless ``state`` has the tensors ``originals.values()`` and no others."""
    missing = sorted(set(originals.values()) - set(state))
    unexpected = sorted(set(state) - set(originals.values()))
    if missing or unexpected:
        raise ValueError(
            f"this is not a checkpoint of {architecture}: "
            f"{len(missing)} tensors are missing{examples(missing)}, "
            f"{len(unexpected)} are unknown{examples(unexpected)}"
        )


def check_shape(tensor, name, allowed, architecture):
    if tuple(tensor.shape) not in allowed:
        raise ValueError(
            f"this is not a checkpoint of {architecture}: {name} has shape {tuple(tensor.shape)} "
            f"instead of {allowed[0]}"
        )


def examples(names):
    return f" ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})" if names else ""
