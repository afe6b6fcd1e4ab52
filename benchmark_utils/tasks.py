"""The image tasks in one table, and what datasets share.

A dataset of images is a row of the table and a set of images. One's own task needs no row here: give ``task``
an :class:`ImageTask` of its own, under any name.
"""

import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from benchopt import BaseDataset

from benchmark_utils.files.images import fetch_ffhq, find_ffhq, find_imagenet, stack_images
from benchmark_utils.metrics import IMAGE_METRICS
from benchmark_utils.noise import GaussianNoise, LabelTilt, PoissonNoise
from benchmark_utils.operators import blur as blurs
from benchmark_utils.operators import compressed_sensing as projections
from benchmark_utils.operators import mri as imaging
from benchmark_utils.operators import single_pixel as patterns
from benchmark_utils.operators import tomography as beams
from benchmark_utils.operators.colorization import Colorization
from benchmark_utils.operators.denoising import denoising
from benchmark_utils.operators.dense_svd import DenseSVD
from benchmark_utils.operators.hdr import HDR
from benchmark_utils.operators.inpainting import HIDDEN, inpainting
from benchmark_utils.operators.jpeg import QUALITY, jpeg
from benchmark_utils.operators.label import ClassProbabilities
from benchmark_utils.operators.phase_retrieval import PhaseRetrieval
from benchmark_utils.operators.super_resolution import super_resolution
from benchmark_utils.options import check_options
from benchmark_utils.priors import Prior
from benchmark_utils.rng import stream_seed


@dataclass(frozen=True)
class ImageTask:
    """How images become measurements.

    ``operator(shape, images, **options)`` returns the Physics for images (C, H, W) with the image numbers ``images``.
    ``name(**options)`` is the task's name; a number at its end is the strength, so that PRESETS may name ``sr4`` or all
    strengths, ``sr*``. ``options`` are parameters of the dataset with their values; one that is None is not passed.
    ``noise_std`` and ``n_samples`` (draws of each image) are defaults; ``counts`` allows photon counts, ``rgb`` needs
    three channels. ``names`` is for :func:`parse_task`: it maps a name without its strength to a function of the
    strength that returns the options; a task that leaves it out is read by its name in ``TASKS``.
    """

    operator: Callable
    name: Callable
    options: dict = field(default_factory=dict)
    noise_std: float = 0.05
    n_samples: int = 1
    counts: bool = False
    rgb: bool = False
    names: dict = field(default_factory=dict)

    @property
    def parameters(self):
        counts = {"poisson_rate": [None]} if self.counts else {}
        return self.options | {"noise_std": [self.noise_std]} | counts


def with_strength(name, strength, default):
    """A task's name: the strength, a number at its end, is left out where it is the default."""
    return name if strength == default else f"{name}{strength:g}"


