"""Images, masks and operators of the user's own: what is read, and one clear line for each bad input."""

import os
import re

import numpy as np
import pytest
import torch
from PIL import Image
from test_images import picture, pixels
from test_tasks import objective_of, rows_of

from benchmark_utils.files.images import image_files, natural_key, read_pictures
from benchmark_utils.files.modules import load_module
from benchmark_utils.noise import GaussianNoise, PoissonNoise
from benchmark_utils.own import image_metrics
from benchmark_utils.priors import Prior
from benchmark_utils.priors.base import PriorSpec
from benchmark_utils.problem import count_observed
from benchmark_utils.tasks import TASKS, parse_task
from datasets.image_folder import Dataset
from solvers.ddrm import Solver as DDRM
from solvers.dps import Solver as DPS
from solvers.reddiff import Solver as REDdiff
from solvers.resample import Solver as ReSample
from solvers.sitcom import Solver as SITCOM

MY_BLUR = """
from deepinv.physics import BlurFFT
from deepinv.physics.functional.blur import gaussian_blur

def make(shape, images):
    return BlurFFT(img_size=shape, filter=gaussian_blur(sigma=(1.0, 1.0)))
"""


@pytest.fixture
def photos(tmp_path):
    """A folder with what users have: a sideways JPEG, grey, transparent, palette, 16-bit, a dot file, Unicode."""
    folder = tmp_path / "photos"
    (folder / "part").mkdir(parents=True)
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation: turned by 90 degrees
    picture(90, 120, 1).transpose(Image.Transpose.ROTATE_90).save(folder / "sideways.png", exif=exif)
    picture(80, 80, 2).convert("L").save(folder / "grey.png")
    transparent = picture(64, 64, 3).convert("RGBA")
    transparent.putalpha(Image.fromarray(np.repeat(np.arange(64, dtype=np.uint8)[None] * 4, 64, 0)))
    transparent.save(folder / "transparent.png")
    picture(64, 64, 4).convert("P").save(folder / "palette.png")
    Image.fromarray(np.asarray(picture(64, 64, 5).convert("L")).astype(np.uint16) * 257).save(folder / "deep.png")
    picture(64, 64, 6).save(folder / "part" / "fête 10.png")
    (folder / "._hidden.png").write_text("no image")
    return folder


def data_of(folder, **parameters):
    return Dataset.get_instance(
        **{"path": str(folder), "prior": "faces64_mfa", "fit": "centre"} | parameters
    ).get_data()


NAMES = ["box", "half", "random", "random55", "sr4", "sr16", "gaussian_blur", "gaussian_blur1.5", "motion_blur"]
NAMES += ["jpeg2", "jpeg10", "phase_retrieval", "hdr", "denoising", "colorization"]


@pytest.mark.parametrize("name", NAMES)
def test_a_task_is_read_by_the_name_that_it_gives_itself(name):
    task, options = parse_task(name)
    assert task.name(**options) == name and task in TASKS.values()


def test_every_task_of_the_table_has_a_name_that_is_read():
    with pytest.raises(ValueError) as refused:
        parse_task("nothing")
    listed = refused.value.args[0].partition("known: ")[2].split(", ")
    found = {id(parse_task(re.sub("<.*>", "4", name))[0]) for name in listed}
    assert found == {id(task) for task in TASKS.values()}


@pytest.mark.parametrize("name", ["sr", "half3", "hdr2", "jpg10", "4", "", "sr4x", "random5.5.5"])
def test_another_name_lists_the_tasks(name):
    with pytest.raises(ValueError, match=f"unknown task '{name}'; known: box, half, random<percent>, sr<factor>"):
        parse_task(name)


