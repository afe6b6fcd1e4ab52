"""A user's Python file as a prior: ``prior=my_prior.py``.

The file has ``event_shape``, a tuple, and ``denoise_sigma(x, sigma)``, which returns ``E[x_0 | x_0 + sigma eps = x]``
for ``x`` (n, *event_shape) and ``sigma`` (n, 1, ..., 1), differentiable; or one subclass of
:class:`~benchmark_utils.priors.base.LoadedPrior`, made by ``Class(device)``, with the class attribute ``event_shape``.
Optional: ``signal_shape`` (of a class for latents, with ``decode``), ``family`` (whose presets solvers take, else ffhq
for images; ``ecg`` for electrocardiograms), ``signal_range`` (the largest absolute value of a signal, else 1), and
``reads``, a tuple of the names of what it reads beside it: where one changes, finished cells are run again. A class has
them as its attributes, or the file.
"""

import inspect
from dataclasses import dataclass
from pathlib import Path

import torch

from benchmark_utils.files.modules import load_module, read_beside
from benchmark_utils.files.paths import own_path
from benchmark_utils.files.weights import Weights
from benchmark_utils.priors.base import LoadedPrior, expand_like, rows_of_level
from benchmark_utils.schedule import NoiseSchedule


class FunctionPrior(LoadedPrior):
    """The function ``denoise_sigma`` of a file, used through the DDPM table."""

    dtype = torch.float32

    def __init__(self, device, function, event_shape):
        self.device = torch.device(device)
        self.event_shape = self.signal_shape = event_shape
        self.schedule, self.function = NoiseSchedule.linear(), function

    def denoise_sigma(self, x, sigma):
        return self.function(x, expand_like(rows_of_level(sigma, x), x))


@dataclass(frozen=True)
class PythonFile(Weights):
    """A Python file as a PriorSpec; the attributes raise ValueError, saying what is missing, for another file."""

    name: str

    shipped = closed_form = labelled = tilted_denoiser = False
    weights = property(lambda self: self)
    path = property(lambda self: own_path(self.name))
    has_networks = property(lambda self: inspect.isclass(self.source))  # a function is called as it is
    signal_range = property(lambda self: float(self.optional("signal_range", 1.0)))
    is_latent = property(lambda self: self.signal_shape != self.event_shape)
    event_shape = property(lambda self: tuple(self.source.event_shape))
    signal_shape = property(lambda self: tuple(getattr(self.source, "signal_shape", self.event_shape)))

    @property
    def family(self):
        return self.optional("family", "ffhq" if len(self.signal_shape) == 3 else "gaussian")

    def optional(self, name, default):
        """An attribute of the class, or of the file."""
        return getattr(self.source, name, getattr(load_module(self.path), name, default))

    @property
    def source(self):
        """The subclass of LoadedPrior of the file, or the file's module with the function."""
        module = load_module(self.path)
        own = [v for v in vars(module).values() if inspect.isclass(v) and v.__module__ == module.__name__]
        priors = [value for value in own if issubclass(value, LoadedPrior)]
        if len(priors) > 1:
            raise ValueError(f"{self.path} has {len(priors)} subclasses of LoadedPrior: keep one in the file")
        source = priors[0] if priors else module
        if source is module and hasattr(module, "signal_shape"):
            raise ValueError(f"{self.path} has a signal_shape: write a prior of latents as a subclass of LoadedPrior")
        missing = [name for name in ("denoise_sigma", "event_shape") if not hasattr(source, name)]
        if missing:
            raise ValueError(
                f"{self.path} has no {' and no '.join(missing)}: a prior's file has event_shape = (C, H, W) and "
                "denoise_sigma(x, sigma), or one subclass of benchmark_utils.priors.base.LoadedPrior"
            )
        return source

    def paths(self):
        return [self.path, *read_beside(self.path, self.source)]

    def named_paths(self):
        return self.paths()

    def load(self, device):
        source = self.source
        return (
            source(device) if inspect.isclass(source) else FunctionPrior(device, source.denoise_sigma, self.event_shape)
        )


def is_python_file(name):
    """Whether a prior's name is that of a Python file."""
    return Path(name).suffix == ".py"
