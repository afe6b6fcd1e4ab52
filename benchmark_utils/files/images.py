"""Read images: FFHQ and ImageNet of the user's folders, the shipped thumbnails, FFHQ of the Hugging Face hub."""

import contextlib
import io
import os
import re
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch
from PIL import Image, ImageOps

from benchmark_utils.files.paths import ASSETS, asset, cache_folder, data_home, how_to_name, user_path
from benchmark_utils.files.weights import downloads

FORMATS = "png jpg jpeg webp tif tiff bmp"
THUMBNAILS = ASSETS / "ffhq64"
FACE_BOX = (40, 60, 216, 236)  # what the thumbnails show of a 256-px image
HUB = "merkol/ffhq-256"
HUB_FILE = "data/train-00000-of-00015-991c06ed507bdb85.parquet"  # column image: {bytes, path}; 0.5 GB
N_HUB_IMAGES = 1000  # the validation part
FITS = ("refuse", "centre", "pad")


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
    """A square RGB image of size x size pixels or more, upright as its EXIF orientation says, shrunk by Lanczos."""
    image = ImageOps.exif_transpose(open_image(path))
    if image.mode != "RGB":
        raise ValueError(
            f"{path} is {image.mode}, but an RGB image is needed: give the original, remove it, or convert it by "
            f"`python -c \"from PIL import Image; Image.open('{path}').convert('RGB').save('{path}', quality=100)\"`"
        )
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
    repeated in three channels, small ones enlarged, and an EXIF orientation is ignored, as there.
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


@contextlib.contextmanager
def named(path):
    """Name the file in a ValueError of the ``with`` that does not."""
    try:
        yield
    except ValueError as error:
        raise error if str(path) in str(error) else ValueError(f"{path}: {error}") from error


def to_grey_or_rgb(image, channels):
    """An image as 8-bit grey (1 channel) or RGB (3), and what that took, None for nothing.

    Transparent parts become white, 16 bits are rounded to 8. Raises ValueError for pixels of unknown range.
    """
    mode, target = image.mode, "L" if channels == 1 else "RGB"
    done = f"{mode} to {target}" if mode != target else None
    if mode.startswith("I"):
        values = np.asarray(image).astype(float)
        if values.min() < 0 or values.max() > 65535:
            raise ValueError("its whole numbers are not of 16 bits")
        image = Image.fromarray((values / 257).round().astype(np.uint8))
    elif mode == "F":
        raise ValueError("its pixels are floating-point numbers, whose range is not known")
    elif image.has_transparency_data:
        done = f"{mode} over white to {target}"
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA"))
    return image.convert(target), done


def to_size(image, size, fit):
    """An image of (width, height) pixels: as it is, or enlarged or shrunk by Lanczos and cropped or padded with black.

    ``fit`` is ``refuse``, ``centre`` or ``pad``. Raises ValueError for another size where it is ``refuse``.
    """
    if image.size == size:
        return image
    if fit == "refuse":
        raise ValueError(
            f"it is {image.width}x{image.height}, but the prior's images are {size[0]}x{size[1]}: "
            "choose fit=centre (crop and resize) or fit=pad, or resize it"
        )
    return (ImageOps.fit if fit == "centre" else ImageOps.pad)(image, size, Image.Resampling.LANCZOS)


def read_pictures(paths, shape, fit, convert):
    """Any images as (n, *shape) in [-1, 1], ``shape`` being (1 or 3, H, W), upright as their EXIF orientation says.

    Conversions (:func:`to_grey_or_rgb`; of several frames the first is taken) are counted in one warning. Raises
    ValueError, naming the file, for one that cannot be read or made to fit (:func:`to_size`), or that
    ``convert=False`` refuses to convert.
    """
    channels, height, width = shape
    pictures, conversions = [], Counter()
    for path in paths:
        with named(path):
            opened = open_image(path)
            image, done = to_grey_or_rgb(ImageOps.exif_transpose(opened), channels)
            if getattr(opened, "n_frames", 1) > 1:
                done = "first of several frames"
            if done and not convert:
                raise ValueError(f"convert=False refuses {done}")
            pictures.append(np.asarray(to_size(image, (width, height), fit)).reshape(height, width, channels))
        conversions[done] += 1
    del conversions[None]
    if conversions:
        kinds = ", ".join(f"{n} {kind}" for kind, n in sorted(conversions.items()))
        warnings.warn(f"{conversions.total()} of {len(paths)} images were converted: {kinds}", stacklevel=2)
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float() / 127.5 - 1


def select(paths, first, n_images, folder):
    """Paths number ``first`` to ``first + n_images - 1``; raises ValueError if there are fewer."""
    if first < 0 or n_images < 1 or first + n_images > len(paths):
        raise ValueError(
            f"first={first}, n_images={n_images} asks for images {first}..{first + n_images - 1}, "
            f"but {folder} has {len(paths)}: lower n_images or first, or add the images"
        )
    return paths[first : first + n_images]


def natural_key(path):
    """Orders names by the numbers in them: ``2.png`` before ``10.png``."""
    return [int(part) if part.isdigit() else part for part in re.split(r"([0-9]+)", path.name)], path


