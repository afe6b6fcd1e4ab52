"""Reading images: the folders users have, the exact pixels, and a clear word for each bad file."""

import os
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from helpers import read_thumbnails
from PIL import Image

from benchmark_utils.files import images
from benchmark_utils.files.paths import ASSETS, user_files_state
from benchmark_utils.priors import Prior
from datasets.ffhq_hdr import Dataset

SHARED = Path(__file__).parents[3] / "shared" / "data"


def picture(width, height, seed=0):
    """Smooth random RGB picture: resizing it means something."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


def pixels(x):
    """Back from (n, 3, H, W) in [-1, 1] to uint8 (n, H, W, 3)."""
    return ((x + 1) * 127.5).round().to(torch.uint8).movedim(1, -1).numpy()


@pytest.fixture
def ffhq(tmp_path, monkeypatch):
    folder = tmp_path / "ffhq"
    folder.mkdir()
    monkeypatch.setenv("FFHQ_PATH", str(folder))
    return folder


@pytest.fixture
def imagenet(tmp_path, monkeypatch):
    folder = tmp_path / "imagenet"
    folder.mkdir()
    monkeypatch.setenv("IMAGENET_PATH", str(folder))
    return folder


def test_thumbnails_are_read_exactly_and_by_position():
    paths, fit = images.find_ffhq(20, 2, 64, shipped_prior=True)
    x = images.stack_images(paths, 64, fit)
    assert [path.name for path in paths] == ["00025.png", "00033.png"]
    assert np.array_equal(pixels(x)[1], np.asarray(Image.open(ASSETS / "ffhq64" / "00033.png")))
    assert x.min() >= -1 and x.max() <= 1


def test_ffhq_folder_in_name_order_at_any_depth(ffhq):
    for number, suffix in ((2, "jpg"), (0, "png"), (1, "png")):
        (ffhq / f"part{number}").mkdir()
        picture(256, 256, number).save(ffhq / f"part{number}" / f"{number:05d}.{suffix}")
    (ffhq / "README.txt").write_text("not an image")
    paths, fit = images.find_ffhq(0, 3, 256)
    assert [path.name for path in paths] == ["00000.png", "00001.png", "00002.jpg"]
    x = images.stack_images(paths, 256, fit)
    assert np.array_equal(pixels(x)[1], np.asarray(picture(256, 256, 1)))


def test_ffhq_large_images_are_shrunk_by_lanczos(ffhq):
    picture(400, 400).save(ffhq / "00000.png")
    paths, fit = images.find_ffhq(0, 1, 256)
    expected = picture(400, 400).resize((256, 256), Image.Resampling.LANCZOS)
    assert np.array_equal(pixels(images.stack_images(paths, 256, fit))[0], np.asarray(expected))


BAD = {
    "grey": (lambda path: picture(256, 256).convert("L").save(path), "is L, but an RGB image is needed"),
    "small": (lambda path: picture(100, 100).save(path), "is 100x100, but a square image of 256x256 pixels or more"),
    "oblong": (lambda path: picture(300, 256).save(path), "is 300x256, but a square image"),
    "text": (lambda path: path.write_text("no image"), "cannot be decoded as an image: copy or download it again"),
    "empty": (lambda path: path.write_bytes(b""), "cannot be decoded as an image"),
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_ffhq_image_names_the_file_and_the_remedy(ffhq, kind):
    write, message = BAD[kind]
    write(ffhq / "00000.png")
    paths, fit = images.find_ffhq(0, 1, 256)
    with pytest.raises(ValueError, match=f"00000.png {message}"):
        images.stack_images(paths, 256, fit)


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_truncated_image_names_the_file(ffhq, suffix):
    path = ffhq / f"00000.{suffix}"
    picture(256, 256).save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ValueError, match=f"00000.{suffix} cannot be decoded"):
        images.shrink_square(path, 256)


@pytest.mark.parametrize("size", [(256, 256), (63, 64)])
def test_thumbnail_of_another_size_is_refused(tmp_path, size):
    picture(*size).save(tmp_path / "00000.png")
    with pytest.raises(ValueError, match="RGB of size 64x64 is needed"):
        images.stack_images([tmp_path / "00000.png"], 64)


@pytest.mark.parametrize(("first", "n_images"), [(0, 3), (2, 1), (-1, 1), (0, 0)])
def test_too_few_images_says_how_many_there_are(ffhq, first, n_images):
    for number in range(2):
        picture(256, 256).save(ffhq / f"{number:05d}.png")
    with pytest.raises(ValueError, match=f"first={first}, n_images={n_images}.*has 2"):
        images.find_ffhq(first, n_images, 256)


def test_imagenet_list_is_the_seeded_draw():
    drawn = np.sort(1 + np.random.default_rng(0).choice(50000, 300, replace=False))
    assert images.imagenet_names() == [f"ILSVRC2012_val_{number:08d}" for number in drawn]


def test_imagenet_names_with_or_without_class_flat_or_nested(imagenet):
    names = images.imagenet_names()[:3]
    (imagenet / "n01751748").mkdir()
    picture(300, 260, 0).save(imagenet / f"{names[0]}.JPEG")
    picture(300, 260, 1).save(imagenet / "n01751748" / f"{names[1]}_n01751748.JPEG")
    picture(300, 260, 2).save(imagenet / "n01751748" / f"{names[2]}.JPEG")
    picture(300, 260, 3).save(imagenet / "ILSVRC2012_val_00000001.JPEG")  # not on the list
    paths, fit = images.find_imagenet(0, 3, 256)
    assert [path.name[:23] for path in paths] == names
    assert images.stack_images(paths, 256, fit).shape == (3, 3, 256, 256)
    assert [path.name[:23] for path in images.find_imagenet(1, 2, 256)[0]] == names[1:]


def test_imagenet_folder_with_fewer_says_how_many_were_found(imagenet):
    for name in images.imagenet_names()[:2]:
        picture(300, 260).save(imagenet / f"{name}.JPEG")
    with pytest.raises(ValueError, match="has 2 of the 300 images .* 3 of the 5 asked for are not there"):
        images.find_imagenet(0, 5, 256)
    with pytest.raises(ValueError, match="imagenet300.txt has 300"):
        images.find_imagenet(299, 2, 256)


def centre_crop_by_hand(image, size):
    """The same preparation with the halving in integers (columns, then rows, each rounded half up), sides even."""
    x = np.asarray(image.convert("RGB")).astype(int)
    while min(x.shape[:2]) >= 2 * size:
        x = (x[:, ::2] + x[:, 1::2] + 1) // 2
        x = (x[::2] + x[1::2] + 1) // 2
    scale = size / min(x.shape[:2])
    height, width = (round(side * scale) for side in x.shape[:2])
    x = np.asarray(Image.fromarray(x.astype(np.uint8)).resize((width, height), Image.Resampling.BICUBIC))
    top, left = (height - size) // 2, (width - size) // 2
    return x[top : top + size, left : left + size]


@pytest.mark.parametrize("size", [(500, 374), (374, 500), (1024, 768), (1300, 1100), (100, 80), (256, 256)])
def test_centre_crop(tmp_path, size):
    path = tmp_path / "image.png"
    picture(*size).save(path)
    found = np.asarray(images.centre_crop(path, 256))
    assert found.shape == (256, 256, 3)
    assert np.array_equal(found, centre_crop_by_hand(picture(*size), 256))


def test_imagenet_grey_images_get_three_channels(tmp_path):
    picture(300, 300).convert("L").save(tmp_path / "grey.jpg")
    crop = np.asarray(images.centre_crop(tmp_path / "grey.jpg", 256))
    assert crop.shape == (256, 256, 3) and (crop[..., 0] == crop[..., 2]).all()


@pytest.mark.skipif(not (SHARED / "ffhq256").is_dir(), reason="needs ../shared/data/ffhq256")
def test_real_ffhq_folder(monkeypatch):
    monkeypatch.setenv("FFHQ_PATH", str(SHARED / "ffhq256"))
    paths, fit = images.find_ffhq(0, 24, 256)
    x = images.stack_images(paths, 256, fit)
    assert x.shape == (24, 3, 256, 256)
    assert paths[20].name == "00025.png"
    # the thumbnails are box (40, 60, 216, 236) of these pictures, so both have about the same mean colour
    thumbnails = read_thumbnails(24)
    assert (x[..., 60:236, 40:216].mean((2, 3)) - thumbnails.mean((2, 3))).abs().max() < 0.02


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A hub whose FFHQ file has the given pictures, in the layout of the real one; returns the call that fills it."""
    monkeypatch.delenv("FFHQ_PATH", raising=False)
    monkeypatch.setenv("BENCHMARK_DIFFUSION_POSTERIOR_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "train.parquet"

    def fill(files):
        rows = [{"image": {"bytes": file.read_bytes(), "path": None}} for file in files]
        pq.write_table(pa.Table.from_pylist(rows), path)

    monkeypatch.setattr("huggingface_hub.hf_hub_download", lambda *_, **__: path)
    return fill


@pytest.mark.skipif(not (SHARED / "ffhq256").is_dir(), reason="needs ../shared/data/ffhq256")
def test_ffhq_is_fetched_from_the_hub(hub):
    files = sorted((SHARED / "ffhq256").glob("*.png"))[:20]  # numbers 0 to 19
    hub(files)
    images.fetch_ffhq()
    paths, fit = images.find_ffhq(18, 2, 256)
    assert [path.name for path in paths] == ["00018.png", "00019.png"]
    assert np.array_equal(np.asarray(fit(paths[1], 256)), np.asarray(Image.open(files[19])))
    hub(files[::-1])
    images.fetch_ffhq()  # they are there: nothing is fetched


@pytest.mark.skipif(not (SHARED / "ffhq256").is_dir(), reason="needs ../shared/data/ffhq256")
def test_other_images_from_the_hub_are_refused(hub):
    hub(sorted((SHARED / "ffhq256").glob("*.png"))[1:4])
    with pytest.raises(ValueError, match="row 0 of .* is not FFHQ image 00000.png"):
        images.fetch_ffhq()
    assert not images.downloaded_folder().exists()


def test_without_a_network_the_remedy_is_named(hub, monkeypatch):
    def unreachable(*_, **__):
        raise OSError("no route")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", unreachable)
    with pytest.raises(ConnectionError, match="merkol/ffhq-256.*FFHQ_PATH"):
        images.fetch_ffhq()


@pytest.mark.skipif(not (SHARED / "imagenet256").is_dir(), reason="needs ../shared/data/imagenet256")
def test_real_imagenet_files():
    paths = images.image_files(SHARED / "imagenet256")
    x = images.stack_images(paths, 256, images.centre_crop)
    assert x.shape == (16, 3, 256, 256)
    assert x.std((1, 2, 3)).min() > 0.1
    for path, found in zip(paths, pixels(x), strict=True):
        assert np.array_equal(found, centre_crop_by_hand(Image.open(path), 256)), path.name


def test_missing_folder_is_skipped_with_the_remedy(tmp_path, monkeypatch):
    monkeypatch.setenv("FFHQ_PATH", str(tmp_path / "nowhere"))
    data = Dataset.get_instance(prior="ffhq256", n_images=1).get_data()
    assert set(data) == {"missing"}
    assert "nowhere" in data["missing"] and "FFHQ_PATH" in data["missing"] and "data_paths" in data["missing"]


def test_missing_weights_are_skipped_with_the_remedy(ffhq, tmp_path, monkeypatch):
    picture(256, 256).save(ffhq / "00000.png")
    monkeypatch.setenv("BENCHMARK_DIFFUSION_POSTERIOR_CACHE", str(tmp_path / "empty"))
    monkeypatch.delenv("FFHQ256_PATH", raising=False)
    data = Dataset.get_instance(prior="ffhq256", n_images=1).get_data()
    assert set(data) == {"missing"}
    assert "benchopt prepare" in data["missing"] and "FFHQ256_PATH" in data["missing"]


def test_data_of_an_image_task(ffhq, tmp_path, monkeypatch):
    for number in range(3):
        picture(256, 256, number).save(ffhq / f"{number:05d}.png")
    weights = tmp_path / "weights.safetensors"
    weights.touch()  # empty: whoever reads it fails
    monkeypatch.setenv("FFHQ256_PATH", str(weights))
    data = Dataset.get_instance(prior="ffhq256", first=1, n_images=2).get_data()
    assert data["x_true"].shape == (2, 3, 256, 256)
    assert data["images"] == (1, 2) and data["files"] == ("00001.png", "00002.png")
    assert data["prior"].name == "ffhq256" and data["n_samples"] == 1


def test_prior_of_other_signals_is_refused():
    with pytest.raises(ValueError, match="prior of square RGB images"):
        Dataset.get_instance(prior="gaussian", n_images=1).get_data()


def pipeline_handle(size):
    """A prior of square images that is not shipped."""
    weights = SimpleNamespace(require=lambda: None, shipped=False)
    return SimpleNamespace(name="pipeline", signal_shape=(3, size, size), weights=weights)


def test_a_64_px_prior_of_the_user_reads_the_named_folder(ffhq, monkeypatch):
    picture(256, 256).save(ffhq / "mine.png")
    monkeypatch.setattr(Prior, "of", lambda _: pipeline_handle(64))
    data = Dataset.get_instance(n_images=1).get_data()
    assert data["files"] == ("mine.png",)
    expected = picture(256, 256).resize((64, 64), Image.Resampling.LANCZOS)
    assert np.array_equal(pixels(data["x_true"])[0], np.asarray(expected))


def test_without_a_folder_a_64_px_prior_reads_the_thumbnails(monkeypatch):
    monkeypatch.delenv("FFHQ_PATH", raising=False)
    monkeypatch.setattr(Prior, "of", lambda _: pipeline_handle(64))
    assert Dataset.get_instance(n_images=1, first=20).get_data()["files"] == ("00025.png",)


@pytest.mark.parametrize("prior", ["faces64", "faces64_mfa", "faces64_latent"])
def test_embedded_priors_say_that_they_read_the_shipped_faces(ffhq, prior):
    picture(256, 256).save(ffhq / "mine.png")
    with pytest.warns(UserWarning, match="embedded priors read the shipped faces.*not your folder"):
        data = Dataset.get_instance(prior=prior, n_images=1, first=20).get_data()
    assert data["files"] == ("00025.png",)


def test_a_face_is_upright_as_its_exif_says(ffhq):
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation: turned by 90 degrees
    picture(256, 256).transpose(Image.Transpose.ROTATE_90).save(ffhq / "00000.png", exif=exif)
    paths, fit = images.find_ffhq(0, 1, 256)
    assert np.array_equal(pixels(images.stack_images(paths, 256, fit))[0], np.asarray(picture(256, 256)))


def test_names_that_begin_with_a_dot_are_no_images(ffhq):
    (ffhq / ".ipynb_checkpoints").mkdir()
    for name in (".ipynb_checkpoints/00000-checkpoint.png", "._00000.png", "00000.png"):
        picture(256, 256).save(ffhq / name)
    assert [path.name for path in images.image_files(ffhq)] == ["00000.png"]


def test_linked_folders_are_read_once(ffhq, tmp_path):
    elsewhere = tmp_path / "disk"
    elsewhere.mkdir()
    picture(256, 256).save(elsewhere / "00001.png")
    picture(256, 256).save(ffhq / "00000.png")
    (ffhq / "part").symlink_to(elsewhere)
    (elsewhere / "loop").symlink_to(ffhq)
    assert [path.name for path in images.image_files(ffhq)] == ["00000.png", "00001.png"]


@pytest.mark.parametrize("suffix", ["tif", "tiff", "bmp", "BMP"])
def test_other_lossless_formats_are_read(ffhq, suffix):
    picture(256, 256).save(ffhq / f"00000.{suffix}")
    paths, fit = images.find_ffhq(0, 1, 256)
    assert np.array_equal(pixels(images.stack_images(paths, 256, fit))[0], np.asarray(picture(256, 256)))


def test_a_folder_of_other_files_says_which_are_read(ffhq):
    (ffhq / "00000.gif").touch()
    with pytest.raises(ValueError, match="png jpg jpeg webp tif tiff bmp.* has 0"):
        images.find_ffhq(0, 1, 256)


@pytest.mark.parametrize("mode", ["L", "P", "RGBA"])
def test_the_offer_to_convert_a_picture_works(ffhq, mode):
    path = ffhq / "00000.png"
    picture(256, 256).convert(mode).save(path)
    with pytest.raises(ValueError, match=f"is {mode}, but an RGB image is needed") as refused:
        images.shrink_square(path, 256)
    exec(re.search(r'python -c "(.*)"`', str(refused.value))[1])
    assert images.shrink_square(path, 256).mode == "RGB"


@pytest.mark.parametrize("place", [".", "Track01900/stems"])
def test_cache_key_sees_what_changes_in_the_users_folder(ffhq, place):
    path = ffhq / place / "01.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    states = [user_files_state()]

    def note_change():
        states.append(user_files_state())
        assert states[-1] == user_files_state() and states[-1] not in states[:-1]

    path.write_bytes(b"one")
    note_change()
    time = path.stat().st_mtime_ns
    path.write_bytes(b"more")  # in place, within the clock's step
    os.utime(path, ns=(time, time))
    note_change()
    os.utime(path, ns=(time, time + 1))
    note_change()
    path.rename(path.with_name("02.png"))
    note_change()
    (ffhq / place / ".DS_Store").touch()
    (ffhq / place / "loop").symlink_to(ffhq, target_is_directory=True)
    (ffhq / place / "nowhere").symlink_to(ffhq / "gone")
    assert user_files_state() == states[-1]


def test_cache_key_sees_files_behind_a_link(ffhq, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (ffhq / "link").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    before = user_files_state()
    (tmp_path / "elsewhere" / "03.png").touch()
    assert user_files_state() != before
