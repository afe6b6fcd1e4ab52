"""Checkpoints of the guided-diffusion code in the layout of ``diffusers.UNet2DModel``."""

import re
from dataclasses import dataclass

import torch

HEAD_DIM = 64


@dataclass(frozen=True)
class ADMArchitecture:
    """Shape of an ADM network (Dhariwal and Nichol 2021, https://arxiv.org/abs/2105.05233, section 3 and table 4).

    ``channels`` is the width at full resolution, ``multipliers`` the factor of each level, which halves the
    resolution of the one before, ``res_blocks`` the residual blocks of a level. The levels in ``attention`` have
    self-attention with 64 channels a head; resampling is done by residual blocks, the time enters by scale and
    shift, and the six outputs are the noise and the variance.
    """

    channels: int
    res_blocks: int
    attention: tuple
    multipliers: tuple = (1, 1, 2, 2, 4, 4)

    def network(self):
        """A ``UNet2DModel`` of this shape, without memory for its weights (on the meta device)."""
        from diffusers import UNet2DModel  # seconds to import, so only when a network is built

        levels = range(len(self.multipliers))
        down = ["AttnDownBlock2D" if level in self.attention else "ResnetDownsampleBlock2D" for level in levels]
        up = ["AttnUpBlock2D" if level in self.attention else "ResnetUpsampleBlock2D" for level in reversed(levels)]
        with torch.device("meta"):
            return UNet2DModel(
                in_channels=3,
                out_channels=6,
                block_out_channels=tuple(self.channels * multiplier for multiplier in self.multipliers),
                layers_per_block=self.res_blocks,
                down_block_types=tuple(down),
                up_block_types=tuple(up),
                downsample_type="resnet",
                upsample_type="resnet",
                attention_head_dim=HEAD_DIM,
                attn_norm_num_groups=32,
                norm_eps=1e-5,
                resnet_time_scale_shift="scale_shift",
                flip_sin_to_cos=True,
                freq_shift=0,
            )


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
    missing = sorted(set(originals.values()) - set(state))
    unexpected = sorted(set(state) - set(originals.values()))
    if missing or unexpected:
        raise ValueError(
            f"this is not a checkpoint of {architecture}: "
            f"{len(missing)} tensors are missing{examples(missing)}, "
            f"{len(unexpected)} are unknown{examples(unexpected)}"
        )
    converted = {}
    for name, shape in shapes.items():
        tensor = state[originals[name]].float()
        head_matrix = re.search(r"\.to_([qkv])\.", name)
        expected = (3 * shape[0], *shape[1:]) if head_matrix else tuple(shape)
        # attention layers are 1-D convolutions in the original, so a matrix has a trailing axis of size 1
        if tuple(tensor.shape) not in (expected, (*expected, 1)):
            raise ValueError(
                f"this is not a checkpoint of {architecture}: {originals[name]} has shape {tuple(tensor.shape)} "
                f"instead of {expected}"
            )
        if head_matrix:
            tensor = tensor.view(-1, 3, HEAD_DIM, *tensor.shape[1:])[:, "qkv".index(head_matrix[1])]
        converted[name] = tensor.reshape(shape).contiguous()
    return converted


def examples(names):
    return f" ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})" if names else ""
