"""``slakh_msdm`` and ``slakh_isdm``: the networks of MSDM for four stems of Slakh2100, from the user's checkpoints.

Mariani et al. 2024, "Multi-Source Diffusion Models for Simultaneous Music Generation and Separation",
https://arxiv.org/abs/2302.02257. ``slakh_msdm`` is the joint model, ``slakh_isdm`` four models of one stem each (the
paper's weakly supervised separation). The weights have no stable address, so their path is the user's.
"""

import functools
import importlib.metadata

import torch

from benchmark_utils.files.weights import UserFiles, load_checkpoint
from benchmark_utils.metrics import STEMS
from benchmark_utils.priors.base import LoadedPrior, PriorSpec, expand_like, freeze, rows_of_level
from benchmark_utils.priors.slakh_gaussian import audio_schedule

PACKAGE, VERSIONS = "audio-diffusion-pytorch", ("0.0.42", "0.0.43")
PREFIX = "model.unet."
SIGMA_DATA = 0.2
LENGTH_MULTIPLE = 8192  # the network shortens a signal by 16 * 4 * 4 * 4 * 2 * 2 * 2
ARCHITECTURE = {
    "channels": 256,
    "patch_factor": 16,
    "patch_blocks": 1,
    "kernel_sizes_init": (1, 3, 7),
    "multipliers": (1, 2, 4, 4, 4, 4, 4),
    "factors": (4, 4, 4, 2, 2, 2),
    "num_blocks": (2, 2, 2, 2, 2, 2),
    "attentions": (False, False, False, True, True, True),
    "attention_heads": 8,
    "attention_features": 128,
    "attention_multiplier": 2,
    "use_attention_bottleneck": True,
    "resnet_groups": 8,
    "kernel_multiplier_downsample": 2,
    "use_nearest_upsample": False,
    "use_skip_scale": True,
    "use_context_time": True,
}


def require_package():
    """Raise FileNotFoundError, saying what to do, unless the package with the network of MSDM is installed."""
    try:
        version = importlib.metadata.version(PACKAGE)
    except importlib.metadata.PackageNotFoundError:
        version = "none"
    if version not in VERSIONS:
        raise FileNotFoundError(
            f"the network of MSDM needs {PACKAGE} {' or '.join(VERSIONS)}, other versions have another network; "
            f"installed: {version}. Run `pip install '.[audio]' -c constraints.txt`"
        )


def read_network(path, n_stems, architecture):
    """The ``UNet1d`` of a checkpoint of MSDM's training code, without copying its tensors.

    Raises ValueError, naming the file, if it is damaged or holds another network.
    """
    from audio_diffusion_pytorch import LogNormalDistribution, UNet1d  # only this prior has the package

    with torch.device("meta"):
        network = UNet1d(in_channels=n_stems, **architecture)
    # the hyper-parameters hold one object of this class, which is plain data
    with torch.serialization.safe_globals([LogNormalDistribution]):
        checkpoint = load_checkpoint(path, mmap=True)
    if not (isinstance(checkpoint, dict) and "state_dict" in checkpoint):
        raise ValueError(f"{path} has no `state_dict`: give the .ckpt file of MSDM's training code")
    # the same tensors are there a second time, as model.diffusion.net.*
    state = {
        name.removeprefix(PREFIX): tensor
        for name, tensor in checkpoint["state_dict"].items()
        if name.startswith(PREFIX)
    }
    if not state:
        raise ValueError(f"{path} has no tensors {PREFIX}*: it is not a checkpoint of MSDM")
    try:
        network.load_state_dict(state, assign=True)
    except RuntimeError as error:
        raise ValueError(f"{path} does not hold a network of MSDM for {n_stems} stems: {error}") from error
    return network


class StemNetworks(LoadedPrior):
    """Networks of MSDM behind the noise levels of :func:`audio_schedule`; each sees an equal part of the stems.

    With ``s_d = 0.2`` (Karras et al. 2022, https://arxiv.org/abs/2206.00364, table 1):
      D(x; s) = clip(s_d^2 / (s^2 + s_d^2) x + s s_d / sqrt(s^2 + s_d^2) F(x / sqrt(s^2 + s_d^2), ln(s) / 4), -1, 1)
    They were trained at ln s ~ N(-3, 1), so they have hardly seen levels above s = 1.
    """

    dtype = torch.float32

    def __init__(self, networks, length, sigma_max, device):
        self.device = torch.device(device)
        self.event_shape = self.signal_shape = (len(STEMS), length)
        self.schedule = audio_schedule(sigma_max)
        self.networks = [freeze(network.float(), self.device) for network in networks]

    def denoise_sigma(self, x, sigma):
        sigma = rows_of_level(sigma, x).to(x)
        label, sigma = sigma.log() / 4, expand_like(sigma, x)
        scale = (sigma**2 + SIGMA_DATA**2) ** 0.5
        parts = (x / scale).chunk(len(self.networks), 1)
        with self.autocast():
            output = torch.cat([network(part, label) for network, part in zip(self.networks, parts, strict=True)], 1)
        return ((SIGMA_DATA / scale) ** 2 * x + sigma * SIGMA_DATA / scale * output).clamp(-1, 1)


class StemCheckpoints(UserFiles):
    """Checkpoints of the user: one file for all stems, or a folder with one ``STEM.ckpt`` each."""

    def require(self):
        require_package()
        super().require()

    def load(self, length, sigma_max, device, architecture=ARCHITECTURE):
        paths = self.prepare()
        networks = [read_network(path, len(STEMS) // len(paths), architecture) for path in paths]
        return StemNetworks(networks, length, sigma_max, device)


def stem_networks(weights, length=2**18, sigma_max=20.0):
    if length % LENGTH_MULTIPLE or length < LENGTH_MULTIPLE:
        raise ValueError(f"{weights.name} needs a length that is a multiple of {LENGTH_MULTIPLE}, got {length}")
    load = functools.partial(weights.load, length, sigma_max)
    return PriorSpec(family="audio", signal_shape=(len(STEMS), length), load=load, weights=weights)


GET = "get the checkpoints that https://github.com/gladia-research-group/multi-source-diffusion-models lists"
WEIGHTS = {
    "slakh_msdm": StemCheckpoints("slakh_msdm", f"{GET}, here one .ckpt file"),
    "slakh_isdm": StemCheckpoints("slakh_isdm", f"{GET}, here a folder", tuple(f"{stem}.ckpt" for stem in STEMS)),
}
PRIORS = {name: functools.partial(stem_networks, weights) for name, weights in WEIGHTS.items()}
