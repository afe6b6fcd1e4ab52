"""Read images from folders and describe an image task to the objective."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from benchmark_utils.files import ffhq
from benchmark_utils.files.paths import asset, data_home, how_to_name, user_path
from benchmark_utils.noise import GaussianNoise, PoissonNoise
from benchmark_utils.priors import Prior

IMAGE_METRICS = ("lpips", "psnr", "ssim", "data_misfit")
SUFFIXES = {".png", ".jpg", ".jpeg", ".webp"}


def open_image(path):
    """The decoded image of a file; raises ValueError, naming the file, if it cannot be decoded."""
    try:
        image = Image.open(path)
        image.load()
    except (OSError, SyntaxError) as error:
        raise ValueError(f"{path} cannot be decoded as an image: copy or download it again ({error})") from error
    return image


def as_is(path, size):
    """An RGB image that must have size x size pixels."""
    image = open_image(path)
    if image.mode != "RGB" or image.size != (size, size):
        raise ValueError(
            f"{path} is {image.mode} of size {image.size}, but RGB of size {size}x{size} is needed: "
            "restore it with `git checkout -- assets`"
        )
    return image


def shrink_square(path, size):
    """A square RGB image of size x size pixels or more, shrunk by Lanczos."""
    image = open_image(path)
    if image.mode != "RGB":
        raise ValueError(f"{path} is {image.mode}, but an RGB image is needed: remove it or give the colour original")
    if image.width != image.height or image.width < size:
        raise ValueError(
            f"{path} is {image.width}x{image.height}, but a square image of {size}x{size} pixels or more is needed: "
            "remove it or give the original"
        )
    return image if image.width == size else image.resize((size, size), Image.Resampling.LANCZOS)


def centre_crop(path, size):
    """The centre square of an image as Dhariwal and Nichol (2021) prepare ImageNet, in size x size pixels.

    The short side is brought to ``size``, by averaging 2x2 blocks while it is twice as long or more, then
    bicubically, and the middle of the long side is kept. ImageNet has grey and small images: grey ones are
    repeated in three channels and small ones enlarged, as there.
    """
    image = open_image(path).convert("RGB")
    while min(image.size) >= 2 * size:
        image = image.resize((image.width // 2, image.height // 2), Image.Resampling.BOX)
    scale = size / min(image.size)
    image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BICUBIC)
    left, top = (image.width - size) // 2, (image.height - size) // 2
    return image.crop((left, top, left + size, top + size))


def stack_images(paths, size, fit=as_is):
    """Images of files, made size x size by ``fit``, as (n, 3, size, size) in [-1, 1]."""
    images = np.stack([np.asarray(fit(path, size)) for path in paths])
    return torch.from_numpy(images).permute(0, 3, 1, 2).float() / 127.5 - 1


def select(paths, first, n_images, folder):
    """Paths first .. first + n_images - 1; raises ValueError if there are not as many."""
    if first < 0 or n_images < 1 or first + n_images > len(paths):
        raise ValueError(
            f"first={first}, n_images={n_images} asks for images {first}..{first + n_images - 1}, "
            f"but {folder} has {len(paths)}: lower n_images or first, or add the images"
        )
    return paths[first : first + n_images]


def image_files(folder):
    """Image files in a folder and its subfolders, in the order of their names."""
    files = (path for path in Path(folder).rglob("*") if path.suffix.lower() in SUFFIXES)
    return sorted(files, key=lambda path: (path.name, path))


def read_images(folder, first, n_images, size, fit=as_is):
    """Images first .. first + n_images - 1 of a folder, in name order, as (n, 3, size, size) in [-1, 1].

    Returns the tensor and the file names. Raises ValueError, naming the file or the number, if there are not
    enough images or if ``fit`` refuses one.
    """
    paths = select(image_files(folder), first, n_images, folder)
    return stack_images(paths, size, fit), [path.name for path in paths]


def image_folder(name, content):
    """The user's folder ``name``; raises FileNotFoundError, saying what to do, if there is none."""
    folder = user_path(name) or data_home() / name
    if not folder.is_dir():
        raise FileNotFoundError(
            f"there is no folder {folder}: put {content} there, or name yours by {how_to_name(name)}"
        )
    return folder


def find_ffhq(first, n_images, size):
    """Paths of FFHQ images, by position in name order, and what makes them size x size.

    For 64 px these are the shipped thumbnails, else the user's images or those that ``benchopt prepare`` fetched.
    """
    if size == 64:
        return select(image_files(ffhq.THUMBNAILS), first, n_images, ffhq.THUMBNAILS), as_is
    if ffhq.downloaded_folder().is_dir() and not ffhq.has_own_folder():
        folder = ffhq.downloaded_folder()
    else:
        remedy = f"FFHQ images (square, {size} px or more, named in FFHQ's order), or fetch them by `benchopt prepare`,"
        folder = image_folder("ffhq", remedy)
    return select(image_files(folder), first, n_images, folder), shrink_square