TASKS = {
    "inpainting": ImageTask(
        lambda shape, images, mask, hidden=None: inpainting(mask, shape, images, hidden),
        lambda mask, hidden=HIDDEN: mask if hidden == HIDDEN else f"{mask}{100 * hidden:g}",
        {"mask": ["box", "half"], "hidden": [None]},
        names={
            "box": lambda: {"mask": "box"},
            "half": lambda: {"mask": "half"},
            "random": lambda percent=100 * HIDDEN: {"mask": "random", "hidden": percent / 100},
        },
    ),
    "super_resolution": ImageTask(
        lambda shape, _, factor, kind: super_resolution(kind, factor, shape),
        lambda factor, kind: f"sr{factor:g}",
        {"factor": [4, 16], "kind": ["average"]},
        counts=True,
        names={"sr": lambda factor: {"factor": factor, "kind": "average"}},
    ),
    "deblurring": ImageTask(
        lambda shape, images, blur, blur_std=None: blurs.blur(blur, shape, images, blur_std),
        lambda blur, blur_std=blurs.BLUR_STD: (
            f"{blur.removesuffix('_reflect')}_blur" + ("" if blur_std == blurs.BLUR_STD else f"{blur_std:g}")
        ),
        {"blur": ["gaussian", "motion"], "blur_std": [None]},
        counts=True,
        names={
            "gaussian_blur": lambda std=blurs.BLUR_STD: {"blur": "gaussian", "blur_std": std},
            "motion_blur": lambda: {"blur": "motion"},
            "nonlinear_blur": lambda: {"blur": "nonlinear"},
        },
    ),
    "jpeg": ImageTask(
        lambda shape, _, codec, quality=QUALITY: jpeg(quality, codec),
        lambda codec, quality=QUALITY: f"jpeg{quality:g}",
        {"codec": ["real"], "quality": [None]},
        rgb=True,
        names={"jpeg": lambda quality=QUALITY: {"codec": "real", "quality": quality}},
    ),
    "phase_retrieval": ImageTask(lambda shape, _: PhaseRetrieval(), lambda: "phase_retrieval", n_samples=4),
    "hdr": ImageTask(lambda shape, _: HDR(), lambda: "hdr"),
    "denoising": ImageTask(lambda shape, _: denoising(shape), lambda: "denoising", noise_std=0.3, counts=True),
    "colorization": ImageTask(lambda shape, _: Colorization(shape), lambda: "colorization", rgb=True),
    "ct": ImageTask(
        lambda shape, _, angles=beams.ANGLES: beams.tomography(angles, shape),
        lambda angles=beams.ANGLES: with_strength("ct", angles, beams.ANGLES),
        {"angles": [None]},
        names={"ct": lambda angles=beams.ANGLES: {"angles": angles}},
    ),
    "mri": ImageTask(
        lambda shape, _, acceleration=imaging.ACCELERATION: imaging.mri(acceleration, shape),
        lambda acceleration=imaging.ACCELERATION: with_strength("mri", acceleration, imaging.ACCELERATION),
        {"acceleration": [None]},
        names={"mri": lambda acceleration=imaging.ACCELERATION: {"acceleration": acceleration}},
    ),
    "single_pixel": ImageTask(
        lambda shape, _, fraction=patterns.FRACTION: patterns.single_pixel(fraction, shape),
        lambda fraction=patterns.FRACTION: with_strength("single_pixel", 100 * fraction, 100 * patterns.FRACTION),
        {"fraction": [None]},
        names={"single_pixel": lambda percent=100 * patterns.FRACTION: {"fraction": percent / 100}},
    ),
    "compressed_sensing": ImageTask(
        lambda shape, _, fraction=projections.FRACTION: projections.compressed_sensing(fraction, shape),
        lambda fraction=projections.FRACTION: with_strength(
            "compressed_sensing", 100 * fraction, 100 * projections.FRACTION
        ),
        {"fraction": [None]},
        names={"compressed_sensing": lambda percent=100 * projections.FRACTION: {"fraction": percent / 100}},
    ),
}


def parse_task(text):
    """The :class:`ImageTask` and the options that a task's name says: ``sr4``, ``jpeg10``, ``random55``, ``half``.

    Raises ValueError, listing the names, for another one, and for a strength that is missing or that it has not.
    """
    known = {
        name: (task, inspect.signature(read), read)
        for key, task in TASKS.items()
        for name, read in (task.names or {key: lambda: {}}).items()
    }
    name, strength = re.fullmatch(r"(.*?)(\d+\.?\d*)?", str(text), re.DOTALL).groups()
    numbers = [] if strength is None else [float(strength) if float(strength) % 1 else int(float(strength))]
    if name in known:
        task, signature, read = known[name]
        n_needed = sum(strength.default is strength.empty for strength in signature.parameters.values())
        if n_needed <= len(numbers) <= len(signature.parameters):
            return task, read(*numbers)
    names = ", ".join(
        name + "".join(f"<{s}>" for s in signature.parameters) for name, (_, signature, _) in known.items()
    )
    raise ValueError(f"unknown task {text!r}; known: {names}")


