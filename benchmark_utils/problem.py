"""The inverse problem a solver sees: operator, noise model and measurement, never the true image."""

import copy
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import cast as typing_cast

import torch
from deepinv.physics import DecomposablePhysics, Inpainting, LinearPhysics, Physics
from torch import Tensor

from benchmark_utils.noise import GaussianNoise, LabelTilt, NoiseModel
from benchmark_utils.priors import Prior
from benchmark_utils.priors.base import LoadedPrior
from benchmark_utils.rng import RNG

CAPABILITIES = {
    "differentiable": "A has a gradient, and y - A(x) a meaning",
    "likelihood": "log p(y | x) has a gradient",
    "labelled": "y is a label, and the prior has denoisers that know it",
    "tilted_denoiser": "the denoiser of the law that a label tilts is known",
    "gaussian": "the noise is Gaussian",
    "linear": "A is linear in the sampled variable",
    "svd": "A has an SVD, whose V is square and orthonormal",
    "mask": "A hides some values, keeps the others as they are, and y has the shape of x",
    "idempotent": "A is not linear, but A(A(x)) = A(x) up to rounding: y is a signal and its own pseudo-inverse",
    "closed_form": "the posterior is known",
    "latent": "the sampled variable is a latent, which the prior decodes",
    "linear_operator": "of a latent prior: A itself is linear",
    "image": "signals are images (C, H, W)",
    "separation": "signals are stems and A is their sum",
    "leads": "signals are leads of an electrocardiogram, and A hides some or some time",
    "unit_variance": "each lead of an electrocardiogram has variance 1",
    "truth": "the true signals are known to the objective, which scores with them",
}


