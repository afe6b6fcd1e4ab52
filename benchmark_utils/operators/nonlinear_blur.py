"""Nonlinear blur: a network that blurs an image as a random kernel code says."""

from itertools import pairwise

import torch
import torch.nn.functional as F
from deepinv.physics import Physics
from torch import nn

from benchmark_utils.files.weights import UserFiles, read_checkpoint
from benchmark_utils.operators.per_image import PerImage
from benchmark_utils.rng import RNG

CODE_STD = 1.2
WEIGHTS = UserFiles(
    "nonlinear_blur",
    "download GOPRO_wVAE.pth, which https://github.com/VinAIResearch/blur-kernel-space-exploring links",
)


class ResidualBlock(nn.Module):
    """``h + conv(relu(conv(h)))`` on (n, width, H, W)."""

    def __init__(self, width):
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, h):
        return h + self.conv2(self.conv1(h).relu())


class KernelAdapter(nn.Module):
    """U-Net that mixes a kernel code into features: (n, width, h, w) and (n, 8 width, h/32, w/32) -> features.

    Five halvings to widths (1, 2, 4, 8, 8) x width; the code joins at the bottom; on the way up two 5x5
    convolutions and a bilinear doubling per level. Every skip carries the activated input of its level.
    """

    def __init__(self, width):
        super().__init__()
        widths = [width, width, 2 * width, 4 * width, 8 * width, 8 * width]
        levels = list(pairwise(widths))
        self.down = nn.ModuleList(nn.Conv2d(outer, inner, 4, 2, 1, bias=False) for outer, inner in levels)
        self.up1 = nn.ModuleList(nn.Conv2d(2 * inner, outer, 5, padding=2) for outer, inner in levels)
        self.up2 = nn.ModuleList(nn.Conv2d(outer, outer, 5, padding=2) for outer, inner in levels)

    def forward(self, h, code):
        h = self.down[0](h)
        skips = []
        for down in self.down[1:]:
            skips.append(F.leaky_relu(h, 0.2))
            h = down(skips[-1])
        joined = code
        for up1, up2 in zip(reversed(self.up1), reversed(self.up2), strict=True):
            h = up2(up1(torch.cat([h, joined], 1).relu()).relu()).relu()
            h = F.interpolate(h, scale_factor=2, mode="bilinear", align_corners=True)
            joined = skips.pop() if skips else None
        return h.tanh()


class KernelWizard(nn.Module):
    """Blurs images (n, 3, H, W) in [0, 1] by codes (n, 8 width, H/128, W/128).

    The decoder of BKSE (Tran et al. 2021, "Explore Image Deblurring via Encoded Blur Kernel Space",
    https://arxiv.org/abs/2104.00317): features at a quarter of the resolution after 10 residual blocks, the
    adapter, 20 residual blocks, two pixel shuffles, and the result is added to the image.
    """

    def __init__(self, width=64, n_front=10, n_back=20):
        super().__init__()
        activation = nn.LeakyReLU(0.1)
        self.feature_extractor = nn.Sequential(
            *(nn.Conv2d(3, width, 3, padding=1), activation),
            *(nn.Conv2d(width, width, 3, 2, 1), activation),
            *(nn.Conv2d(width, width, 3, 2, 1), activation),
            *(ResidualBlock(width) for _ in range(n_front)),
        )
        self.adapter = KernelAdapter(width)
        self.recon_trunk = nn.Sequential(
            *(ResidualBlock(width) for _ in range(n_back)),
            *(nn.Conv2d(width, 4 * width, 3, padding=1), nn.PixelShuffle(2), activation),
            *(nn.Conv2d(width, 4 * width, 3, padding=1), nn.PixelShuffle(2), activation),
            *(nn.Conv2d(width, width, 3, padding=1), activation),
            nn.Conv2d(width, 3, 3, padding=1),
        )

    def forward(self, x, code):
        return x + self.recon_trunk(self.adapter(self.feature_extractor(x), code))


def load_kernel_wizard():
    """The frozen network with the weights of the user's ``nonlinear_blur`` file, the published GOPRO_wVAE.pth.

    The encoder of the file (``kernel_extractor``), which finds the code of a pair of images, is not used; every
    other key must be there and fit. The width is that of the first convolution (64 as published). Raises
    FileNotFoundError if there is no file, ValueError if it is damaged or if a key is missing, unknown or of
    another shape.
    """
    path = WEIGHTS.find()
    found = {key: value for key, value in read_checkpoint(path).items() if not key.startswith("kernel_extractor.")}
    first = found.get("feature_extractor.0.weight")
    network = KernelWizard(64 if first is None else len(first))
    expected = {published_name(name): value.shape for name, value in network.state_dict().items()}
    shapes = {key: value.shape for key, value in found.items()}
    wrong = sorted(key for key in expected.keys() | shapes.keys() if expected.get(key) != shapes.get(key))
    if wrong:
        raise ValueError(
            f"{path} is not the network of the nonlinear blur: {len(wrong)} keys are missing, unknown or of another "
            f"shape, first {wrong[0]}; {WEIGHTS.remedy}"
        )
    network.load_state_dict({name: found[published_name(name)] for name in network.state_dict()})
    return network.eval().requires_grad_(False)


def published_name(name):
    """Key in the published checkpoint, where each level of the adapter lies inside the one above it."""
    if not name.startswith("adapter."):
        return name
    _, part, level, kind = name.split(".")
    inside = "adapter.model." + "submodule." * int(level)
    if part == "down":
        place = "down.0" if level == "0" else "down.1"  # after the activation, which the first level has not
    else:
        place = "up.1.double_conv.0" if part == "up1" else "up.1.double_conv.2"
    return f"{inside}{place}.{kind}"


def nonlinear_blur(shape, images):
    """:class:`NonlinearBlur` of images (3, H, W): one code ``1.2 N(0, I)`` per image number, seeded by it.

    Raises ValueError if H and W are not multiples of 128 (the code is 2x2 at 256 px), and the errors of
    :func:`load_kernel_wizard`.
    """
    _, height, width = shape
    if height % 128 or width % 128:
        raise ValueError(
            f"the nonlinear blur needs sizes that are multiples of 128, got {height}x{width}: "
            "choose a prior of 256-px images"
        )
    network = load_kernel_wizard()
    n_channels = network.adapter.down[-1].out_channels
    stream = RNG(0, "operator", "nonlinear_blur", images, dtype=torch.float64)
    return NonlinearBlur(network, CODE_STD * stream.randn(n_channels, height // 128, width // 128))


class NonlinearBlur(PerImage, Physics):
    """``A(x)`` is the network's blur of x mapped to [0, 1], mapped back and clamped: (n, 3, H, W) in [-1, 1].

    DPS (Chung et al. 2023, https://arxiv.org/abs/2209.14687) and MGDM draw another code at every call of A; here
    an image keeps its code, so that y has a likelihood (as in DAPS, Zhang et al. 2025,
    https://arxiv.org/abs/2407.01521).
    """

    per_image = ("codes",)

    def __init__(self, network, codes):
        super().__init__()
        self.network = network
        self.register_buffer("codes", codes)

    def A(self, x, **_):
        return (2 * self.network((x + 1) / 2, self.codes) - 1).clamp(-1, 1)

    def first_guess(self, y):
        return y