class ImageDataset(BaseDataset):
    """Images ``first`` to ``first + n_images - 1`` of a set, measured as the class attribute ``task`` says.

    With a parameter ``truth="prior"`` they are draws of the prior instead: a right sampler is calibrated then.
    """

    def find(self, prior):
        """Paths of the images, and a function ``(path, size) -> image`` that reads one in the prior's size."""
        raise NotImplementedError

    def fetch(self, prior):
        """Download the images, where a subclass knows an address."""

    def prepare(self):
        """Fetch the prior's weights and the images, and check that they are there; ``benchopt prepare``."""
        prior = Prior.of(self.prior)
        prior.weights.prepare()
        if self._parameters.get("truth") is None:
            self.fetch(prior)
            self.find(prior)

    def get_data(self):
        """The objective's data, or ``{"missing": what to do}`` if images or weights are not on this machine."""
        check_options(self)
        prior = Prior.of(self.prior)
        options = {name: getattr(self, name) for name in self.task.options if getattr(self, name) is not None}
        images = tuple(range(self.first, self.first + self.n_images))
        truth = self._parameters.get("truth")
        try:
            if truth is None:
                paths, fit = self.find(prior)  # the size of a pipeline's images is in its files
            prior.weights.require()
            operator = self.task.operator(prior.signal_shape, images, **options)
        except FileNotFoundError as error:
            return {"missing": str(error)}
        if truth is None:
            x_true, files = stack_images(paths, image_size(prior), fit), tuple(path.name for path in paths)
        else:
            x_true, files = draw_truths(prior, truth, images), tuple(f"draw {number:05}" for number in images)
        rate = self.poisson_rate if self.task.counts else None
        if rate is not None and self.noise_std != self.task.noise_std:
            raise ValueError("give noise_std or poisson_rate, not both")
        return {
            "x_true": x_true,
            "operator": operator,
            "noise": GaussianNoise(self.noise_std) if rate is None else PoissonNoise(rate),
            "task": self.task.name(**options),
            "prior": prior,
            "metrics": IMAGE_METRICS,
            "images": images,
            "files": files,
            "n_samples": self.task.n_samples,
        }


class FFHQ(ImageDataset):
    """Faces: the shipped thumbnails, the user's folder, or for priors of other sizes than 64 px those of the hub."""

    parameters = {"prior": ["faces64"], "truth": [None], "first": [0], "n_images": [4]}

    def find(self, prior):
        return find_ffhq(self.first, self.n_images, image_size(prior), shipped_prior=prior.weights.shipped)

    def fetch(self, prior):
        if image_size(prior) != 64:
            fetch_ffhq()


class ImageNet(ImageDataset):
    """The 300 images of the validation set that ``assets/imagenet300.txt`` lists, in the user's folder."""

    parameters = {"prior": ["imagenet256"], "first": [0], "n_images": [4]}

    def find(self, prior):
        return find_imagenet(self.first, self.n_images, image_size(prior))


def draw_truths(prior, truth, images):
    """Draws of the prior, one for each image number, in float64; raises ValueError if it has no exact ones."""
    loaded = prior.load("cpu") if truth == "prior" and prior.weights.shipped else None
    if not hasattr(loaded, "sample"):
        raise ValueError(
            f"truth must be left out, for the images themselves, or be prior with a prior that can be sampled exactly "
            f"(faces64_mfa, haar_laplace, haar_student), got truth={truth} with prior={prior.name}"
        )
    seeds = [stream_seed(0, "truth", prior.name, number) for number in images]
    return torch.cat([loaded.sample(1, torch.Generator().manual_seed(seed)) for seed in seeds])


def image_size(prior):
    """Side of a prior's square images; raises ValueError if it is no prior of RGB images."""
    shape = prior.signal_shape
    if len(shape) != 3 or shape[0] != 3 or shape[1] != shape[2]:
        raise ValueError(f"prior={prior.name} has signals of shape {shape}; a prior of square RGB images is needed")
    return shape[1]


