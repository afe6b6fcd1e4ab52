"""A user's own operator and noise, as the parameters of ``image_folder`` and ``measured`` name them."""

from pathlib import Path

import numpy as np
import torch
from benchopt import BaseDataset
from deepinv.physics import GaussianNoise as DeepinvGaussianNoise
from deepinv.physics import Inpainting, LinearPhysics, Physics, ZeroNoise

from benchmark_utils.files.images import image_files, named, natural_key, open_image, select, to_grey_or_rgb
from benchmark_utils.files.modules import load_module, read_beside
from benchmark_utils.files.paths import files_state, own_path
from benchmark_utils.noise import GaussianNoise, PoissonNoise
from benchmark_utils.operators.inpainting import RandomInpainting
from benchmark_utils.options import check_options
from benchmark_utils.priors import Prior
from benchmark_utils.problem import cast
from benchmark_utils.tasks import ImageTask, parse_task

SMALLEST_LPIPS = 31  # pixels: AlexNet makes nothing of fewer


class OwnDataset(BaseDataset):
    """What datasets of the user's files share: one of ``task``, ``physics`` and ``mask``, and the noise."""

    parameters = {
        "path": [None],
        "task": [None],
        "physics": [None],
        "function": [None],
        "mask": [None],
        "prior": ["faces64"],
        "noise_std": [None],
        "poisson_rate": [None],
        "first": [0],
        "n_images": [None],
        "order": [None],
    }

    def prepare(self):
        """Fetch the prior's weights; ``benchopt prepare``."""
        Prior.of(self.prior).weights.prepare()

    def get_data(self):
        """The objective's data, or ``{"missing": what to do}`` without a path or the prior's weights."""
        if self.path is None:
            return {"missing": f"name your files: {self.name}[path=FOLDER]"}
        check_options(self)
        prior = Prior.of(self.prior)
        try:
            prior.weights.require()  # the size of a pipeline's images is in its files
        except FileNotFoundError as error:
            return {"missing": str(error)}
        return self.read(prior)

    def read(self, prior):
        """The objective's data."""
        raise NotImplementedError

    def choose(self, formats):
        """Paths of the chosen files of ``path``, and their numbers in it."""
        folder = own_path(self.path)
        files = sort_files([folder] if folder.is_file() else image_files(folder, formats), self.order)
        n_images = len(files) - self.first if self.n_images is None else self.n_images
        if not files:
            raise ValueError(f"{folder} has no files of the kinds {formats}: name another folder")
        paths = select(files, self.first, n_images, f"{folder} ({formats})")
        return paths, tuple(range(self.first, self.first + n_images))

    def task_and_options(self):
        """The ImageTask of ``task``, ``physics`` or ``mask``, and its options; ValueError unless one is given."""
        given = [name for name in ("task", "physics", "mask") if getattr(self, name) is not None]
        if len(given) != 1:
            got = " and ".join(given) or "none"
            raise ValueError(f"give one of task=NAME, physics=FILE.py and mask=FILE.png, got {got}")
        if self.task is not None:
            return parse_task(self.task)
        path = own_path(getattr(self, given[0]))
        if self.physics is not None:
            make = find_function(path, self.function or "make")
            return ImageTask(lambda shape, images: make(shape, images), lambda: path.stem, counts=True), {}
        return ImageTask(lambda shape, images: read_mask(path, shape, images, self.order), lambda: "mask"), {}

    def problem(self, prior, shape, images):
        """Operator, noise model, name of the task, prior, metrics and ``n_samples`` for images of this shape (C, H, W).

        Raises ValueError if the task is not for such images or such noise.
        """
        task, options = self.task_and_options()
        if task.rgb and shape[0] != 3:
            raise ValueError(f"task={self.task} needs RGB images, and those of prior={self.prior} have shape {shape}")
        if self.poisson_rate is not None and not task.counts:
            raise ValueError("poisson_rate: photon counts are not for this task; use noise_std")
        operator = task.operator(shape, images, **options)
        if not isinstance(operator, Physics):
            raise ValueError(f"{self.physics} must return a deepinv.physics.Physics, got {type(operator).__name__}")
        if self.physics is not None and isinstance(operator, LinearPhysics):
            operator.tol = 0.0  # deepinv's solvers test it over the whole batch, which would couple its images
        return {
            "operator": operator,
            "noise": self.noise(operator, task.noise_std),
            "task": task.name(**options),
            "prior": prior,
            "metrics": image_metrics(shape),
            "n_samples": task.n_samples,
            "images": images,
        }

    def noise(self, operator, default_std):
        """The noise model of ``noise_std`` or ``poisson_rate``, else the operator's ``noise_model``, else Gaussian.

        An operator's is one of ``benchmark_utils.noise`` or deepinv's Gaussian; raises ValueError for another.
        """
        if self.noise_std is not None and self.poisson_rate is not None:
            raise ValueError("give noise_std or poisson_rate, not both")
        if self.poisson_rate is not None:
            return PoissonNoise(self.poisson_rate)
        if self.noise_std is not None:
            return GaussianNoise(self.noise_std)
        model = operator.noise_model
        if isinstance(model, ZeroNoise):
            return GaussianNoise(default_std)
        if hasattr(model, "log_likelihood"):
            return model
        if isinstance(model, DeepinvGaussianNoise) and model.sigma.numel() == 1:
            return GaussianNoise(float(model.sigma))
        raise ValueError(
            f"{self.physics}: noise_model {type(model).__name__} is not known here: use one of "
            "benchmark_utils/noise.py, or choose noise_std or poisson_rate"
        )

    def _get_state(self):
        """The state of the files that parameters name, for the cache key."""
        paths = [Path(str(value)).expanduser() for value in self._parameters.values() if value is not None]
        read = [] if self.physics is None else read_beside(own_path(self.physics), None)
        return {"named": [files_state(path) for path in paths + read if path.exists()]}

    def __setstate__(self, state):
        pass