def imagenet_names():
    """The benchmark's 300 ImageNet validation images: ``ILSVRC2012_val_`` and eight digits, in order.

    ``1 + numpy.random.default_rng(0).choice(50000, 300, replace=False)``, sorted.
    """
    return asset("imagenet300.txt").read_text().split()


def find_imagenet(first, n_images, size):
    """Paths of ImageNet validation images, by position in :func:`imagenet_names`, and what makes them size x size.

    A file may have a class suffix (``ILSVRC2012_val_00000001_n01751748.JPEG``) and lie in a subfolder. Raises
    ValueError, with the number found, if some are not there.
    """
    folder = image_folder("imagenet", "the 50,000 JPEGs of the ImageNet (ILSVRC 2012) validation set")
    names = imagenet_names()
    asked = select(names, first, n_images, "assets/imagenet300.txt")
    files = {path.name[: len(names[0])]: path for path in image_files(folder)}
    missing = [name for name in asked if name not in files]
    if missing:
        raise ValueError(
            f"{folder} has {len(set(names) & set(files))} of the 300 images that assets/imagenet300.txt lists, and "
            f"{len(missing)} of the {n_images} asked for are not there: {', '.join(missing[:3])}, ... "
            f"Name the folder of the whole validation set by {how_to_name('imagenet')}"
        )
    return [files[name] for name in asked], centre_crop


def noise_model(dataset):
    """Poisson noise if the dataset has a ``poisson_rate`` and it is set, else Gaussian noise of std ``noise_std``."""
    rate = getattr(dataset, "poisson_rate", None)
    return GaussianNoise(dataset.noise_std) if rate is None else PoissonNoise(rate)


def image_data(dataset, find, operator, task, n_samples):
    """The objective's data for images and the dataset's ``prior``, ``first``, ``n_images``, ``noise_std``.

    ``find`` is one of the functions above, ``operator`` a function of the image shape (3, H, W). If the images, the
    prior's weights or the operator's are not on this machine it returns ``{"missing": what to do}``.
    """
    prior = Prior.of(dataset.prior)
    try:
        size = image_size(prior)  # of a pipeline, from its files
        paths, fit = find(dataset.first, dataset.n_images, size)
        if prior.weights:
            prior.weights.require()
        physics = operator(prior.signal_shape)
    except FileNotFoundError as error:
        return {"missing": str(error)}
    return {
        "x_true": stack_images(paths, size, fit),
        "operator": physics,
        "noise": noise_model(dataset),
        "task": task,
        "prior": prior,
        "metrics": IMAGE_METRICS,
        "images": tuple(range(dataset.first, dataset.first + dataset.n_images)),
        "files": tuple(path.name for path in paths),
        "n_samples": n_samples,
    }


def image_size(prior):
    """Side of a prior's square images; raises ValueError if it is no prior of RGB images."""
    shape = prior.signal_shape
    if len(shape) != 3 or shape[0] != 3 or shape[1] != shape[2]:
        raise ValueError(f"prior={prior.name} has signals of shape {shape}; a prior of square RGB images is needed")
    return shape[1]


def prepare_images(dataset, find):
    """Check that the user's images are there and fetch the prior's weights; what ``benchopt prepare`` runs."""
    prepare_weights(dataset)
    find(dataset.first, dataset.n_images, image_size(Prior.of(dataset.prior)))


def prepare_weights(dataset):
    """Fetch the prior's weights, of a pipeline also the size of its images."""
    prior = Prior.of(dataset.prior)
    if prior.weights:
        prior.weights.prepare()


def ffhq_data(dataset, operator, task, n_samples=1):
    """:func:`image_data` of FFHQ: the shipped thumbnails for a 64-px prior, else the user's folder."""
    return image_data(dataset, find_ffhq, operator, task, n_samples)


def imagenet_data(dataset, operator, task, n_samples=1):
    """:func:`image_data` of the 300 listed images of the ImageNet validation set, in the user's folder."""
    return image_data(dataset, find_imagenet, operator, task, n_samples)


def prepare_ffhq(dataset):
    prepare_weights(dataset)
    if image_size(Prior.of(dataset.prior)) > 64:
        ffhq.fetch()
    prepare_images(dataset, find_ffhq)


def prepare_imagenet(dataset):
    prepare_images(dataset, find_imagenet)
