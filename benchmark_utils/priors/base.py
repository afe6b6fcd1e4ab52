"""Prior handles (cheap, picklable) and the interface of a loaded prior.

Each file of this package lists its priors in ``PRIORS = {name: function}``; ``function(**options)`` returns a
:class:`PriorSpec`. Adding a prior is adding a file.
"""

import functools
import importlib
import inspect
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

import benchmark_utils.priors
from benchmark_utils.files.paths import files_read


@dataclass(frozen=True)
class PriorSpec:
    """What is known of a prior before its weights are loaded.

    ``family`` selects a solver's preset (ffhq, imagenet, ffhq_latent, audio, mixture, gaussian);
    ``signal_shape`` is the shape of an image, ``event_shape`` that of the sampled variable (the latent);
    ``load(device)`` returns a :class:`LoadedPrior`. ``weights``, of a prior that is not shipped, has ``require()``,
    which raises FileNotFoundError with what to do if they are not on this machine, and ``prepare()``, which fetches
    them.
    """

    family: str
    signal_shape: tuple
    load: Callable
    event_shape: tuple | None = None
    is_latent: bool = False
    closed_form: bool = False
    weights: object | None = None


@functools.cache
def known_priors():
    """All priors of this package: name -> function returning a PriorSpec."""
    found = {}
    for module in pkgutil.iter_modules(benchmark_utils.priors.__path__):
        found.update(getattr(importlib.import_module(f"benchmark_utils.priors.{module.name}"), "PRIORS", {}))
    return found


PRECISIONS = ("float32", "tf32", "bfloat16")


@dataclass(frozen=True)
class Prior:
    """Handle of a prior: its name and options, e.g. ``Prior("gaussian_mixture", (("dim", 8), ("seed", 0)))``.

    ``precision`` and ``compile`` say how its networks run, see :meth:`LoadedPrior.accelerate`. Raises ValueError for
    an unknown precision, and for a name that no file of ``benchmark_utils/priors`` knows.
    """

    name: str
    options: tuple = ()
    precision: str = "float32"
    compile: bool = False

    def __post_init__(self):
        if self.precision not in PRECISIONS:
            raise ValueError(f"unknown precision {self.precision!r}; known: {', '.join(PRECISIONS)}")

    @classmethod
    def of(cls, text):
        """The handle of a dataset's parameter ``prior``: a name, and options after ``+``, which they switch on.

        ``"ffhq256_latent+checkpoint"`` is ``Prior("ffhq256_latent", (("checkpoint", True),))``.
        """
        name, *options = [text] if Path(text).is_dir() else text.split("+")
        return cls(name, tuple((option, True) for option in options))

    @property
    def spec(self):
        make = known_priors().get(self.name)
        if make is None and ("/" in self.name or Path(self.name).is_dir()):
            from benchmark_utils.priors.pipeline import Pipeline  # a diffusers pipeline, of the hub or in a folder

            make = functools.partial(Pipeline, self.name)
        if make is None:
            raise ValueError(
                f"unknown prior {self.name!r}; known priors: {', '.join(sorted(known_priors()))}; "
                "<organisation>/<name> of the Hugging Face hub or the path of a folder is a diffusers pipeline"
            )
        known = inspect.signature(make).parameters
        unknown = [option for option, _ in self.options if option not in known]
        if unknown:
            raise ValueError(
                f"prior {self.name} has no option {', '.join(unknown)}; it has {', '.join(known) or 'none'}"
            )
        return make(**dict(self.options))

    family = property(lambda self: self.spec.family)
    is_latent = property(lambda self: self.spec.is_latent)
    closed_form = property(lambda self: self.spec.closed_form)
    weights = property(lambda self: self.spec.weights)
    signal_shape = property(lambda self: self.spec.signal_shape)
    event_shape = property(lambda self: self.spec.event_shape or self.spec.signal_shape)

    def load(self, device="cpu"):
        """The loaded prior on ``device``, kept until another one is asked for."""
        loaded = _load(self, str(device))
        if loaded.networks:
            # torch allows it unless told otherwise; by name, since cloudpickle (-j) cannot send that module along
            importlib.import_module("torch.backends.cudnn").allow_tf32 = self.precision == "tf32"
        return loaded


