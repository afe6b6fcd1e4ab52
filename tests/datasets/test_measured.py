"""Measurements without a truth: what is read, scored, shown and exported, and one clear line for each bad input."""

import json

import numpy as np
import pytest
import soundfile
import torch
from benchopt.results import read_results
from helpers import benchopt
from PIL import Image
from safetensors.torch import save_file
from test_image_folder import MY_BLUR
from test_images import picture
from test_tasks import objective_of, rows_of

from benchmark_utils.files.slakh import read_excerpt
from benchmark_utils.noise import GaussianNoise, estimate_noise_std
from benchmark_utils.operators.inpainting import inpainting
from benchmark_utils.results import pictures, players, report, scores
from benchmark_utils.results.export import export
from benchmark_utils.stored import store
from datasets.image_folder import Dataset as ImageFolder
from datasets.measured import Dataset, read_measurement
from datasets.slakh2100 import Dataset as Slakh
from solvers.ddrm import Solver as DDRM
from solvers.msdm import Solver as MSDM
from solvers.oracle_mask import Solver as OracleMask


def data_of(path, **parameters):
    defaults = {"path": str(path), "task": "sr4", "prior": "faces64_mfa", "noise_std": 0.1}
    return Dataset.get_instance(**defaults | parameters).get_data()


@pytest.fixture
def low(tmp_path):
    """A picture of 16x16 pixels: what sr4 of a 64-px image gives."""
    picture(16, 16).save(tmp_path / "low.png")
    return tmp_path / "low.png"


def test_pictures_and_arrays_are_read_in_the_units_of_the_operator(tmp_path, low):
    pixels = torch.from_numpy(np.asarray(Image.open(low))).movedim(-1, 0) / 127.5 - 1
    y = torch.linspace(-3, 3, 3 * 16 * 16).view(3, 16, 16)
    np.save(tmp_path / "a.npy", y.double().numpy()[None])
    torch.save(y, tmp_path / "b.pt")
    save_file({"y": y}, tmp_path / "c.safetensors")
    data = data_of(tmp_path)
    assert data["files"] == ("a.npy", "b.pt", "c.safetensors", "low.png") and "x_true" not in data
    torch.testing.assert_close(data["y"], torch.stack([y, y, y, pixels]))
    assert data["noise"] == GaussianNoise(0.1) and data["n_samples"] == 4
    Image.fromarray(np.full((16, 16), 65535, np.uint16)).save(tmp_path / "deep.png")
    with pytest.raises(
        ValueError, match=r"deep.png is a measurement of shape \(1, 16, 16\), but sr4 gives \(3, 16, 16\)"
    ):
        data_of(tmp_path / "deep.png")


def test_rows_have_the_misfit_the_spread_and_the_cost_and_no_score_of_a_truth(low):
    objective = objective_of(data_of(low))
    (row,) = rows_of(objective, DDRM)
    truths = {"psnr", "ssim", "lpips", "psnr_mean", "lpips_best"}
    assert not truths & row.keys() and {"data_misfit", "spread", "nfe", "seconds_per_image"} <= row.keys()
    assert np.isfinite(row["spread"]) and row["headline"] == "data_misfit"


def test_y_is_the_measurement_and_no_noise_is_added(low):
    """The rows of a measurement that the benchmark made of a known image are those of the image."""
    known = ImageFolder.get_instance(path=str(low.parent), task="half", prior="faces64_mfa", fit="centre").get_data()
    drawn = objective_of(known, n_samples=2)
    measured = {name: value for name, value in known.items() if name != "x_true"}
    given = objective_of(measured | {"y": drawn.problem.y, "metrics": ("data_misfit",)}, n_samples=2)
    assert torch.equal(given.problem.y, drawn.problem.y)
    (one,), (other,) = rows_of(given, DDRM), rows_of(drawn, DDRM)
    for name in ("data_misfit", "spread", "mean_error"):
        assert one[name] == other[name]


def test_what_a_mask_hides_may_have_any_values(tmp_path):
    picture(64, 64).save(tmp_path / "photo.png")
    problem = objective_of(data_of(tmp_path, task="half")).problem
    assert (problem.y[..., 32:] == 0).all() and problem.y[..., :32].abs().mean() > 0.1


