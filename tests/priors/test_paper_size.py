"""The 256-px benchmark through benchopt's commands: one true-size run, and the run matrix of the papers' configs."""

import resource

import numpy as np
import pytest
import torch
import yaml
from benchopt.benchmark import Benchmark, _list_parametrized_classes
from helpers import ROOT, benchopt, rows_of
from PIL import Image

FFHQ = ROOT.parent / "shared" / "data" / "ffhq256"


def write_random_checkpoint(path):
    """A file in the layout of ``ffhq_10m.pt`` with random weights, by deepinv's implementation of that network."""
    from deepinv.models import DiffUNet

    torch.manual_seed(0)
    network = DiffUNet(pretrained=None)
    # new networks end in layers of zeros
    for parameter in network.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.01)
    tables = {"sqrt_1m_alphas_cumprod", "sqrt_alphas_cumprod"}
    torch.save({name: value for name, value in network.state_dict().items() if name not in tables}, path)


@pytest.mark.slow
@pytest.mark.skipif(not FFHQ.is_dir(), reason="needs ../shared/data/ffhq256")
def test_true_size_run_from_the_original_checkpoint_to_the_page(copy_of_benchmark, tmp_path):
    write_random_checkpoint(tmp_path / "random.pt")
    environment = {
        "FFHQ_PATH": str(FFHQ),
        "FFHQ256_PATH": str(tmp_path / "random.pt"),
        "BENCHMARK_DIFFUSION_POSTERIOR_CACHE": str(tmp_path / "weights"),
        "BENCHOPT_RAISE_ON_ERROR": "true",
    }
    dataset = "ffhq_inpainting[mask=box,prior=ffhq256,n_images=1]"
    code, output = benchopt(copy_of_benchmark, "prepare", ".", "-d", dataset, **environment)
    assert code == 0, output
    assert len(list((tmp_path / "weights").glob("ffhq256-*.safetensors"))) == 1

    mgdm = "mgdm[n_steps=4,n_denoise=2,gradient_steps=[(1,1)]]"
    code, output = benchopt(copy_of_benchmark, "run", ".", "-d", dataset, "-s", mgdm, "--no-display", **environment)
    assert code == 0, output
    assert list((copy_of_benchmark / "outputs").glob("*.html"))
    (row,) = rows_of(copy_of_benchmark).to_dict("records")
    assert row["objective_file"] == "00000.png"
    # one start, one gradient step and one denoising step: K = 4 has one outer iteration
    assert (row["objective_nfe"], row["objective_vjp"]) == (3, 1)
    for score in ("lpips", "psnr", "ssim", "data_misfit"):
        assert np.isfinite(row[f"objective_{score}"])
    # the largest of the processes that ended, in kilobytes
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024 < 6e9


@pytest.fixture(scope="module")
def three_hundred(tmp_path_factory):
    """A folder of 300 pictures of 256 px under FFHQ's names."""
    folder = tmp_path_factory.mktemp("ffhq")
    noise = np.random.default_rng(0).integers(0, 256, (300, 8, 8, 3), dtype=np.uint8)
    for number, colours in enumerate(noise):
        Image.fromarray(colours).resize((256, 256)).save(folder / f"{number:05d}.png")
    return folder


@pytest.mark.slow
def test_paper_config_lists_the_run_matrix_without_loading_weights(copy_of_benchmark, three_hundred, tmp_path):
    weights = tmp_path / "weights.safetensors"
    weights.touch()  # empty: whoever reads it fails
    arguments = ["run", ".", "--config", "configs/paper_ffhq.yml", "--collect", "--no-plot"]
    arguments += ["-o", "*[batch_size=8]"]  # fid=True needs the Inception network
    _, output = benchopt(copy_of_benchmark, *arguments, FFHQ_PATH=str(three_hundred), FFHQ256_PATH=str(weights))
    # 10 tasks x 6 parts, of which the nonlinear blur lacks its network; 8 solvers
    assert output.count("not run yet") == 54 * 8, output
    assert output.count("the weights of nonlinear_blur are not on this machine") == 6


def test_run_in_which_everything_is_skipped_fails(copy_of_benchmark, tmp_path):
    arguments = ["run", ".", "-d", "ffhq_hdr[prior=ffhq256]", "-s", "mgdm", "--no-plot"]
    code, output = benchopt(copy_of_benchmark, *arguments, FFHQ_PATH=str(tmp_path / "nowhere"))
    assert code == 1
    assert f"there is no folder {tmp_path / 'nowhere'}" in output and "FFHQ_PATH" in output


@pytest.mark.parametrize("images", ["ffhq", "imagenet"])
def test_paper_configs_name_ten_tasks_of_300_images_and_eight_methods(images):
    config = yaml.safe_load((ROOT / "configs" / f"paper_{images}.yml").read_text())
    benchmark = Benchmark(ROOT)
    datasets = [
        dataset for dataset, _ in _list_parametrized_classes(*benchmark.check_dataset_patterns(config["dataset"]))
    ]
    seen = {}
    for dataset in datasets:
        assert dataset.prior == f"{images}256"
        task = [getattr(dataset, name, None) for name in ("name", "mask", "factor", "blur")]
        seen.setdefault(str(task), []).extend(range(dataset.first, dataset.first + dataset.n_images))
    assert len(seen) == 10
    assert all(numbers == list(range(300)) for numbers in seen.values())
    solvers = [s.name for s, _ in _list_parametrized_classes(*benchmark.check_solver_patterns(config["solver"]))]
    assert solvers == ["mgdm", "dps", "pgdm", "ddnm", "diffpir", "reddiff", "daps", "pnp_dm"]