def test_a_folder_is_read_upright_and_converted_with_one_notice(photos):
    notice = r"4 of 6 images were converted: 1 I;16 to RGB, 1 L to RGB, 1 P to RGB, 1 RGBA over white to RGB"
    with pytest.warns(UserWarning, match=notice) as warned:
        data = data_of(photos, task="sr4")
    assert len(warned) == 1
    assert data["files"] == ("deep.png", "fête 10.png", "grey.png", "palette.png", "sideways.png", "transparent.png")
    deep, unicode, grey, palette, sideways, transparent = pixels(data["x_true"])
    assert np.array_equal(deep[..., 0], np.asarray(picture(64, 64, 5).convert("L")))
    assert np.array_equal(unicode, np.asarray(picture(64, 64, 6)))
    assert np.array_equal(palette, np.asarray(picture(64, 64, 4).convert("P").convert("RGB")))
    upright = picture(90, 120, 1).crop((0, 15, 90, 105)).resize((64, 64), Image.Resampling.LANCZOS)
    assert np.abs(sideways.astype(int) - np.asarray(upright)).max() <= 2
    shown = np.asarray(picture(64, 64, 3)).astype(float)
    alpha = (np.arange(64) * 4 / 255)[None, :, None]
    assert np.abs(transparent - (alpha * shown + (1 - alpha) * 255)).max() <= 1.5
    assert data["images"] == tuple(range(6)) and data["task"] == "sr4"


def test_conversion_can_be_refused(photos):
    with pytest.raises(ValueError, match="deep.png: convert=False refuses I;16 to RGB"):
        data_of(photos, task="sr4", convert=False)


def test_floating_point_pixels_are_refused(tmp_path):
    Image.fromarray(np.zeros((64, 64), np.float32)).save(tmp_path / "depth.tif")
    with pytest.raises(ValueError, match="depth.tif: its pixels are floating-point numbers"):
        data_of(tmp_path, task="sr4")


def test_the_first_of_several_frames_is_taken_and_said(tmp_path):
    frames = [picture(64, 64, seed) for seed in range(2)]
    frames[0].save(tmp_path / "film.tif", save_all=True, append_images=frames[1:])
    with pytest.warns(UserWarning, match="1 of 1 images were converted: 1 first of several frames"):
        data = data_of(tmp_path, task="hdr")
    assert np.array_equal(pixels(data["x_true"])[0], np.asarray(frames[0]))


def test_images_are_padded_with_black(tmp_path):
    picture(128, 64).save(tmp_path / "wide.png")
    (found,) = pixels(data_of(tmp_path, task="sr4", fit="pad")["x_true"])
    assert (found[:16] == 0).all() and (found[48:] == 0).all()
    assert np.array_equal(found[16:48], np.asarray(picture(128, 64).resize((64, 32), Image.Resampling.LANCZOS)))


def test_names_are_ordered_by_text_or_by_number(tmp_path):
    for number in (2, 10, 1):
        picture(64, 64, number).save(tmp_path / f"frame{number}.png")
    by_name = data_of(tmp_path, task="hdr")["files"]
    assert by_name == ("frame1.png", "frame10.png", "frame2.png")
    chosen = data_of(tmp_path, task="hdr", order="natural", first=1, n_images=2)
    assert chosen["files"] == ("frame2.png", "frame10.png") and chosen["images"] == (1, 2)
    mixed = sorted(map(tmp_path.joinpath, ("a1b", "1a", "a", "10", "a01b")), key=natural_key)
    assert [path.name for path in mixed] == ["1a", "10", "a", "a01b", "a1b"]


def own_prior(shape):
    """A handle with signals of this shape and the posterior of nobody."""
    return PriorSpec("ffhq", shape, load=None)


@pytest.mark.parametrize("shape", [(1, 64, 64), (3, 48, 80), (1, 28, 28)])
def test_channels_and_size_follow_the_prior(photos, shape):
    with pytest.warns(UserWarning, match="of 6 images were converted"):
        x = read_pictures(image_files(photos), shape, "centre", convert=True)
    assert x.shape == (6, *shape) and x.min() >= -1 and x.max() <= 1
    assert image_metrics(shape)[0] == ("psnr" if shape == (1, 28, 28) else "lpips")