def test_nan_where_a_mask_hides_is_a_hole_and_elsewhere_refused(tmp_path):
    """Also with a mask of each image of its own, and an estimate of the noise of what is seen."""
    y = np.random.default_rng(0).normal(0, 0.3, (3, 64, 64))
    folder = tmp_path / "y"
    folder.mkdir()
    (tmp_path / "masks").mkdir()
    for name, hidden in (("a", slice(0, 20)), ("b", slice(30, 64))):
        holes = y.copy()
        holes[..., hidden] = np.nan
        np.save(folder / f"{name}.npy", holes)
        mask = np.full((64, 64), 255, np.uint8)
        mask[:, hidden] = 0
        Image.fromarray(mask).save(tmp_path / "masks" / f"{name}.png")
    options = {"task": None, "mask": str(tmp_path / "masks"), "noise_std": "estimate"}
    with pytest.warns(UserWarning, match="noise_std"):
        data = data_of(folder, **options)
    assert data["noise"].std == pytest.approx(0.3, rel=0.1)
    measured = objective_of(data).problem.y
    assert (measured[0, :, :, :20] == 0).all() and (measured[1, :, :, 30:] == 0).all()
    torch.testing.assert_close(measured[0, :, :, 20:], torch.from_numpy(y[:, :, 20:]), rtol=1e-6, atol=1e-6)
    holes[:, 3, 5] = np.inf
    np.save(folder / "b.npy", holes)
    with pytest.raises(ValueError, match=f"^{folder}/b.npy has NaN or infinity in 3 of its entries"):
        data_of(folder, **options)


def test_a_dataset_returns_a_truth_or_a_measurement(low):
    data = data_of(low)
    with pytest.raises(ValueError, match="must return either x_true or y"):
        objective_of(data | {"x_true": torch.zeros(1, 3, 64, 64)})
    with pytest.raises(ValueError, match="must return either x_true or y"):
        objective_of({name: value for name, value in data.items() if name != "y"})


@pytest.mark.parametrize("std", [0.02, 0.2])
@pytest.mark.parametrize("mask", [None, "half"])
def test_the_noise_is_estimated_from_the_finest_details(std, mask):
    pixels = np.stack([np.asarray(picture(64, 64, seed)) for seed in range(4)])
    clean = torch.from_numpy(pixels).movedim(-1, 1).double() / 127.5 - 1
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    seen = None if mask is None else inpainting(mask, (3, 64, 64)).mask != 0
    y = clean + std * noise if mask is None else (clean + std * noise) * seen
    n_details = 4 * 3 * 32 * 32 // (1 if mask is None else 2)
    # the median absolute deviation has 37 % of the efficiency of the standard deviation
    assert estimate_noise_std(y, seen) == pytest.approx(std, rel=5 / (2 * 0.37 * n_details) ** 0.5 + 0.01)


def test_masks_that_the_benchmark_draws_are_said(tmp_path):
    np.save(tmp_path / "y.npy", np.zeros((3, 64, 64), np.float32))
    with pytest.warns(UserWarning, match="task=random50 takes the masks, .* that this benchmark draws: if yours are"):
        data_of(tmp_path, task="random50")


def test_an_estimate_is_said_and_used(tmp_path):
    pixels = np.random.default_rng(0).normal(0, 0.3, (1, 3, 16, 16))
    np.save(tmp_path / "noisy.npy", pixels)
    with pytest.warns(UserWarning, match=r"noise_std=0\.\d+, estimated from the finest diagonal details of y"):
        data = data_of(tmp_path, noise_std="estimate")
    assert data["noise"].std == pytest.approx(0.3, rel=0.2)