@dataclass(frozen=True)
class InverseProblem:
    """``y = A(x) + noise`` for n rows; rows are image-major (image, draw).

    Attributes
    ----------
    operator : deepinv.physics.Physics
        Acts on (n, *signal) tensors in [-1, 1].
    noise : NoiseModel
        With ``std``, if it is Gaussian.
    y : tensor (n, *measurement)
        Hidden entries of a masked measurement are exactly 0.
    task : str
        Any name; with the prior's family it selects a solver's preset.
    n_observed : int or tensor (n,)
        Number of observed scalars of an image; one number where it is the same for all.
    images : tuple of int
        Image number of each row.
    n_draws : int
        Rows of one image.
    capabilities : frozenset of str
        Names of ``CAPABILITIES``.
    pixel : InverseProblem or None
        For a latent prior: the same problem in signal space.
    """

    operator: Physics
    noise: NoiseModel
    y: Tensor
    task: str
    n_observed: int | Tensor
    images: tuple[int, ...]
    n_draws: int = 1
    capabilities: frozenset[str] = frozenset()
    pixel: "InverseProblem | None" = field(default=None, repr=False)

    def A(self, x: Tensor) -> Tensor:
        """Noise-free measurement of ``x`` (n, *signal)."""
        return self.operator.A(x)

    def residual(self, x: Tensor) -> Tensor:
        """``y - A(x)``, (n, *measurement)."""
        return self.y - self.A(x)

    def log_likelihood(self, x: Tensor) -> Tensor:
        """``log p(y | x)`` up to a constant, one number per row: (n,)."""
        return self.noise.log_likelihood(self.y, self.A(x))

    @property
    def label(self) -> Tensor:
        """Of a ``labelled`` problem the label of each row: classes (n,), or embeddings of texts (n, size)."""
        return typing_cast(LabelTilt, self.noise).label_of(self.y)

    @property
    def weight(self) -> float:
        """Of a ``labelled`` problem the power w of its likelihood ``p(label | x)^w``."""
        return typing_cast(LabelTilt, self.noise).weight

    def misfit(self, x: Tensor) -> Tensor:
        """Data misfit per row, about 1 for a posterior sample: (n,)."""
        return self.noise.misfit(self.y, self.A(x), self.n_observed)

    def correction(self, x: Tensor, ridge: float) -> Tensor:
        """``A^T (A A^T + r I)^{-1} (y - A x)`` by the SVD of A, for ``x`` (n, *signal); ``ridge`` is r > 0.

        ``x + correction(x, r)`` minimises ``||y - A z||^2 + r ||z - x||^2`` over z: deepinv's ``prox_l2(x, y, 1 / r)``,
        of which the difference to x would lose digits.
        """
        operator = self.operator
        innovation = operator.U_adjoint(self.y) - operator.mask * operator.V_adjoint(x)
        return operator.V(operator.mask / (operator.mask**2 + ridge) * innovation)

    def draw_conditional(self, center: Tensor, std: float, noise_std: float, rng: RNG) -> Tensor:
        """Draw ``x ~ N(y; A x, noise_std^2 I) N(x; center, std^2 I)``, exactly, by the SVD ``A = U diag(s) V^T``.

        The coordinates ``V^T x`` are independent Gaussians. ``center`` has shape (n, *signal); ``std = 0`` returns it.
        """
        operator = self.operator
        spectrum = operator.V_adjoint(center)
        predicted_variance = operator.mask**2 * std**2 + noise_std**2
        innovation = operator.U_adjoint(self.y) - operator.mask * spectrum
        mean = spectrum + operator.mask * std**2 / predicted_variance * innovation
        conditional_std = std * noise_std / predicted_variance**0.5
        return operator.V(mean + conditional_std * rng.randn_like(spectrum))

    def rows(self, index: Sequence[int], n_draws: int = 1) -> "InverseProblem":
        """The problem of the images at positions ``index``, each repeated ``n_draws`` times in a row."""
        pixel = self.pixel and self.pixel.rows(index, n_draws)
        index = [i for i in index for _ in range(n_draws)]
        operator = self.operator.take(index) if hasattr(self.operator, "take") else self.operator
        images = tuple(self.images[i] for i in index)
        m = self.n_observed if isinstance(self.n_observed, int) else self.n_observed[index]
        return replace(
            self, operator=operator, y=self.y[index], images=images, n_draws=n_draws, n_observed=m, pixel=pixel
        )

    def with_draws(self, n_draws: int) -> "InverseProblem":
        """The same images with ``n_draws`` rows each (a particle method's N)."""
        return self.rows(range(0, len(self.images), self.n_draws), n_draws)

    def to(self, device: str | torch.device, dtype: torch.dtype) -> "InverseProblem":
        """The same problem on a device and in a floating-point type."""
        operator = cast(copy.deepcopy(self.operator), dtype).to(device)
        m = self.n_observed if isinstance(self.n_observed, int) else self.n_observed.to(device)
        return replace(self, operator=operator, y=self.y.to(device=device, dtype=dtype), n_observed=m)

    def in_latent_space(self, prior: LoadedPrior) -> "InverseProblem":
        """The problem whose unknown is the latent z: ``y = A(decode(z)) + noise``."""
        return replace(self, operator=Decoded(self.operator, prior), pixel=self)


class Decoded(Physics):
    """``A(decode(z))`` for an operator and the decoder of a loaded prior."""

    def __init__(self, operator: Physics, prior: LoadedPrior) -> None:
        super().__init__()
        self.operator, self.prior = operator, prior

    def A(self, z: Tensor, **_: object) -> Tensor:
        return self.operator.A(self.prior.decode(z))

    def take(self, index: list[int]) -> "Decoded":
        return Decoded(self.operator.take(index), self.prior) if hasattr(self.operator, "take") else self


def cast(operator: Physics, dtype: torch.dtype) -> Physics:
    """An operator with its real tensors in a real type, and its complex ones in the complex type of that precision.

    ``Module.to(dtype)`` would drop the imaginary parts.
    """

    def cast_tensor(tensor: Tensor) -> Tensor:
        if tensor.is_complex():
            return tensor.to(dtype.to_complex())
        return tensor.to(dtype) if tensor.is_floating_point() else tensor

    return operator._apply(cast_tensor)


