"""Read images from folders and describe an image task to the objective."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError

from benchmark_utils.hub import ASSETS
from benchmark_utils.priors.base import Prior
from benchmark_utils.problem import GaussianNoise

IMAGE_METRICS = ("lpips", "psnr", "ssim", "data_misfit")
SUFFIXES = {".png", ".jpg", ".jpeg", ".webp"}


def read_images(folder, first, n_images, size):
    """Images first .. first + n_images - 1 of a folder, in name order, as (n, 3, size, size) in [-1, 1].

    Returns the tensor and the file names. Raises ValueError, naming the file or the number, if there are not
    enough images or if one cannot be decoded, is not RGB or has another size.
    """
    paths = sorted(path for path in Path(folder).iterdir() if path.suffix.lower() in SUFFIXES)
    if first < 0 or n_images < 1 or first + n_images > len(paths):
        raise ValueError(
            f"first={first}, n_images={n_images} asks for images {first}..{first + n_images - 1}, "
            f"but {folder} has {len(paths)}"
        )
    paths = paths[first : first + n_images]
    images = []
    for path in paths:
        try:
            image = Image.open(path)
            image.load()
        except (UnidentifiedImageError, OSError) as error:
            raise ValueError(f"{path} cannot be decoded as an image: {error}") from error
        if image.mode != "RGB" or image.size != (size, size):
            raise ValueError(f"{path} is {image.mode} of size {image.size}, but RGB of size {size}x{size} is needed")
        images.append(np.array(image))
    x = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() / 127.5 - 1
    return x, [path.name for path in paths]


def ffhq_data(dataset, operator, task):
    """The objective's data for FFHQ images and the dataset's ``prior``, ``first``, ``n_images``, ``noise_std``.

    ``operator`` is a function of the image shape (3, H, W). Raises ValueError for a prior of other images.
    """
    prior = Prior(dataset.prior)
    if prior.signal_shape != (3, 64, 64):
        raise ValueError(f"prior={dataset.prior} has signals of shape {prior.signal_shape}; FFHQ here is 3x64x64")
    x_true, files = read_images(ASSETS / "ffhq64", dataset.first, dataset.n_images, prior.signal_shape[1])
    return {
        "x_true": x_true,
        "operator": operator(prior.signal_shape),
        "noise": GaussianNoise(dataset.noise_std),
        "task": task,
        "prior": prior,
        "metrics": IMAGE_METRICS,
        "images": tuple(range(dataset.first, dataset.first + dataset.n_images)),
        "files": tuple(files),
        "n_samples": 1,
    }
