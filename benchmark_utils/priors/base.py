"""What a file of a prior needs: :class:`PriorSpec`, known before loading, and the interface of a loaded prior."""

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmark_utils.files.weights import Weights
from benchmark_utils.schedule import NoiseSchedule


@dataclass(frozen=True)
class PriorSpec:
    """What is known of a prior before its weights are loaded.

    ``family`` selects a solver's preset (ffhq, imagenet, ffhq_latent, audio, ecg, mixture, digits, gaussian);
    ``signal_shape`` is the shape of an image, ``event_shape`` that of the sampled variable (the latent);
    ``load(device)`` returns a :class:`LoadedPrior`, read from the files that ``weights`` names. ``signal_range`` is
    the largest absolute value of a signal; where values are unbounded, their largest standard deviation. A
    prior is ``labelled`` if its denoisers take labels; ``tilted_denoiser``: it has that of its tilted laws too. Of a
    closed form, ``has_posterior(operator)`` says whether its posterior is known too, with an SVD or piecewise linear;
    if it is left out, for every SVD.
    """

    family: str
    signal_shape: tuple[int, ...]
    load: "Callable[[str], LoadedPrior]"
    event_shape: tuple[int, ...] | None = None
    is_latent: bool = False
    closed_form: bool = False
    labelled: bool = False
    tilted_denoiser: bool = False
    weights: Weights = Weights()
    signal_range: float = 1.0
    has_posterior: Callable[[Any], bool] = lambda operator: not hasattr(operator, "pieces")


def freeze(network: torch.nn.Module, device: str | torch.device) -> torch.nn.Module:
    """``network`` ready to be differentiated by its input only, in the memory layout that convolutions are fast in."""
    return network.eval().requires_grad_(False).to(device).to(memory_format=torch.channels_last)


def expand_like(values: float | Tensor, x: Tensor) -> float | Tensor:
    """A number, or an (n,) tensor as (n, 1, ..., 1) in the type of ``x`` (n, *event), ready to multiply it."""
    return values.view(-1, *[1] * (x.ndim - 1)).to(x) if torch.is_tensor(values) and values.ndim else values


def rows_of_level(level: float | Tensor, x: Tensor) -> Tensor:
    """A noise level, a number or an (n,) tensor, as (n,) in float64 beside ``x`` (n, *event), without a transfer."""
    if torch.is_tensor(level):
        return level.to(x.device, torch.float64).expand(len(x))
    return torch.full((len(x),), level, dtype=torch.float64, device=x.device)


def cast_weights(network: torch.nn.Module) -> None:
    """Round once the weights that autocast would round at each call, since it keeps copies of trained ones only."""
    for module in network.modules():
        if isinstance(module, (torch.nn.Conv1d, torch.nn.Conv2d, torch.nn.Linear)):
            module.to(torch.bfloat16)


def given(label: Tensor | None) -> dict[str, Tensor]:
    """Argument ``label`` of a denoiser, left out where there is none: most priors do not have it."""
    return {} if label is None else {"label": label}


class LoadedPrior:
    """A prior ready to sample with. Subclasses set the attributes and define ``denoise_sigma``.

    ``networks`` are torch modules after :func:`freeze`, called inside ``with self.autocast()``; a closed form has none.
    ``weight_files``, the paths that it was read from, is set when a handle loads it.
    """

    event_shape: tuple[int, ...]
    signal_shape: tuple[int, ...]
    schedule: NoiseSchedule
    dtype: torch.dtype
    device: torch.device
    weight_files: tuple[Path, ...] = ()
    networks: Sequence[torch.nn.Module] = ()
    precision = "float32"

    def accelerate(self, precision: str, compile: bool) -> None:
        """Run the networks, and nothing else, in ``precision``, and compile them.

        bfloat16: convolutions and linear layers, by autocast. tf32: convolutions, almost all of the work; matrix
        products stay float32 because operators have them too. Raises ValueError for a closed form, which has no
        networks, and for tf32 without a GPU.
        """
        if (precision != "float32" or compile) and not self.networks:
            raise ValueError(
                "precision and compile are for networks, and this prior has none: leave them out, or list its torch "
                "modules in the attribute networks of your LoadedPrior"
            )
        if precision == "tf32" and self.device.type != "cuda":
            raise ValueError(f"tf32 is a mode of NVIDIA GPUs, this run is on {self.device}: use float32 or bfloat16")
        self.precision = precision
        for network in self.networks:
            if precision == "bfloat16":
                cast_weights(network)
            if compile:
                # torch's remedy where a graph is differentiated twice; by name: cloudpickle cannot send the module
                config: Any = importlib.import_module("torch._functorch.config")
                config.donated_buffer = False
                network.compile()

    def autocast(self) -> torch.autocast:
        """Context of the networks; other code in it keeps its precision, since it has no matrix products."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bfloat16")

    def denoise_sigma(self, x: Tensor, sigma: float | Tensor, label: Tensor | None = None) -> Tensor:
        """``E[x_0 | x_0 + sigma eps = x]`` for any sigma > 0, a float or (n,); (n, *event) -> (n, *event).

        A labelled prior takes ``label``, (n,) classes or (n, size) embeddings of texts, and returns E[x_0 | x, label].
        """
        raise NotImplementedError

    def denoise(self, x_t: Tensor, t: int | Tensor, label: Tensor | None = None) -> Tensor:
        """``E[x_0 | x_t]``, or given a label, at level ``t`` (int or (n,) tensor, 1..T); differentiable."""
        abar, sigma = self.schedule.abar(t), self.schedule.sigma(t)
        if torch.is_tensor(abar) and torch.is_tensor(sigma):
            abar, sigma = abar.to(x_t), sigma.to(x_t)
        return self.denoise_sigma(x_t / expand_like(abar, x_t) ** 0.5, sigma, **given(label))

    def decode(self, z: Tensor) -> Tensor:
        """Signal of a latent; the identity in pixel space."""
        return z

    def encode(self, x: Tensor) -> Tensor:
        """Latent of a signal; the identity in pixel space."""
        return x