@functools.lru_cache(maxsize=1)
def _load(handle, device):
    with files_read() as files:
        loaded = handle.spec.load(device)
    loaded.weight_files = tuple(files)
    loaded.accelerate(handle.precision, handle.compile)
    return loaded


def frozen(network, device):
    """``network`` ready to be differentiated by its input only, in the memory layout that convolutions are fast in."""
    return network.eval().requires_grad_(False).to(device, memory_format=torch.channels_last)


def expand_like(values, x):
    """A number, or an (n,) tensor as (n, 1, ..., 1) in the type of ``x`` (n, *event), ready to multiply it."""
    return values.view(-1, *[1] * (x.ndim - 1)).to(x) if torch.is_tensor(values) and values.ndim else values


def rows_of_level(level, x):
    """A noise level, a number or an (n,) tensor, as (n,) in float64 beside ``x`` (n, *event), without a transfer."""
    if torch.is_tensor(level):
        return level.to(x.device, torch.float64).expand(len(x))
    return torch.full((len(x),), level, dtype=torch.float64, device=x.device)


def cast_weights(network):
    """Round once the weights that autocast would round at each call, since it keeps copies of trained ones only."""
    for module in network.modules():
        if isinstance(module, (torch.nn.Conv1d, torch.nn.Conv2d, torch.nn.Linear)):
            module.to(torch.bfloat16)


class LoadedPrior:
    """A prior ready to sample with. Subclasses set the attributes and define ``denoise_sigma``.

    Attributes: ``event_shape``, ``signal_shape``, ``schedule`` (NoiseSchedule), ``dtype``, ``device``; ``networks``,
    :func:`frozen` torch modules, none for a closed form, which are called inside ``with self.autocast()``;
    ``weight_files``, the paths that it was read from, is set by :meth:`Prior.load`.
    """

    weight_files = ()
    networks = ()
    precision = "float32"

    def accelerate(self, precision, compile):
        """Run the networks, and nothing else, in ``precision``, and compile them.

        bfloat16: convolutions and linear layers, by autocast. tf32: convolutions, almost all of the work; matrix
        products stay float32 because operators have them too. Raises ValueError for a closed form, which has no
        networks, and for tf32 without a GPU.
        """
        if (precision != "float32" or compile) and not self.networks:
            raise ValueError("precision and compile are for networks; a closed form is computed in float64")
        if precision == "tf32" and self.device.type != "cuda":
            raise ValueError(f"tf32 is a mode of NVIDIA GPUs, this run is on {self.device}: use float32 or bfloat16")
        self.precision = precision
        for network in self.networks:
            if precision == "bfloat16":
                cast_weights(network)
            if compile:
                torch._functorch.config.donated_buffer = False  # torch's remedy where a graph is differentiated twice
                network.compile()

    def autocast(self):
        """Context of the networks; other code in it keeps its precision, since it has no matrix products."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bfloat16")

    def denoise_sigma(self, x, sigma):
        """``E[x_0 | x_0 + sigma eps = x]`` for any sigma > 0, a float or (n,); (n, *event) -> (n, *event)."""
        raise NotImplementedError

    def denoise(self, x_t, t):
        """``E[x_0 | x_t]`` at level ``t`` of the schedule (int or (n,) tensor, 1..T); differentiable."""
        abar = self.schedule.abar(t)
        sigma = self.schedule.sigma(t)
        if torch.is_tensor(t):
            abar, sigma = abar.to(x_t), sigma.to(x_t)
        return self.denoise_sigma(x_t / expand_like(abar, x_t) ** 0.5, sigma)

    def decode(self, z):
        """Signal of a latent; the identity in pixel space."""
        return z

    def encode(self, x):
        """Latent of a signal; the identity in pixel space."""
        return x
