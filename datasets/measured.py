import warnings

import numpy as np
import torch
from deepinv.physics import Inpainting, ZeroNoise
from PIL import ImageOps
from safetensors import SafetensorError
from safetensors.torch import load_file

from benchmark_utils.files.images import FORMATS, open_image
from benchmark_utils.files.paths import ASSETS
from benchmark_utils.files.weights import load_checkpoint
from benchmark_utils.noise import GaussianNoise, estimate_noise_std
from benchmark_utils.own import OwnDataset, image_shape, measure_without_noise

ARRAYS = "npy pt safetensors"
DRAWN = ("random", "motion_blur", "nonlinear_blur", "mri", "compressed_sensing")  # masks, kernels and matrices


class Dataset(OwnDataset):
    """Your own measurements, whose truth nobody has: rows have the data misfit, the spread over draws and the cost.

    ``path`` is a folder of measurements, or one: pictures, or arrays (``.npy``, ``.pt``, ``.safetensors``) in the units
    of the operator. ``task``, ``physics`` or ``mask`` say how they came about, as in ``image_folder``; what a mask
    hides may have any values, NaN too. ``noise_std=estimate`` takes the noise's standard deviation from the finest
    details of the measurements (Donoho and Johnstone 1994), which says it in a notice. ``n_samples`` draws per image.
    """

    name = "measured"
    parameters = OwnDataset.parameters | {"n_samples": [4]}
    choices = {"noise_std": ("estimate",)}
    test_config = {
        "path": str(ASSETS / "ffhq64" / "00025.png"),
        "task": "half",
        "prior": "faces64_mfa",
        "noise_std": 0.05,
    }

    def read(self, prior):
        shape = image_shape(prior)
        paths, images = self.choose(f"{FORMATS} {ARRAYS}")
        estimated = self.noise_std == "estimate"
        data = self.problem(prior, shape, images)
        if estimated and hasattr(data["operator"], "picture"):
            raise ValueError(
                f"noise_std=estimate needs measurements that are pictures, those of {self.physics or self.task} are "
                "not: give a number"
            )
        if self.task is not None and str(self.task).startswith(DRAWN):
            notice = f"task={self.task} takes the masks, kernels or matrices that this benchmark draws"
            warnings.warn(f"{notice}: if yours are others, give mask= or physics=", stacklevel=2)
        probe = torch.rand(len(images), *shape, generator=torch.Generator().manual_seed(0)) * 2 - 1
        source = self.physics or self.task or self.mask
        expected = tuple(measure_without_noise(data["operator"], probe, source).shape[1:])
        y = torch.stack([read_measurement(path, expected, source) for path in paths])
        operator = data["operator"]
        seen = (operator.mask != 0).expand(y.shape) if isinstance(operator, Inpainting) else torch.ones_like(y).bool()
        y = fill_holes(y, seen, paths)
        if estimated:
            std = estimate_noise_std(y, seen)
            notice = f"noise_std={std:.4g}, estimated from the finest diagonal details of y"
            warnings.warn(f"{notice}: too high where these are the picture's", stacklevel=2)
            data["noise"] = GaussianNoise(std)
        return data | {
            "y": y,
            "metrics": ("data_misfit",),
            "files": tuple(path.name for path in paths),
            "n_samples": self.n_samples,
        }

    def noise(self, operator, default_std):
        if self.noise_std == "estimate" and self.poisson_rate is not None:
            raise ValueError("give noise_std or poisson_rate, not both")
        if self.noise_std == "estimate":
            return None  # known when the measurements are read
        if self.noise_std is None and self.poisson_rate is None and isinstance(operator.noise_model, ZeroNoise):
            raise ValueError("give the noise of the measurements: noise_std=NUMBER or estimate, or poisson_rate=NUMBER")
        return super().noise(operator, default_std)


def read_measurement(path, expected, source):
    """A measurement, float32 (*expected): a picture in [-1, 1], or the array of a file as it is.

    Raises ValueError, naming the file, for another shape than the operator of ``source`` gives, and for no array.
    """
    if path.suffix[1:].lower() in ARRAYS.split():
        y = read_array(path)
        y = y[0] if y.ndim == len(expected) + 1 and len(y) == 1 else y
    else:
        picture = ImageOps.exif_transpose(open_image(path))
        known = {"1": "L", "P": "RGB"}.get(picture.mode, picture.mode)
        if known not in ("L", "RGB") and not known.startswith("I"):
            raise ValueError(f"{path} is a picture of mode {known}, whose range is not known: write an array, .npy")
        white = 65535 if known.startswith("I") else 255
        pixels = torch.from_numpy(np.array(picture.convert(known))).float()
        y = (pixels if pixels.ndim == 3 else pixels[..., None]).movedim(-1, 0) * (2 / white) - 1
    if tuple(y.shape) != expected:
        raise ValueError(
            f"{path} is a measurement of shape {tuple(y.shape)}, but {source} gives {expected} for the prior's images: "
            "choose the prior of its size, or resize it"
        )
    return y


def fill_holes(y, seen, paths):
    """Measurements (n, ...) with 0 for NaN and infinities that are not ``seen`` (n, ...): pictures may have holes so.

    Raises ValueError, naming the file of ``paths`` and how many there are, for those that are seen.
    """
    finite = y.isfinite()
    for path, bad in zip(paths, (seen & ~finite).flatten(1).sum(1).tolist(), strict=True):
        if bad:
            raise ValueError(
                f"{path} has NaN or infinity in {bad} of its entries that no mask hides: correct them, or hide them"
            )
    return y.where(finite, 0)


def read_array(path):
    """The only real tensor of a ``.npy``, ``.pt`` or ``.safetensors`` file; raises ValueError, naming the file."""
    try:
        if path.suffix.lower() == ".npy":
            found = torch.from_numpy(np.load(path))
        elif path.suffix.lower() == ".pt":
            found = load_checkpoint(path)
        else:
            found = load_file(path)
    except (OSError, EOFError, ValueError, TypeError, SafetensorError) as error:
        raise ValueError(f"{path} cannot be read as a measurement: write one real array to it ({error})") from error
    if isinstance(found, dict) and len(found) == 1:
        (found,) = found.values()
    if not torch.is_tensor(found) or found.is_complex():
        kind = f"{len(found)} tensors" if isinstance(found, dict) else getattr(found, "dtype", type(found).__name__)
        raise ValueError(f"{path} holds {kind}, but one real array is needed: real and imaginary parts as two channels")
    return found.float()