def image_files(folder, formats=FORMATS):
    """Files of these formats in a folder and its subfolders, in the order of their names.

    Links to folders are followed, each folder is read once; names that begin with a dot are left out.
    """
    files, visited = [], set()
    for parent, folders, names in os.walk(folder, followlinks=True):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        if (real := os.path.realpath(parent)) in visited:
            folders.clear()
            continue
        visited.add(real)
        files += [Path(parent, name) for name in names if not name.startswith(".")]
    found = (path for path in files if path.suffix.lower()[1:] in formats.split())
    return sorted(found, key=lambda path: (path.name, path))


def image_folder(name, content):
    """The user's folder ``name``; raises FileNotFoundError, saying what to do, if there is none."""
    folder = user_path(name) or data_home() / name
    if not folder.is_dir():
        raise FileNotFoundError(
            f"there is no folder {folder}: put {content} there, or name yours by {how_to_name(name)}"
        )
    return folder


def downloaded_folder():
    """Where :func:`fetch_ffhq` puts the images."""
    return cache_folder() / "ffhq256_images"


def has_own_folder():
    """Whether the user named a folder of FFHQ images or made the default one."""
    return user_path("ffhq") is not None or (data_home() / "ffhq").is_dir()


def fetch_ffhq():
    """Download images 0..999 unless they, or a folder of the user, are there.

    Raises ConnectionError if the download fails, and ValueError if the images are not FFHQ's in FFHQ's order: they
    are compared with the shipped thumbnails.
    """
    folder = downloaded_folder()
    if has_own_folder() or folder.is_dir():
        return
    from huggingface_hub import hf_hub_download

    otherwise = f"name a folder of FFHQ images by {how_to_name('ffhq')}"
    with downloads(HUB_FILE, f"https://huggingface.co/datasets/{HUB}", otherwise):
        path = hf_hub_download(HUB, HUB_FILE, repo_type="dataset", local_dir=cache_folder())
    rows = next(pq.ParquetFile(path).iter_batches(N_HUB_IMAGES, columns=["image"])).to_pylist()
    images = [Image.open(io.BytesIO(row["image"]["bytes"])).convert("RGB") for row in rows]
    check_ffhq_order(images, path)
    partial = folder.with_name(f"{folder.name}.{os.getpid()}.partial")
    partial.mkdir(parents=True)
    for number, image in enumerate(images):
        image.save(partial / f"{number:05d}.png")
    partial.replace(folder)


def check_ffhq_order(images, path):
    """Raise ValueError, naming the file, if an image is not the one that its shipped thumbnail shows.

    Two different faces of these have a mean absolute difference of 33 grey levels or more; two copies of one face,
    compressed (JPEG, quality 75) and resized differently, of less than 3.
    """
    for thumbnail in sorted(THUMBNAILS.glob("*.png")):
        number = int(thumbnail.stem)
        if number >= len(images):
            continue
        shown = images[number].resize((256, 256), Image.Resampling.LANCZOS).crop(FACE_BOX)
        shown = np.asarray(shown.resize((64, 64), Image.Resampling.LANCZOS), dtype=float)
        difference = np.abs(shown - np.asarray(Image.open(thumbnail), dtype=float)).mean()
        if difference > 8:
            raise ValueError(
                f"row {number} of {path} is not FFHQ image {thumbnail.name} (mean difference {difference:.0f} grey "
                f"levels): the repository has changed; name a folder of FFHQ images by {how_to_name('ffhq')}"
            )


def find_ffhq(first, n_images, size, shipped_prior=False):
    """Paths of FFHQ images, by position in name order, and the function that makes them size x size.

    Shipped priors of 64 px read the shipped thumbnails, which they were made for. Others read the user's folder;
    without one, the thumbnails at 64 px and the images that ``benchopt prepare`` fetched above 64 px.
    """
    own = has_own_folder()
    if size == 64 and shipped_prior and own:
        notice = "the embedded priors read the shipped faces of assets/ffhq64, not your folder of FFHQ images"
        warnings.warn(notice, stacklevel=2)
    if size == 64 and (shipped_prior or not own):
        return select(image_files(THUMBNAILS), first, n_images, THUMBNAILS), as_is
    if downloaded_folder().is_dir() and not own:
        folder = downloaded_folder()
    else:
        remedy = f"FFHQ images (square, {size} px or more, named in FFHQ's order), or fetch them by `benchopt prepare`,"
        folder = image_folder("ffhq", remedy)
    return select(image_files(folder), first, n_images, f"{folder} ({FORMATS})"), shrink_square


def imagenet_names():
    """The benchmark's 300 ImageNet validation images: ``ILSVRC2012_val_`` and eight digits, in order.

    ``1 + numpy.random.default_rng(0).choice(50000, 300, replace=False)``, sorted.
    """
    return asset("imagenet300.txt").read_text().split()


def find_imagenet(first, n_images, size):
    """Paths of ImageNet validation images, in the order of :func:`imagenet_names`, and what makes them size x size.

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