BAD = {
    "shape": (
        {"task": "sr8"},
        r"low.png is a measurement of shape \(3, 16, 16\), but sr8 gives \(3, 8, 8\) for the prior",
    ),
    "no noise": (
        {"noise_std": None},
        "give the noise of the measurements: noise_std=NUMBER or estimate, or poisson_rate",
    ),
    "flat": ({"path": "flat.npy", "noise_std": "estimate"}, "finds no noise in the finest details"),
    "NaN": ({"path": "nan.npy"}, "/nan.npy has NaN or infinity in 768 of its entries that no mask hides: correct"),
    "text": ({"path": "text.npy"}, "text.npy cannot be read as a measurement: write one real array to it"),
    "complex": ({"path": "complex.npy"}, "complex.npy holds torch.complex128, but one real array is needed"),
    "two": ({"path": "two.safetensors"}, "two.safetensors holds 2 tensors, but one real array is needed"),
    "vector": ({"path": "low.png", "task": None, "physics": "physics.py", "noise_std": "estimate"}, "that are images"),
    "no picture": (
        {"task": "mri", "noise_std": "estimate"},
        "needs measurements that are pictures, those of mri are not",
    ),
    "nothing there": ({"path": "empty"}, "empty has no files of the kinds png jpg .* npy pt safetensors"),
    "prior": ({"prior": "gaussian"}, "prior=gaussian has signals of shape"),
    "NaN operator": ({"task": None, "physics": "root.py"}, "root.py: its operator gives NaN or infinite values"),
}
VECTOR = """
from deepinv.physics import LinearPhysics

class Flat(LinearPhysics):
    def A(self, x, **_):
        return x.flatten(1)[:, :7]

def make(shape, images):
    return Flat()
"""


@pytest.mark.parametrize("kind", BAD)
def test_bad_input_says_what_to_do(tmp_path, low, kind):
    np.save(tmp_path / "flat.npy", np.zeros((3, 16, 16)))
    np.save(tmp_path / "nan.npy", np.full((3, 16, 16), np.nan))
    np.save(tmp_path / "complex.npy", np.zeros((3, 16, 16), complex))
    (tmp_path / "text.npy").write_text("no array")
    save_file({"a": torch.zeros(1), "b": torch.zeros(1)}, tmp_path / "two.safetensors")
    (tmp_path / "empty").mkdir()
    (tmp_path / "physics.py").write_text(VECTOR)
    (tmp_path / "root.py").write_text(VECTOR.replace("x.flatten(1)[:, :7]", "x.sqrt()"))
    parameters, message = BAD[kind]
    parameters = {"path": "low.png"} | parameters
    if parameters.get("physics"):
        parameters["physics"] = str(tmp_path / parameters["physics"])
    if kind == "vector":
        np.save(tmp_path / "vector.npy", np.zeros(7))
        parameters["path"] = "vector.npy"
    with pytest.raises(ValueError, match=message) as refused:
        data_of(tmp_path / parameters.pop("path"), **parameters)
    assert "\n" not in str(refused.value)


def test_keep_is_all_or_nothing(low):
    with pytest.raises(ValueError, match="the objective's keep must be all, or left out, got 'some'"):
        objective_of(data_of(low), keep="some")


