"""``ffhq256`` and ``imagenet256``: the pixel priors of the papers, 256-px networks of the guided-diffusion code.

FFHQ: Choi et al. 2021, "ILVR", https://arxiv.org/abs/2108.02938. ImageNet: Dhariwal and Nichol 2021, "Diffusion
Models Beat GANs on Image Synthesis", https://arxiv.org/abs/2105.05233, the unconditional network. Both predict the
noise behind the linear schedule of DDPM, 1000 levels.
"""

import functools

from benchmark_utils.files.convert import ADMArchitecture, adm_to_diffusers
from benchmark_utils.files.weights import HUB, Published, load_networks, read_checkpoint
from benchmark_utils.priors.base import PriorSpec
from benchmark_utils.priors.networks import Network
from benchmark_utils.schedule import NoiseSchedule

SHAPE = (3, 256, 256)
FFHQ = ADMArchitecture(channels=128, res_blocks=1, attention=(4,))
IMAGENET = ADMArchitecture(channels=256, res_blocks=2, attention=(3, 4, 5))
FFHQ_WEIGHTS = Published(
    name="ffhq256",
    url=f"{HUB}/deepinv/diffunet",
    converters={"diffusion_ffhq_10m.pt": functools.partial(adm_to_diffusers, architecture=FFHQ)},
    read=read_checkpoint,
    size=374_417_833,
    sha256="81d535743156ec6be34d8668e6920da94f0614074d7793a16c8fa9e306237faa",
)
IMAGENET_WEIGHTS = Published(
    name="imagenet256",
    url=f"{HUB}/deepinv/diffunet",
    converters={"diffusion_openai.pt": functools.partial(adm_to_diffusers, architecture=IMAGENET)},
    read=read_checkpoint,
    size=2_211_383_297,
    sha256="a37c32fffd316cd494cf3f35b339936debdc1576dad13fe57c42399a5dbc78b1",
)


def adm_spec(family, architecture, weights):
    def load(device):
        network = architecture.network()
        load_networks(weights.find(), {"": network})
        return Network(network, NoiseSchedule.linear(), device, SHAPE)

    return PriorSpec(family=family, signal_shape=SHAPE, load=load, weights=weights)


PRIORS = {
    "ffhq256": functools.partial(adm_spec, "ffhq", FFHQ, FFHQ_WEIGHTS),
    "imagenet256": functools.partial(adm_spec, "imagenet", IMAGENET, IMAGENET_WEIGHTS),
}
