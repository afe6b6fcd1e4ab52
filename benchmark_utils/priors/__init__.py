"""Prior handles, which are cheap and picklable, and the registry of priors.

Each file of this package lists its priors in ``PRIORS = {name: function}``; ``function(**options)`` returns a
:class:`~benchmark_utils.priors.base.PriorSpec`. Adding a prior is adding a file.
"""

import functools
import importlib
import inspect
import pkgutil
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from benchmark_utils.files.weights import Weights
from benchmark_utils.priors.base import LoadedPrior, PriorSpec
from benchmark_utils.priors.pipeline import Pipeline, is_folder, is_pipeline
from benchmark_utils.priors.python_file import PythonFile, is_python_file

PRECISIONS = ("float32", "tf32", "bfloat16")


@functools.cache
def known_priors() -> dict[str, Callable[..., PriorSpec]]:
    """All priors of this package: name -> function returning a PriorSpec."""
    found: dict[str, Callable[..., PriorSpec]] = {}
    for module in pkgutil.iter_modules(__path__):
        found.update(getattr(importlib.import_module(f"{__name__}.{module.name}"), "PRIORS", {}))
    return found


@dataclass(frozen=True)
class Prior:
    """Handle of a prior: its name and options, e.g. ``Prior("gaussian_mixture", (("dim", 8), ("seed", 0)))``.

    ``precision`` and ``compile`` say how its networks run, see :meth:`LoadedPrior.accelerate`. Raises ValueError for
    an unknown precision, and for a name that no file of ``benchmark_utils/priors`` knows.
    """

    name: str
    options: tuple[tuple[str, object], ...] = ()
    precision: str = "float32"
    compile: bool = False

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise ValueError(f"unknown precision {self.precision!r}; known: {', '.join(PRECISIONS)}")

    @classmethod
    def of(cls, text: str) -> "Prior":
        """The handle of a dataset's parameter ``prior``: a name, and options after ``--``, which they switch on.

        ``"ffhq256_latent--checkpoint"`` is ``Prior("ffhq256_latent", (("checkpoint", True),))``. Names of the hub
        have no ``--``; the former ``+`` needs quotes on benchopt's command line.
        """
        name = text
        options: tuple[tuple[str, object], ...] = ()
        while not is_folder(name) and (parts := re.fullmatch(r"(.+)(?:--|\+)(\w+)", name)):
            name, options = parts[1], ((parts[2], True), *options)
        return cls(name, options)

    @property
    def spec(self) -> PriorSpec:
        return _spec(self.name, self.options)

    @property
    def family(self) -> str:
        return self.spec.family

    @property
    def is_latent(self) -> bool:
        return self.spec.is_latent

    @property
    def closed_form(self) -> bool:
        return self.spec.closed_form

    @property
    def has_networks(self) -> bool:
        """Whether there may be networks, which ``precision`` and ``compile`` are for."""
        return bool(getattr(self.spec, "has_networks", not self.closed_form))

    @property
    def labelled(self) -> bool:
        return self.spec.labelled

    @property
    def tilted_denoiser(self) -> bool:
        return self.spec.tilted_denoiser

    @property
    def weights(self) -> Weights:
        return self.spec.weights

    @property
    def signal_shape(self) -> tuple[int, ...]:
        return self.spec.signal_shape

    @property
    def signal_range(self) -> float:
        return self.spec.signal_range

    @property
    def event_shape(self) -> tuple[int, ...]:
        return self.spec.event_shape or self.spec.signal_shape

    def load(self, device: str | torch.device = "cpu") -> LoadedPrior:
        """The loaded prior on ``device``, kept until another one is asked for."""
        # torch allows it unless told otherwise; by name, since cloudpickle (-j) cannot send that module along
        cudnn: Any = importlib.import_module("torch.backends.cudnn")
        cudnn.allow_tf32 = self.precision == "tf32"
        return _load(self, str(device))


@functools.cache
def _spec(name: str, options: tuple[tuple[str, object], ...]) -> PriorSpec:
    """The PriorSpec of a name and options; raises ValueError if either is unknown."""
    make: Callable[..., Any] | None = known_priors().get(name)
    if make is None and is_python_file(name):
        make = functools.partial(PythonFile, name)
    if make is None and is_pipeline(name):
        make = functools.partial(Pipeline, name)
    if make is None:
        given = "--".join([name, *(option for option, _ in options)])
        hint = f", but there is no folder {given}: correct the path" if "/" in name else ""
        if ":" in name:
            hint += " (benchopt's command line turns = into a colon: give a path with = in a config file)"
        raise ValueError(
            f"unknown prior {given!r}; known priors: {', '.join(sorted(known_priors()))}; <organisation>/<name> of the "
            f"Hugging Face hub or the path of a folder is a diffusers pipeline, FILE.py a prior of your own{hint}"
        )
    known = inspect.signature(make).parameters
    unknown = [option for option, _ in options if option not in known]
    if unknown:
        raise ValueError(f"prior {name} has no option {', '.join(unknown)}; it has {', '.join(known) or 'none'}")
    return make(**dict(options))


@functools.lru_cache(maxsize=1)
def _load(handle: Prior, device: str) -> LoadedPrior:
    loaded = handle.spec.load(device)
    loaded.weight_files = tuple(handle.weights.paths())
    loaded.accelerate(handle.precision, handle.compile)
    return loaded
