"""The first FFHQ images at 256 px from the Hugging Face hub, for users without a folder of their own."""

import io
import os

import numpy as np
import pyarrow.parquet as pq
from PIL import Image

from benchmark_utils.files.paths import ASSETS, cache_folder, data_home, how_to_name, user_path
from benchmark_utils.files.weights import HUB, downloads

REPO = "merkol/ffhq-256"
SHARD = "data/train-00000-of-00015-991c06ed507bdb85.parquet"  # column image: {bytes, path}; 0.5 GB
THUMBNAILS = ASSETS / "ffhq64"
N_IMAGES = 1000  # the validation part
FACE_BOX = (40, 60, 216, 236)  # what the shipped 64-px thumbnails show of a 256-px image


def downloaded_folder():
    """Where :func:`fetch` puts the images."""
    return cache_folder() / "ffhq256_images"


def has_own_folder():
    """Whether the user named a folder of FFHQ images or made the default one."""
    return user_path("ffhq") is not None or (data_home() / "ffhq").is_dir()


def fetch():
    """Download images 0..999 unless they, or a folder of the user, are there.

    Raises ConnectionError if the download fails and ValueError if the images are not FFHQ's in FFHQ's order, which
    the shipped thumbnails tell.
    """
    folder = downloaded_folder()
    if has_own_folder() or folder.is_dir():
        return
    from huggingface_hub import hf_hub_download

    otherwise = f"name a folder of FFHQ images by {how_to_name('ffhq')}"
    with downloads(SHARD, f"{HUB}/datasets/{REPO}", otherwise):
        path = hf_hub_download(REPO, SHARD, repo_type="dataset", local_dir=cache_folder())
    rows = next(pq.ParquetFile(path).iter_batches(N_IMAGES, columns=["image"])).to_pylist()
    images = [Image.open(io.BytesIO(row["image"]["bytes"])).convert("RGB") for row in rows]
    check_order(images, path)
    partial = folder.with_name(f"{folder.name}.{os.getpid()}.partial")
    partial.mkdir(parents=True)
    for number, image in enumerate(images):
        image.save(partial / f"{number:05d}.png")
    partial.replace(folder)


def check_order(images, path):
    """Raise ValueError, naming the file, if an image is not the one that its shipped thumbnail shows.

    The mean absolute difference of two of these faces is 33 grey levels or more, that of copies that were compressed
    (JPEG, quality 75) and resized differently below 3.
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