def group_of(task: str) -> str:
    """Name of a task's group in PRESETS, its strength replaced by ``*``: ``sr8`` is of ``sr*``, ``hdr`` of ``hdr*``."""
    return re.sub(r"[\d.]*$", "*", task, count=1)


def capabilities(operator: Physics, noise: NoiseModel, prior: Prior) -> frozenset[str]:
    """What solvers may rely on for this problem, names of ``CAPABILITIES``; ``prior`` is the unloaded handle.

    An operator says by class attributes of these names that it is not ``differentiable``, but has a ``likelihood`` all
    the same, that it is ``idempotent``, or that it is made for the ``separation`` of stems or for ``leads``. Without an
    SVD it may have a method ``first_guess(y)``: a signal near x, at little cost, from which an optimisation can start.
    Raises ValueError for a label and a prior without labels.
    """
    found = {"differentiable", "likelihood"} if getattr(operator, "differentiable", True) else set()
    if getattr(operator, "likelihood", False):
        found.add("likelihood")
    if isinstance(noise, LabelTilt):
        if not prior.labelled:
            raise ValueError(f"the measurement is a label, and prior {prior.name} has no labels: use another prior")
        found |= {"labelled"} | {name for name in ("closed_form", "tilted_denoiser") if getattr(prior, name)}
    if isinstance(noise, GaussianNoise):
        found.add("gaussian")
    if prior.is_latent:
        found.add("latent")
        if isinstance(operator, LinearPhysics):
            found.add("linear_operator")
            if prior.closed_form and "gaussian" in found:
                found.add("closed_form")
    elif isinstance(operator, LinearPhysics):
        found.add("linear")
        if isinstance(operator, DecomposablePhysics) and has_svd(operator, prior.signal_shape):
            found.add("svd")
        if isinstance(operator, Inpainting) and ((operator.mask == 0) | (operator.mask == 1)).all():
            found.add("mask")
    elif getattr(operator, "idempotent", False):
        found.add("idempotent")
    solvable = "gaussian" in found and ("svd" in found or hasattr(operator, "pieces"))
    if prior.closed_form and solvable and prior.spec.has_posterior(operator):
        found.add("closed_form")
    found |= {name for name in ("separation", "leads", "unit_variance") if getattr(operator, name, False)}
    if len(prior.signal_shape) == 3:
        found.add("image")
    return frozenset(found)


def has_svd(operator: DecomposablePhysics, signal_shape: tuple[int, ...]) -> bool:
    """Whether a deepinv SVD is one of A, has a square orthonormal ``V``, and values of 0 or more; by a random vector.

    Solvers take what is not above 0 for the null space, which the negative values of a mask are not. An operator
    whose V does not take signals of this shape has no SVD of them.
    """
    if operator.mask.is_complex() or (operator.mask < 0).any():
        return False
    operator = copy.deepcopy(operator).double()
    n_rows = max(1, operator.mask.shape[0] if operator.mask.ndim > len(signal_shape) else 1)
    x = torch.randn(n_rows, *signal_shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    try:
        spectrum = operator.V_adjoint(x)
        back, measured = operator.V(spectrum), operator.U(operator.mask * spectrum)
        is_of_A = torch.allclose(measured, operator.A(x), atol=1e-6)
    except (RuntimeError, ValueError, IndexError):  # what torch and deepinv raise for a tensor of another shape
        return False
    if spectrum.is_complex() or spectrum.numel() != x.numel() or back.shape != x.shape:
        return False
    same_norm = torch.allclose(spectrum.square().sum(), x.square().sum(), rtol=1e-8)
    return is_of_A and same_norm and torch.allclose(back, x, atol=1e-8)


def count_observed(operator: Physics, y: Tensor) -> int | Tensor:
    """Number of observed scalars of an image: the entries that a mask hides, where it is 0, do not count.

    One number, or (n,) where the masks of the images differ in it.
    """
    if not isinstance(operator, Inpainting):
        return y[0].numel()
    counts = (operator.mask != 0).expand(y.shape).flatten(1).sum(1)
    return counts if (counts != counts[0]).any() else int(counts[0])