@pytest.mark.parametrize("physics", [None, "my_blur.py"])
def test_own_operator_or_mask_runs_with_a_solver(photos, tmp_path, physics):
    (tmp_path / "my_blur.py").write_text(MY_BLUR)
    seen = np.full((64, 64), 255, np.uint8)
    seen[20:40, 10:30] = 0
    Image.fromarray(seen).save(tmp_path / "mask.png")
    own = {"physics": str(tmp_path / physics)} if physics else {"mask": str(tmp_path / "mask.png")}
    data = data_of(photos / "part", noise_std=0.1, **own)
    assert data["task"] == ("my_blur" if physics else "mask") and data["noise"] == GaussianNoise(0.1)
    objective = objective_of(data, n_samples=1)
    assert objective.problem.misfit(data["x_true"].double()) == pytest.approx(torch.ones(1).double(), abs=0.1)
    if not physics:
        assert objective.problem.n_observed == 3 * (64**2 - 400)
    (row,) = rows_of(objective, DPS)
    assert np.isfinite(row["data_misfit"]) and np.isfinite(row["lpips"])


def test_an_operator_keeps_its_imaginary_parts(photos, tmp_path):
    """deepinv's FFT blur off its centre has complex buffers."""
    shifted = MY_BLUR.replace("gaussian_blur(sigma=(1.0, 1.0))", "gaussian_blur(sigma=(1.0, 1.0)).roll(2, -1)")
    (tmp_path / "shifted.py").write_text(shifted)
    data = data_of(photos / "part", physics=str(tmp_path / "shifted.py"))
    x = data["x_true"]
    before = load_module(tmp_path / "shifted.py").make((3, 64, 64), (0,)).A(x)
    problem = objective_of(data, n_samples=1).problem
    for dtype in (torch.float64, torch.float32):
        found = problem.to("cpu", dtype).A(x.to(dtype))
        assert found.dtype == dtype
        torch.testing.assert_close(found.float(), before, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("Solver", [DDRM, REDdiff, SITCOM, ReSample])
def test_masks_of_a_folder_may_hide_different_numbers_of_pixels(tmp_path, Solver):
    """The second image alone, and beside another with another mask, has the same scores."""
    (tmp_path / "photos").mkdir()
    (tmp_path / "masks").mkdir()
    for number in range(2):
        picture(64, 64, number).save(tmp_path / "photos" / f"{number}.png")
        seen = np.full((64, 64), 255, np.uint8)
        seen[: 16 + 16 * number] = 0
        Image.fromarray(seen).save(tmp_path / "masks" / f"{number}.png")
    prior = "faces64_latent" if Solver is ReSample else "faces64_mfa"
    options = {"mask": str(tmp_path / "masks"), "prior": prior}
    both = objective_of(data_of(tmp_path / "photos", **options), n_samples=1)
    assert both.problem.n_observed.tolist() == [3 * 64 * 48, 3 * 64 * 32]
    alone = objective_of(data_of(tmp_path / "photos", first=1, n_images=1, **options), n_samples=1)
    assert alone.problem.n_observed == 3 * 64 * 32
    rows, (row,) = rows_of(both, Solver), rows_of(alone, Solver)
    for name in ("psnr", "data_misfit"):
        assert rows[1][name] == pytest.approx(row[name], rel=1e-3)


def test_count_observed_of_equal_masks_is_one_number(photos):
    data = data_of(photos, task="random")
    assert count_observed(data["operator"], torch.zeros(6, 3, 64, 64)) == 3 * (64**2 - round(0.7 * 64**2))


NOISES = [
    ({}, "", GaussianNoise(0.05)),
    ({"noise_std": 0.2}, "GaussianNoise(0.3)", GaussianNoise(0.2)),
    ({"poisson_rate": 0.5}, "", PoissonNoise(0.5)),
    ({}, "GaussianNoise(0.25)", GaussianNoise(0.25)),
    ({}, "PoissonNoise(0.5)", PoissonNoise(0.5)),
]


@pytest.mark.parametrize("parameters, model, expected", NOISES)
def test_noise_is_given_or_that_of_the_operator(photos, tmp_path, parameters, model, expected):
    model = f", noise_model={model}" if model else ""
    physics = tmp_path / "own.py"
    physics.write_text(
        "from deepinv.physics import GaussianNoise\nfrom benchmark_utils.noise import PoissonNoise\n"
        + MY_BLUR.replace("(1.0, 1.0))", f"(1.0, 1.0)){model}")
    )
    assert data_of(photos / "part", physics=str(physics), **parameters)["noise"] == expected


NAN = """
from deepinv.physics import Physics

class Root(Physics):
    def A(self, x, **_):
        return x.sqrt()

def make(shape, images):
    return Root()
"""
OTHER_NOISE = (
    "from deepinv.physics import Denoising, UniformNoise\ndef make(shape, images):\n"
    "    return Denoising(UniformNoise(0.1))\n"
)
FOURIER = NAN.replace("x.sqrt()", "__import__('torch').fft.fft2(x)")
SINGLE = """
import torch
from deepinv.physics import Physics

class Matrix(Physics):
    def A(self, x, **_):
        matrix = torch.randn(3 * 64 * 64, 300, generator=torch.Generator().manual_seed(0))
        return x.float().flatten(1) @ matrix

def make(shape, images):
    return Matrix()
"""
PER_IMAGE = (
    "import torch\nfrom deepinv.physics import Inpainting\ndef make(shape, images):\n"
    "    return Inpainting(shape, mask=(torch.rand(len(images), *shape) > 0.5).float())\n"
)
BAD_PHYSICS = {
    "x = 1\n": r"own.py has no function make: define make\(shape, images\) that returns a deepinv Physics .* function=",
    "make = 1\n": "own.py has no function make",
    "def make(shape, images):\n    return 3\n": "own.py must return a deepinv.physics.Physics, got int",
    NAN: "^/.*/own.py: its operator gives NaN or infinite values",
    FOURIER: "own.py: its operator gives complex values: give real and imaginary parts as two channels",
    PER_IMAGE: r"own.py: its operator measures an image alone otherwise than among others: .* take\(index\)",
    OTHER_NOISE: "own.py: noise_model UniformNoise is not known here: use one of .* choose noise_std",
}


@pytest.mark.parametrize("source", BAD_PHYSICS)
def test_a_bad_physics_file_says_what_to_do(photos, tmp_path, source):
    (tmp_path / "own.py").write_text(source)
    with pytest.raises(ValueError, match=BAD_PHYSICS[source]):
        objective_of(data_of(photos, physics=str(tmp_path / "own.py")))


def test_an_operator_in_single_precision_is_taken(photos, tmp_path):
    """Its products round otherwise for other batches."""
    (tmp_path / "own.py").write_text(SINGLE)
    assert objective_of(data_of(photos, physics=str(tmp_path / "own.py"))).problem.y.shape == (6, 300)


def test_a_changed_physics_file_is_read_again_and_changes_the_cache_key(photos, tmp_path):
    path = tmp_path / "own.py"
    path.write_text(MY_BLUR)
    dataset = Dataset.get_instance(path=str(photos), physics=str(path))
    before = dataset._get_state()
    assert load_module(path) is load_module(path) and dataset._get_state() == before
    path.write_text(MY_BLUR.replace("def make", "def make_mine"))
    os.utime(path, (0, 0))
    assert dataset._get_state() != before and not hasattr(load_module(path), "make")
    before = dataset._get_state()
    picture(65, 65).save(photos / "part" / "fête 10.png")
    assert dataset._get_state() != before


def test_a_file_that_a_physics_file_reads_is_in_the_cache_key(photos, tmp_path):
    path = tmp_path / "own.py"
    path.write_text(MY_BLUR + "\nreads = ('kernel.npy',)\n")
    dataset = Dataset.get_instance(path=str(photos), physics=str(path))
    with pytest.raises(ValueError, match="own.py has reads=.*kernel.npy.*, but there is no .*kernel.npy: correct"):
        dataset._get_state()
    path.write_text(MY_BLUR + "\nreads = 'kernel.npy'\n")
    os.utime(path, (0, 0))
    with pytest.raises(ValueError, match="own.py has reads='kernel.npy': write a tuple of names"):
        dataset._get_state()
    path.write_text(MY_BLUR + "\nreads = ('kernel.npy',)\n")
    os.utime(path, (1, 1))
    (tmp_path / "kernel.npy").write_bytes(b"1")
    before = dataset._get_state()
    (tmp_path / "kernel.npy").write_bytes(b"22")
    assert dataset._get_state() != before


def test_steps_of_an_own_operator_do_not_depend_on_the_batch(photos, tmp_path):
    """deepinv's conjugate gradients stop when all rows are near enough."""
    path = tmp_path / "own.py"
    blur = MY_BLUR.replace("import BlurFFT", "import Blur")
    path.write_text(blur.replace("BlurFFT(img_size=shape, ", "Blur(padding='circular', "))
    operator = data_of(photos / "part", physics=str(path))["operator"]
    y = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for _ in range(20):
        y[:1] = operator.A(y[:1])  # smooth, so that its steps end early
    torch.testing.assert_close(operator.A_dagger(y[:1]), operator.A_dagger(y)[:1], rtol=0, atol=1e-9)


BAD = {
    "empty folder": (
        {"path": "EMPTY", "task": "hdr"},
        r"empty has no files of the kinds png jpg .* name another folder",
    ),
    "no folder": (
        {"path": "./nowhere", "task": "hdr"},
        "nowhere does not exist. On the command line, a path that begins with a dot, .* needs quotes",
    ),
    "too many": ({"task": "hdr", "n_images": 9}, "asks for images 0..8, but .*photos .* has 6"),
    "no task": ({}, "give one of task=NAME, physics=FILE.py and mask=FILE.png, got none"),
    "two tasks": ({"task": "hdr", "mask": "m.png"}, "got task and mask"),
    "other size": (
        {"task": "hdr", "fit": "refuse"},
        "grey.png: it is 80x80, but the prior's images are 64x64: choose fit",
    ),
    "fit": ({"task": "hdr", "fit": "crop"}, "unknown fit 'crop'; known: refuse, centre, pad"),
    "order": ({"task": "hdr", "order": "date"}, "unknown order 'date'; known: name, natural"),
    "convert": ({"task": "hdr", "convert": "no"}, "image_folder: convert must be True or False, got 'no'"),
    "mask of numbers": ({"mask": "FLOATS"}, "floats.tiff: its pixels are floating-point numbers"),
    "mask size": ({"mask": "SMALL"}, "small.png is a mask of 32x64 pixels, the images have 64x64: resize it"),
    "white mask": ({"mask": "WHITE"}, "white.png hides nothing: white is seen, black is hidden"),
    "few masks": ({"mask": "MASKS"}, "masks has 1 masks, one for each image up to number 5 is needed"),
    "two noises": ({"task": "sr4", "noise_std": 0.1, "poisson_rate": 1}, "give noise_std or poisson_rate, not both"),
    "counts": ({"task": "hdr", "poisson_rate": 1}, "poisson_rate: photon counts are not for this task; use noise_std"),
    "prior": ({"task": "hdr", "prior": "gaussian"}, r"prior=gaussian has signals of shape .*; grey or RGB images"),
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_input_says_what_to_do(photos, tmp_path, kind):
    places = {"EMPTY": tmp_path / "empty", "SMALL": tmp_path / "small.png", "WHITE": tmp_path / "white.png"}
    places["MASKS"], places["FLOATS"] = tmp_path / "masks", tmp_path / "floats.tiff"
    places["EMPTY"].mkdir()
    places["MASKS"].mkdir()
    Image.new("L", (32, 64)).save(places["SMALL"])
    Image.new("F", (64, 64)).save(places["FLOATS"])
    Image.new("L", (64, 64), 255).save(places["WHITE"])
    picture(64, 64).save(places["MASKS"] / "0.png")
    parameters, message = BAD[kind]
    parameters = {
        name: str(places.get(value, value)) if isinstance(value, str) else value for name, value in parameters.items()
    }
    with pytest.raises(ValueError, match=message) as refused:
        data_of(parameters.pop("path", photos), **parameters)
    assert "\n" not in str(refused.value)


def test_rgb_tasks_refuse_a_grey_prior(photos, monkeypatch):
    monkeypatch.setattr(Prior, "of", lambda _: own_prior((1, 64, 64)))
    with pytest.raises(
        ValueError, match=r"task=jpeg2 needs RGB images, and those of prior=faces64_mfa have shape \(1,"
    ):
        data_of(photos, task="jpeg2")


def test_without_a_path_the_dataset_is_skipped():
    assert "image_folder[path=FOLDER]" in Dataset.get_instance().get_data()["missing"]
