"""The autoencoder of latent diffusion in plain torch, with the tensor names of its published checkpoints.

Written from the architecture that Rombach et al. 2022 (https://arxiv.org/abs/2112.10752) take from Esser et al. 2021
(https://arxiv.org/abs/2012.09841, table 7): GroupNorm with 32 groups and eps 1e-6, swish, strided convolutions padded
at the right and the bottom, nearest-neighbour upsampling, one attention head in the middle.
"""

import torch
import torch.nn.functional as F
from torch import nn


def norm(channels):
    return nn.GroupNorm(32, channels, eps=1e-6)


class Block(nn.Module):
    def __init__(self, inputs, outputs):
        super().__init__()
        self.norm1, self.conv1 = norm(inputs), nn.Conv2d(inputs, outputs, 3, padding=1)
        self.norm2, self.conv2 = norm(outputs), nn.Conv2d(outputs, outputs, 3, padding=1)
        if inputs != outputs:
            self.nin_shortcut = nn.Conv2d(inputs, outputs, 1)

    def forward(self, x):
        h = self.conv1(F.silu(self.norm1(x)))
        h = self.conv2(F.silu(self.norm2(h)))
        return h + (self.nin_shortcut(x) if hasattr(self, "nin_shortcut") else x)


class Attention(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.norm = norm(channels)
        self.q, self.k, self.v, self.proj_out = (nn.Conv2d(channels, channels, 1) for _ in range(4))

    def forward(self, x):
        h = self.norm(x)
        q, k, v = (layer(h).flatten(2) for layer in (self.q, self.k, self.v))  # (n, channels, places)
        weights = torch.einsum("ncq,nck->nqk", q, k).div(q.shape[1] ** 0.5).softmax(2)
        return x + self.proj_out(torch.einsum("nqk,nck->ncq", weights, v).view_as(x))


class Resampling(nn.Module):
    def __init__(self, channels, up):
        super().__init__()
        self.up = up
        self.conv = nn.Conv2d(channels, channels, 3, stride=1 if up else 2, padding=1 if up else 0)

    def forward(self, x):
        return self.conv(F.interpolate(x, scale_factor=2.0) if self.up else F.pad(x, (0, 1, 0, 1)))


def middle(channels):
    parts = {"block_1": Block(channels, channels), "attn_1": Attention(channels), "block_2": Block(channels, channels)}
    return nn.ModuleDict(parts)


class Encoder(nn.Module):
    def __init__(self, channels, multipliers, n_blocks):
        super().__init__()
        self.conv_in = nn.Conv2d(3, channels, 3, padding=1)
        self.down, width = nn.ModuleList(), channels
        for level, multiplier in enumerate(multipliers):
            blocks = nn.ModuleList()
            for _ in range(n_blocks):
                blocks.append(Block(width, channels * multiplier))
                width = channels * multiplier
            parts = nn.ModuleDict({"block": blocks})
            if level < len(multipliers) - 1:
                parts["downsample"] = Resampling(width, up=False)
            self.down.append(parts)
        self.mid, self.norm_out, self.conv_out = middle(width), norm(width), nn.Conv2d(width, 3, 3, padding=1)

    def forward(self, x):
        h = self.conv_in(x)
        for level in self.down:
            for block in level["block"]:
                h = block(h)
            h = level["downsample"](h) if "downsample" in level else h
        for part in self.mid.values():
            h = part(h)
        return self.conv_out(F.silu(self.norm_out(h)))


class Decoder(nn.Module):
    def __init__(self, channels, multipliers, n_blocks):
        super().__init__()
        width = channels * multipliers[-1]
        self.conv_in, self.mid = nn.Conv2d(3, width, 3, padding=1), middle(width)
        levels = []  # from the smallest resolution; numbered from the largest
        for level in reversed(range(len(multipliers))):
            blocks = nn.ModuleList()
            for _ in range(n_blocks + 1):
                blocks.append(Block(width, channels * multipliers[level]))
                width = channels * multipliers[level]
            parts = nn.ModuleDict({"block": blocks})
            if level > 0:
                parts["upsample"] = Resampling(width, up=True)
            levels.insert(0, parts)
        self.up = nn.ModuleList(levels)
        self.norm_out, self.conv_out = norm(width), nn.Conv2d(width, 3, 3, padding=1)

    def forward(self, z):
        h = self.conv_in(z)
        for part in self.mid.values():
            h = part(h)
        for level in reversed(self.up):
            for block in level["block"]:
                h = block(h)
            h = level["upsample"](h) if "upsample" in level else h
        return self.conv_out(F.silu(self.norm_out(h)))


class OriginalVQ(nn.Module):
    def __init__(self, channels=128, multipliers=(1, 2, 4), n_blocks=2, codes=8192):
        super().__init__()
        self.encoder, self.decoder = (half(channels, multipliers, n_blocks) for half in (Encoder, Decoder))
        self.quantize = nn.ModuleDict({"embedding": nn.Embedding(codes, 3)})
        self.quant_conv, self.post_quant_conv = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)

    def encode(self, x):
        return self.quant_conv(self.encoder(x))

    def decode(self, z, quantise=True):
        if quantise:
            codes = self.quantize["embedding"].weight
            rows = z.movedim(1, -1)
            nearest = (rows[..., None, :] - codes).square().sum(-1).argmin(-1)
            z = codes[nearest].movedim(-1, 1)
        return self.decoder(self.post_quant_conv(z))
