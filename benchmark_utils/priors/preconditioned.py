"""Networks that are trained at noise levels sigma, or at times of a flow, behind the interface of a prior.

All have the form ``D(x; sigma) = c_skip x + c_out F(c_in x + offset, label)`` with x = x_0 + sigma eps and x_0 in
[-1, 1]. A table of each kind of training, functions of sigma (n,):
"""

import math

import torch

from benchmark_utils.files.weights import load_networks
from benchmark_utils.priors.base import LoadedPrior, expand_like, freeze, rows_of_level
from benchmark_utils.priors.networks import Network
from benchmark_utils.schedule import NoiseSchedule

T = 1000  # levels of the schedules, which those of the training bound


class PreconditionedNetwork(Network):
    """A network with the labels of its noise levels; ``preconditioning`` is one of the functions below.

    Levels outside of ``levels``, the smallest and largest of its training, keep their scalings; the label is clamped.
    """

    denoise = LoadedPrior.denoise  # through sigma

    def __init__(self, network, preconditioning, levels, schedule, *arguments, **options):
        super().__init__(network, schedule, *arguments, **options)
        self.preconditioning, self.levels = preconditioning, levels

    def denoise_sigma(self, x, sigma):
        sigma = rows_of_level(sigma, x)
        *scalings, offset = self.preconditioning(sigma)[:4]
        label = self.preconditioning(sigma.clamp(*self.levels))[4]
        c_skip, c_out, c_in = (expand_like(values, x) for values in scalings)
        return c_skip * x + c_out * self.predict(c_in * x + offset, label)


class EmbeddedDenoiser(LoadedPrior):
    """A shipped network ``D(x; sigma)`` for signals of one shape, used through the DDPM table at its exact sigma_t."""

    dtype = torch.float32

    def __init__(self, network, weights, shape, device):
        self.device = torch.device(device)
        self.event_shape = self.signal_shape = shape
        self.schedule = NoiseSchedule.linear()
        load_networks(weights.find(), {"": network})
        self.network = freeze(network, self.device)
        self.networks = [self.network]

    def denoise_sigma(self, x, sigma):
        with self.autocast():
            return self.network(x, rows_of_level(sigma, x).to(x))


def edm(sigma, sigma_data, sign):
    """EDM (Karras et al. 2022, https://arxiv.org/abs/2206.00364, table 1): (c_skip, c_out, c_in, offset, label)."""
    total = sigma**2 + sigma_data**2
    return (
        sigma_data**2 / total,
        sign * sigma * sigma_data / total.sqrt(),
        total.rsqrt(),
        0.0,
        sigma.log() / 4,
    )


def consistency(sigma, sigma_data, sigma_min):
    """Consistency models (Song et al. 2023, https://arxiv.org/abs/2303.01469, appendix C), whose label is 250 ln sigma.

    What they predict is the end of the flow, one point, which stands for the mean ``E[x_0 | x]`` here.
    """
    total = sigma**2 + sigma_data**2
    c_skip = sigma_data**2 / ((sigma - sigma_min) ** 2 + sigma_data**2)
    return c_skip, (sigma - sigma_min) * sigma_data / total.sqrt(), total.rsqrt(), 0.0, 250 * sigma.log()


def score_of_unit_images(sigma):
    """Score of images in [0, 1] at sigma / 2 (Song et al. 2021, https://arxiv.org/abs/2011.13456, VE)."""
    half = torch.full_like(sigma, 0.5)
    return torch.ones_like(sigma), sigma**2 / 2, half, 0.5, sigma / 2


def flow(sigma, n_labels):
    """Velocity ``eps - x_0`` at ``(1 - s) x_0 + s eps``, ``s = sigma / (1 + sigma)``, with label ``n_labels s``."""
    s = sigma / (1 + sigma)
    return 1 - s, -s, 1 - s, 0.0, n_labels * s


def from_scheduler(scheduler):
    """(preconditioning, (smallest, largest level), NoiseSchedule) of a diffusers scheduler; None for another kind.

    Raises ValueError for an EDM scheduler with an unknown prediction.
    """
    config, kind = scheduler.config, type(scheduler).__name__

    def karras(precondition):
        levels = config.sigma_min, config.sigma_max
        return precondition, levels, NoiseSchedule.karras(*levels, config.rho, T)

    if kind.startswith("EDM"):
        signs = {"epsilon": 1, "v_prediction": -1}
        if config.prediction_type not in signs:
            raise ValueError(f"{kind} with prediction {config.prediction_type}; known: {', '.join(signs)}")
        return karras(lambda sigma: edm(sigma, config.sigma_data, signs[config.prediction_type]))
    if kind == "CMStochasticIterativeScheduler":
        return karras(lambda sigma: consistency(sigma, config.sigma_data, config.sigma_min))
    if kind == "ScoreSdeVeScheduler":
        levels = 2 * config.sigma_min, 2 * config.sigma_max
        ratio = math.log(levels[1] / levels[0]) / (T - 1)
        sigmas = [levels[0] * math.exp(ratio * t) for t in range(T)]
        return score_of_unit_images, levels, NoiseSchedule([1 / (1 + sigma**2) for sigma in sigmas])
    if kind.startswith("FlowMatch") or config.get("prediction_type") == "flow_prediction":
        n = config.num_train_timesteps
        sigmas = [t / (T + 1 - t) for t in range(1, T + 1)]  # s = t / (T + 1): pure noise, s = 1, has no sigma
        schedule = NoiseSchedule([1 / (1 + sigma**2) for sigma in sigmas])
        return lambda sigma: flow(sigma, n), (sigmas[0], sigmas[-1]), schedule
    return None