def sort_files(files, order):
    """Files in the order of their names or, ``natural``, of the numbers in them; ValueError for another order."""
    if order not in (None, "name", "natural"):
        raise ValueError(f"unknown order {order!r}; known: name, natural")
    return sorted(files, key=natural_key) if order == "natural" else files


def image_shape(prior):
    """(1 or 3, H, W) of a prior's images; raises ValueError for other signals."""
    shape = tuple(prior.signal_shape)
    if len(shape) != 3 or shape[0] not in (1, 3):
        raise ValueError(f"prior={prior.name} has signals of shape {shape}; grey or RGB images (C, H, W) are needed")
    return shape


def image_metrics(shape):
    """Names of the scores of images (C, H, W), headline first; LPIPS makes nothing of images below 31 px."""
    return ("lpips",) * (min(shape[1:]) >= SMALLEST_LPIPS) + ("psnr", "ssim", "data_misfit")


def find_function(path, name):
    """The function ``name`` of a Python file; raises ValueError, saying what it should be, if there is none."""
    function = getattr(load_module(path), name, None)
    if not callable(function):
        raise ValueError(
            f"{path} has no function {name}: define {name}(shape, images) that returns a deepinv Physics for images of "
            "this shape (C, H, W) in [-1, 1], or name yours by function=NAME"
        )
    return function


def measure_without_noise(operator, x, source):
    """``A(x)``; raises ValueError, naming the operator's source, unless it is real, finite and a row per image.

    The first image alone has to be measured as it is among the others.
    """
    operator, x = cast(operator, torch.float64), x.double()
    with torch.no_grad():
        y = operator.A(x)
        alone = (operator.take([0]) if hasattr(operator, "take") else operator).A(x[:1])
    if len(y) != len(x):
        raise ValueError(f"{source}: its operator makes {len(y)} measurements of {len(x)} images")
    if y.is_complex():
        raise ValueError(f"{source}: its operator gives complex values: give real and imaginary parts as two channels")
    if not y.isfinite().all():
        raise ValueError(f"{source}: its operator gives NaN or infinite values for images in [-1, 1]: correct it")
    if alone.shape != y[:1].shape or (alone - y[:1]).abs().max() > 1e-4 * y.abs().max():  # more than rounding
        raise ValueError(
            f"{source}: its operator measures an image alone otherwise than among others: if it differs between "
            "images, give it a method take(index), as benchmark_utils/operators/per_image.py has; fix what it draws"
        )
    return y


def read_mask(path, shape, images, order):
    """deepinv ``Inpainting`` by a mask, white where the image is seen, or by the masks of a folder, one per image.

    Raises ValueError, naming the file, for another size or a mask that hides nothing or all, and for too few masks.
    """
    if not path.is_dir():
        return Inpainting(img_size=shape, mask=read_one_mask(path, shape).expand(shape))
    files = sort_files(image_files(path), order)
    if images[-1] >= len(files):
        raise ValueError(f"{path} has {len(files)} masks, one for each image up to number {images[-1]} is needed")
    masks = [read_one_mask(files[number], shape) for number in images]
    return RandomInpainting(img_size=shape, mask=torch.stack(masks))


def read_one_mask(path, shape):
    """A mask (1, H, W), 1 where the picture is brighter than middle grey, for images (C, H, W)."""
    with named(path):
        picture, _ = to_grey_or_rgb(open_image(path), 1)
    if picture.size != shape[:0:-1]:
        raise ValueError(
            f"{path} is a mask of {picture.width}x{picture.height} pixels, the images have {shape[2]}x{shape[1]}: "
            "resize it"
        )
    seen = torch.from_numpy(np.asarray(picture) >= 128).float()[None]
    if seen.min() == seen.max():
        raise ValueError(f"{path} hides {'nothing' if seen.min() else 'everything'}: white is seen, black is hidden")
    return seen
