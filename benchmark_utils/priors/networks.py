"""Networks trained with the labels of a noise schedule behind the interface of a prior, in pixel or latent space."""

import functools

import torch
import torch.nn.functional as F
from torch.utils.checkpoint import checkpoint as recompute

from benchmark_utils.priors.base import LoadedPrior, expand_like, freeze, rows_of_level

MICRO_BATCH = 8
PREDICTIONS = "epsilon", "v_prediction", "sample"  # as schedulers of diffusers call them


class Network(LoadedPrior):
    """A network trained with labels 0..T-1, on images or on the latents of an :class:`Autoencoder`.

    ``network(x_t, label).sample`` is called with float labels (n,), t - 1 for level t of the schedule; its first
    channels, as many as x_t has, are the prediction (others are a learned variance, which no sampler uses).
    ``prediction`` is "epsilon" (the noise), "v_prediction" (the velocity ``sqrt(abar) eps - sqrt(1 - abar) x_0``) or
    "sample" (x_0). ``checkpoint``: of each block of the networks only the input is kept for the gradient and the rest
    is computed a second time: less memory, more time.
    """

    dtype = torch.float32

    def __init__(
        self,
        network,
        schedule,
        device,
        event_shape,
        signal_shape=None,
        prediction="epsilon",
        autoencoder=None,
        checkpoint=False,
    ):
        self.device = torch.device(device)
        self.schedule, self.prediction, self.autoencoder = schedule, prediction, autoencoder
        self.event_shape, self.signal_shape = event_shape, signal_shape or event_shape
        self.network = freeze(network, self.device)
        self.networks = [self.network]
        self.log_sigma = schedule.sigma(torch.arange(1, schedule.T + 1)).log().to(self.device)
        if autoencoder:
            freeze(autoencoder.model, self.device)
            self.networks += [autoencoder.model.encoder, autoencoder.model.decoder]
        if checkpoint:
            for network in (self.network, autoencoder.model) if autoencoder else (self.network,):
                network._supports_gradient_checkpointing = True  # the class VQModel does not say so, its halves do
                network.enable_gradient_checkpointing()

    def predict(self, x_t, label, **condition):
        """What the network predicts for labels (n,) of noise levels; (n, *event) -> (n, *event).

        ``condition`` are the network's own arguments for a class or a text.
        """
        with self.autocast():
            predicted = self.network(x_t, label.to(x_t), **condition).sample
        return predicted[:, : x_t.shape[1]].to(x_t)

    def label_of(self, sigma):
        """Label (n,) of noise levels sigma (n,): linear in log sigma between the table's levels, clamped to them."""
        log_sigma = sigma.double().log().clamp(self.log_sigma[0], self.log_sigma[-1])
        above = torch.searchsorted(self.log_sigma, log_sigma).clamp(min=1)
        below = self.log_sigma[above - 1]
        return above - 1 + (log_sigma - below) / (self.log_sigma[above] - below)

    def denoise(self, x_t, t, **condition):
        level = rows_of_level(t, x_t).long()
        return self.x_hat(x_t, self.schedule.abar(level), level - 1, **condition)

    def denoise_sigma(self, x, sigma, **condition):
        sigma = rows_of_level(sigma, x)
        abar = 1 / (1 + sigma**2)
        return self.x_hat(x * expand_like(abar.sqrt(), x), abar, self.label_of(sigma), **condition)

    def x_hat(self, x_t, abar, label, **condition):
        """``E[x_0 | x_t]`` from what the network predicts; ``abar`` (n,), ``label`` (n,)."""
        signal, noise = (expand_like(part.sqrt(), x_t) for part in (abar, 1 - abar))
        predicted = self.predict(x_t, label, **condition)
        if self.prediction == "epsilon":
            return (x_t - noise * predicted) / signal
        return signal * x_t - noise * predicted if self.prediction == "v_prediction" else predicted

    def decode(self, z):
        with self.autocast():
            return self.autoencoder.decode(z).to(z) if self.autoencoder else z

    def encode(self, x):
        with self.autocast():
            return self.autoencoder.encode(x).to(x) if self.autoencoder else x


class Autoencoder:
    """``encode`` and ``decode`` of a diffusers ``VQModel`` or ``AutoencoderKL``, on latents of the denoiser's scale.

    Parameters
    ----------
    model : VQModel or AutoencoderKL
    scale : the factor from the autoencoder's latents to the denoiser's (diffusers: ``scaling_factor``)
    patch : side of the pixel patches that are the channels of the autoencoder's image; 1 for an ordinary one
    force_not_quantize : decode latents as they are; else a VQModel takes the nearest vectors of its codebook first,
        and the gradient passes through that as if it were the identity
    micro_batch : rows encoded or decoded at once. More rows are taken in parts, each computed a second time for its
        gradient, so that the activations of one part only are in memory
    """

    def __init__(self, model, scale=1.0, patch=1, force_not_quantize=False, micro_batch=MICRO_BATCH):
        self.model = model
        self.scale, self.patch, self.micro_batch = scale, patch, micro_batch
        self.has_codebook = hasattr(model, "quantize")
        if force_not_quantize and not self.has_codebook:
            raise ValueError("force_not_quantize: this autoencoder has no codebook; leave the option out")
        self.options = {"force_not_quantize": force_not_quantize} if self.has_codebook else {}

    def decode(self, z):
        return self._in_parts(self._decode, z)

    def encode(self, x):
        return self._in_parts(self._encode, x)

    def _decode(self, z):
        return F.pixel_shuffle(self.model.decode(z / self.scale, **self.options).sample, self.patch)

    def _encode(self, x):
        encoded = self.model.encode(F.pixel_unshuffle(x, self.patch))
        return self.scale * (encoded.latents if self.has_codebook else encoded.latent_dist.mode())

    def _in_parts(self, function, x):
        if len(x) <= self.micro_batch:
            return function(x)
        if torch.is_grad_enabled() and x.requires_grad:
            function = functools.partial(recompute, function, use_reentrant=False, preserve_rng_state=False)
        return torch.cat([function(part) for part in x.split(self.micro_batch)])