@pytest.mark.parametrize("keep, n_kept", [(None, 4), ("all", 5)])
def test_keep_stores_every_draw_of_every_image(low, keep, n_kept):
    problem = objective_of(data_of(low)).problem.rows([0] * 5)
    samples = torch.rand(5, 6, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    stored = store(problem, None, samples, [[0]], fid=None, keep_all=keep == "all")
    assert stored["draws"].shape == (n_kept, 6 if keep else 4, 64, 64, 3) and "truth" not in stored
    assert np.array_equal(stored["draws"][:, 0], stored["sample"])
    assert (
        np.abs(stored["mean"].astype(float) / 127.5 - 1 - samples[:n_kept].mean(1).movedim(1, -1).numpy()).max() < 0.005
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The results of a run without a truth of two solvers, 5 measurements, 2 draws each, everything kept."""
    from helpers import copied_benchmark

    folder = copied_benchmark(tmp_path_factory.mktemp("run") / "bench")
    (folder / "low").mkdir()
    for number in range(5):
        picture(16, 16, number).save(folder / "low" / f"{number}.png")
    (folder / "my_blur.py").write_text(MY_BLUR)
    dataset = "measured[path=low,task=sr4,prior=faces64_mfa,noise_std=0.1,n_samples=2]"
    code, output = benchopt(
        folder,
        "run",
        ".",
        "-d",
        dataset,
        "-s",
        "ddrm[n_steps=4]",
        "-s",
        "pseudo_inverse",
        "-o",
        "*[keep=all]",
        "--output",
        "low",
        "--no-display",
    )
    assert code == 0, output
    return folder / "outputs" / "low.parquet"


def test_a_run_without_truth_has_no_truth_column(run):
    df = read_results(run)
    assert len(df) == 10 and (df["objective_task"] == "sr4").all()
    assert not [column for column in df.columns if "psnr" in column or "lpips" in column or "truth" in column]
    page = report.report(df, "low")
    assert "truth" not in page.replace("nobody has the truth", "").replace("|sample - truth|", "")
    assert "image 0: measurement" in page and "sample 2" in page and "mean of the samples" in page


def test_exported_pictures_are_those_of_the_page(run, tmp_path, capsys):
    export(run, tmp_path)
    df = read_results(run)
    origin = json.loads((tmp_path / "origin.json").read_text())
    assert len(origin["files"]) == 2 * 5 * (1 + 2 + 1 + 1)  # measurement, samples, mean and spread
    assert "origin.json" in capsys.readouterr().out and origin["run"]["seed"]
    assert {"data_misfit", "nfe", "weights"} <= origin["files"][0].keys()
    exported = {
        (entry["file"].split("/")[1], entry["image"], entry["shows"]): np.asarray(Image.open(tmp_path / entry["file"]))
        for entry in origin["files"]
    }
    (task,) = scores.tasks(df)
    names = {"reconstructions": "sample1", "draws": "sample2", "mean": "mean", "spread": "spread"}
    compared = 0
    for view, name in names.items():
        image = -1
        for label, pixels in pictures.pictures(df, task, view):
            image += "measurement" in label
            for solver in ("ddrm_n_steps=4", "pseudo_inverse"):
                if label.startswith(solver[:4]) and (view != "draws" or label.endswith("sample 2")):
                    assert np.array_equal(exported[solver, image, name], pixels), (label, image, view)
                    compared += 1
    assert compared == 2 * 5 * len(names)


def test_a_mixture_without_stems_is_separated_heard_and_exported(tmp_path, monkeypatch):
    song = tmp_path / "song.wav"
    soundfile.write(song, read_excerpt().sum(0)[:20000].numpy(), 22_050)
    data = Slakh.get_instance(mixture=str(song), chunk_length=8192).get_data()
    assert data["y"].shape == (2, 1, 8192) and data["metrics"] == ("data_misfit",)
    objective = objective_of(data)
    assert "needs truth" in rows_of(objective, OracleMask)
    (row,) = rows_of(objective, MSDM)
    assert np.isfinite(row["data_misfit"]) and not [name for name in row if name.startswith("si_sdr")]
    stored = objective.save_final_results(torch.zeros(2, 1, 4, 8192))
    assert "truth_audio" not in stored
    (mixture,) = players.decode(stored["mixture_audio"])
    assert np.abs(mixture - data["y"].flatten().numpy()).max() < 1e-4


def test_a_picture_of_two_colours_is_black_and_white(tmp_path):
    Image.fromarray(np.eye(4, dtype=bool)).save(tmp_path / "y.png")
    y = read_measurement(tmp_path / "y.png", (1, 4, 4), "an operator")
    assert torch.equal(y[0], 2 * torch.eye(4) - 1)


@pytest.mark.parametrize("mode", ["F", "CMYK"])
def test_a_picture_of_unknown_range_is_refused(tmp_path, mode):
    Image.new(mode, (4, 4)).save(tmp_path / "y.tif")
    with pytest.raises(ValueError, match=f"y.tif is a picture of mode {mode}.*write an array"):
        read_measurement(tmp_path / "y.tif", (1, 4, 4), "an operator")


def test_an_empty_array_file_is_named(tmp_path):
    (tmp_path / "y.npy").touch()
    with pytest.raises(ValueError, match="y.npy cannot be read as a measurement"):
        read_measurement(tmp_path / "y.npy", (1, 4, 4), "an operator")
