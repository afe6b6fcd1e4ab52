"""``ffhq256`` and ``imagenet256``: the pixel priors of the papers, 256-px networks of the guided-diffusion code.

FFHQ: Choi et al. 2021, "ILVR", https://arxiv.org/abs/2108.02938. ImageNet: Dhariwal and Nichol 2021, "Diffusion
Models Beat GANs on Image Synthesis", https://arxiv.org/abs/2105.05233, the unconditional network.
"""

import functools

import torch

from benchmark_utils.files.convert import ADMArchitecture, adm_to_diffusers
from benchmark_utils.files.weights import Checkpoint
from benchmark_utils.priors.base import LoadedPrior, PriorSpec, expand_like, frozen, rows_of_level
from benchmark_utils.schedule import NoiseSchedule


class LabelNetwork(LoadedPrior):
    """A noise-predicting network trained with labels 0..T-1: level t of the schedule has label t - 1.

    ``network(x_t, label).sample`` is called with float labels (n,); its first channels, as many as x_t has, are the
    predicted noise (others are a learned variance, which no sampler uses).
    """

    dtype = torch.float32

    def __init__(self, network, schedule, device):
        self.device = torch.device(device)
        self.schedule = schedule
        self.network = frozen(network, self.device)
        self.networks = [self.network]
        self.log_sigma = schedule.sigma(torch.arange(1, schedule.T + 1)).log().to(self.device)

    def predict_noise(self, x_t, label):
        """``E[eps | x_t]`` for labels (n,); (n, *event) -> (n, *event)."""
        with self.autocast():
            predicted = self.network(x_t, label.to(x_t)).sample
        return predicted[:, : x_t.shape[1]].to(x_t)

    def label_of(self, sigma):
        """Label (n,) of noise levels sigma (n,): linear in log sigma between the table's levels, clamped to them."""
        log_sigma = sigma.double().log().clamp(self.log_sigma[0], self.log_sigma[-1])
        above = torch.searchsorted(self.log_sigma, log_sigma).clamp(min=1)
        below = self.log_sigma[above - 1]
        return above - 1 + (log_sigma - below) / (self.log_sigma[above] - below)

    def denoise(self, x_t, t):
        abar = self.schedule.abar(t)
        noise = expand_like((1 - abar) ** 0.5, x_t) * self.predict_noise(x_t, rows_of_level(t, x_t) - 1)
        return (x_t - noise) / expand_like(abar**0.5, x_t)

    def denoise_sigma(self, x, sigma):
        sigma = rows_of_level(sigma, x)
        x_t = x / expand_like((1 + sigma**2).sqrt(), x)
        return x - expand_like(sigma, x) * self.predict_noise(x_t, self.label_of(sigma))


class ADM(LabelNetwork):
    """An ADM network behind the linear schedule of DDPM, 1000 levels."""

    event_shape = signal_shape = (3, 256, 256)

    def __init__(self, architecture, weights, device):
        network = architecture.network()
        weights.load_into(network)
        super().__init__(network, NoiseSchedule.linear(), device)


FFHQ = ADMArchitecture(channels=128, res_blocks=1, attention=(4,))
IMAGENET = ADMArchitecture(channels=256, res_blocks=2, attention=(3, 4, 5))
FFHQ_WEIGHTS = Checkpoint(
    name="ffhq256",
    repo="deepinv/diffunet",
    file="diffusion_ffhq_10m.pt",
    size=374_417_833,
    sha256="81d535743156ec6be34d8668e6920da94f0614074d7793a16c8fa9e306237faa",
    convert=functools.partial(adm_to_diffusers, architecture=FFHQ),
)
IMAGENET_WEIGHTS = Checkpoint(
    name="imagenet256",
    repo="deepinv/diffunet",
    file="diffusion_openai.pt",
    size=2_211_383_297,
    sha256="a37c32fffd316cd494cf3f35b339936debdc1576dad13fe57c42399a5dbc78b1",
    convert=functools.partial(adm_to_diffusers, architecture=IMAGENET),
)


def adm_spec(family, architecture, weights):
    load = functools.partial(ADM, architecture, weights)
    return PriorSpec(family=family, signal_shape=ADM.signal_shape, load=load, weights=weights)


PRIORS = {
    "ffhq256": functools.partial(adm_spec, "ffhq", FFHQ, FFHQ_WEIGHTS),
    "imagenet256": functools.partial(adm_spec, "imagenet", IMAGENET, IMAGENET_WEIGHTS),
}