def gaussian_data(prior, dim, noise_std, n_problems):
    """The objective's data of ``n_problems`` draws of a closed-form prior, seen in two coordinates by diag(1, 0.3).

    ``dim``, of the sampled variable, and the number of a problem seed its truth. Raises ValueError for signals of
    fewer than two coordinates.
    """
    (size,) = prior.signal_shape
    if size < 2:
        raise ValueError(
            f"two coordinates are observed, so {prior.name} needs a dim (signal_dim) of 2 or more, got {size}"
        )
    problems = tuple(range(n_problems))
    seeds = [stream_seed(0, "truth", "gaussian", dim, number) for number in problems]
    truths = [prior.load("cpu").sample(1, torch.Generator().manual_seed(seed)) for seed in seeds]
    identity = torch.eye(size, dtype=torch.float64)
    return {
        "x_true": torch.cat(truths),
        "operator": DenseSVD(identity[:2, :2], torch.tensor([1.0, 0.3], dtype=torch.float64), identity),
        "noise": GaussianNoise(noise_std),
        "task": "gaussian",
        "prior": prior,
        "metrics": ("mean_error", "mean_error_floor", "variance_ratio", "data_misfit"),
        "images": problems,
        "files": tuple(f"problem {number}" for number in problems),
        "n_samples": 1000,
        "unit": "problems",
    }


EXACT_LAW_METRICS = ("sliced_wasserstein", "sliced_wasserstein_floor", "mode_tv", "mean_error", "mean_error_floor")
EXACT_LAW_METRICS += ("variance_ratio", "label_probability", "mmd", "precision", "recall", "density", "coverage")


MIXTURE_METRICS = ("sliced_wasserstein", "sliced_wasserstein_floor", "mode_tv", "mean_error", "mean_error_floor")
MIXTURE_METRICS += ("variance_ratio", "data_misfit")


def mixture_data(prior, seed, generator, operator, noise, task):
    """The objective's data of the problem ``seed``, whose truth ``generator`` draws from a mixture of Gaussians."""
    return {
        "x_true": prior.load("cpu").sample(1, generator),
        "operator": operator,
        "noise": noise,
        "task": task,
        "prior": prior,
        "metrics": MIXTURE_METRICS,
        "images": (seed,),
        "files": (f"problem {seed}",),
        "n_samples": 1000,
        "unit": "problems",
    }


def label_data(prior, label, weight, n_problems, n_samples, pictures=None, metrics=EXACT_LAW_METRICS):
    """The objective's data of repetitions of one label, 0 to C - 1, under a labelled closed-form prior.

    ``pictures`` (C, *signal) show the labels. Raises ValueError for an unknown label.
    """
    y = repeat_label(label, prior.load("cpu").n_classes, n_problems, prior.name)
    return guided_data(prior, y, ClassProbabilities(prior, pictures), LabelTilt(weight), metrics, n_samples)


def repeat_label(label, n_classes, n_problems, prior_name):
    """The label as one-hot rows (n_problems, C) in float64; raises ValueError for an unknown one."""
    if isinstance(label, bool) or not isinstance(label, int) or label not in range(n_classes):
        raise ValueError(f"unknown label {label!r}; prior {prior_name} has the labels 0 to {n_classes - 1}")
    return F.one_hot(torch.full((n_problems,), label), n_classes).double()


def guided_data(prior, y, operator, noise, metrics, n_samples, texts=None):
    """The objective's data where each row of y (n, size) is a label or the embedding of one of ``texts``.

    Rows of one label are repetitions, which differ by the random numbers of the samplers.
    """
    return {
        "y": y,
        "operator": operator,
        "noise": noise,
        "task": "label",
        "prior": prior,
        "metrics": metrics,
        "images": tuple(range(len(y))),
        "files": tuple(texts or (f"repetition {number}" for number in range(len(y)))),
        "n_samples": n_samples,
        "unit": "texts" if texts else "repetitions",
    }
