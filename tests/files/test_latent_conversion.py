"""The archives of ``ffhq256_latent``: conversion from the published layout, and what is said of wrong ones.

The denoiser's original layout is azula's implementation of the same U-Net, the autoencoder's is ``original_vq.py``.
Outputs agree within 1e-5, for images in units of their largest value.
"""

import dataclasses
import http.server
import shutil
import threading
import zipfile
from types import SimpleNamespace

import pandas as pd
import pytest
import torch
import yaml
from azula.plugins.adm._src.unet import UNetModel
from benchopt.benchmark import Benchmark, _list_parametrized_classes
from helpers import ROOT
from original_vq import OriginalVQ
from safetensors.torch import load_file
from test_conversion import LABELS, randomise

from benchmark_utils.files import paths, weights
from benchmark_utils.files.convert import LATENT_UNET, VQ_F4, VQArchitecture, adm_to_diffusers, vq_to_diffusers
from benchmark_utils.files.weights import read_archive
from benchmark_utils.priors import Prior, latent
from benchmark_utils.priors.latent import denoiser_tensors, latent_schedule
from benchmark_utils.results import paper, scores

UNET = dataclasses.replace(LATENT_UNET, channels=32, head_dim=16)
VQ = VQArchitecture(channels=32, codes=50)


def original_unet(architecture):
    return randomise(
        UNetModel(
            image_size=64,
            in_channels=3,
            out_channels=3,
            model_channels=architecture.channels,
            num_res_blocks=architecture.res_blocks,
            channel_mult=architecture.multipliers,
            attention_resolutions={2**level for level in architecture.attention},
            num_head_channels=architecture.head_dim,
            use_scale_shift_norm=False,
            resblock_updown=False,
        )
    )


def original_vq(architecture):
    return randomise(
        OriginalVQ(architecture.channels, architecture.multipliers, architecture.res_blocks, architecture.codes)
    )


def converted(architecture, tensors):
    network = architecture.network()
    network.load_state_dict(tensors, assign=True)
    return network.eval().requires_grad_(False)


def random_normal(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


def check_unet(architecture):
    original = original_unet(architecture)
    network = converted(architecture, adm_to_diffusers(original.state_dict(), architecture))
    x = random_normal(1, 3, 32, 32)
    for label in LABELS:
        expected = original(x, torch.tensor([label]))
        assert expected.std() > 0.3  # a dead network would agree with anything
        torch.testing.assert_close(network(x, torch.tensor([float(label)])).sample, expected, rtol=0, atol=1e-5)


def check_vq(architecture):
    original = original_vq(architecture)
    network = converted(architecture, vq_to_diffusers(original.state_dict(), architecture))
    x = random_normal(1, 3, 64, 64)
    z = original.encode(x)
    assert z.std() > 0.1
    torch.testing.assert_close(network.encode(x).latents, z, rtol=0, atol=1e-5)
    for quantise in (True, False):
        expected = original.decode(z, quantise)
        difference = network.decode(z, force_not_quantize=not quantise).sample - expected
        assert expected.std() > 0.1 and difference.abs().max() < 1e-5 * expected.abs().max()
    assert (original.decode(z, True) - original.decode(z, False)).abs().max() > 1e-2


def test_converted_unet_gives_the_same_output():
    check_unet(UNET)


def test_converted_autoencoder_gives_the_same_latents_and_images():
    check_vq(VQ)


@pytest.mark.slow
def test_full_width_unet_gives_the_same_output():
    check_unet(LATENT_UNET)


@pytest.mark.slow
def test_full_width_autoencoder_gives_the_same_output():
    check_vq(VQ_F4)


def test_sizes_are_the_published_ones():
    """274 and 55.3 million parameters: tables of the latent diffusion paper and its code."""
    millions = [sum(p.numel() for p in a.network().parameters()) / 1e6 for a in (LATENT_UNET, VQ_F4)]
    assert [round(number, 1) for number in millions] == [274.1, 55.3]


def test_norms_have_the_published_epsilon():
    epsilons = {module.eps for module in LATENT_UNET.network().modules() if isinstance(module, torch.nn.GroupNorm)}
    assert epsilons == {1e-5}


def test_schedule_is_the_squared_linspace_of_square_roots():
    schedule = latent_schedule()
    beta = 1 - schedule.table[1:] / schedule.table[:-1]
    torch.testing.assert_close(beta[[0, -1]], torch.tensor([0.0015, 0.0195], dtype=torch.float64))
    torch.testing.assert_close(beta.sqrt().diff().diff(), torch.zeros(998).double(), rtol=0, atol=1e-12)


# the archives

PUBLISHED = "ffhq.zip", "vq-f4.zip"


@pytest.fixture(scope="module")
def states():
    """State dictionaries of the two training checkpoints, with what else such checkpoints hold."""
    torch.manual_seed(0)
    unet, vq = original_unet(UNET), original_vq(VQ)
    denoiser = {f"model.diffusion_model.{name}": value for name, value in unet.state_dict().items()}
    denoiser |= {"betas": torch.zeros(1000), "first_stage_model.quant_conv.bias": torch.zeros(3)}
    autoencoder = vq.state_dict() | {"loss.discriminator.main.0.weight": torch.zeros(1)}
    return denoiser, autoencoder, unet, vq


class Callback:
    """Pickled into the checkpoint as training codes do."""

    best_score = 0.5


def write_archive(path, state):
    checkpoint = path.with_name("model.ckpt")
    torch.save({"state_dict": state, "callbacks": {Callback: Callback()}, "epoch": 3}, checkpoint)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(checkpoint, "model.ckpt")
    checkpoint.unlink()


@pytest.fixture
def folder(states, tmp_path, monkeypatch):
    """A user's folder with both archives, of reduced width."""
    path = tmp_path / "archives"
    path.mkdir()
    for name, state in zip(PUBLISHED, states, strict=False):
        write_archive(path / name, state)
    monkeypatch.setattr(latent, "LATENT_UNET", UNET)
    monkeypatch.setattr(latent, "VQ_F4", VQ)
    monkeypatch.setenv("FFHQ256_LATENT_PATH", str(path))
    monkeypatch.setenv("BENCHMARK_DIFFUSION_POSTERIOR_CACHE", str(tmp_path / "cache"))
    return path


PRIOR = Prior("ffhq256_latent")


def test_prior_from_the_archives_is_the_original_networks(folder, states):
    *_, unet, vq = states
    prior = Prior.of("ffhq256_latent+force_not_quantize").load("cpu")
    assert PRIOR.family == "ffhq_latent" and PRIOR.is_latent and PRIOR.event_shape == (3, 64, 64)
    z_t, t = random_normal(2, 3, 16, 16), 700
    abar = latent_schedule().abar(t)
    eps = unet(z_t, torch.tensor([t - 1] * 2))
    # x_0 is a difference over sqrt(abar): compare before the division
    torch.testing.assert_close(abar**0.5 * prior.denoise(z_t, t), z_t - (1 - abar) ** 0.5 * eps, rtol=0, atol=1e-5)
    torch.testing.assert_close(prior.decode(z_t), vq.decode(z_t, quantise=False), rtol=0, atol=1e-5)
    quantised = PRIOR.load("cpu")
    torch.testing.assert_close(quantised.decode(z_t), vq.decode(z_t, quantise=True), rtol=0, atol=1e-5)
    x = random_normal(1, 3, 32, 32)
    torch.testing.assert_close(prior.encode(x), vq.encode(x), rtol=0, atol=1e-5)


def test_archives_are_converted_once_and_again_when_they_change(folder, states):
    (first,) = latent.FFHQ_WEIGHTS.prepare()
    changed = first.stat().st_mtime_ns
    assert latent.FFHQ_WEIGHTS.prepare() == [first] and first.stat().st_mtime_ns == changed
    write_archive(folder / "vq-f4.zip", {name: value + 1 for name, value in states[1].items()})
    (second,) = latent.FFHQ_WEIGHTS.prepare()
    name = "autoencoder.quant_conv.bias"
    torch.testing.assert_close(load_file(second)[name], load_file(first)[name] + 1)


def test_average_over_training_is_taken_where_there_is_one(states, monkeypatch):
    monkeypatch.setattr(latent, "LATENT_UNET", UNET)
    start = "model.diffusion_model."
    names = [name for name in states[0] if name.startswith(start)]
    average = {f"model_ema.{name.removeprefix('model.').replace('.', '')}": 2 * states[0][name] for name in names}
    found, current = denoiser_tensors(states[0] | average), denoiser_tensors(states[0])
    torch.testing.assert_close(found["unet.conv_out.weight"], 2 * current["unet.conv_out.weight"])
    average.popitem()
    with pytest.raises(ValueError, match="average over training lacks 1 tensors"):
        denoiser_tensors(states[0] | average)


def test_a_checkpoint_runs_no_code(tmp_path):
    class Malicious:
        def __reduce__(self):
            return (tmp_path.joinpath("ran").touch, ())

    torch.save({"state_dict": {"a": torch.ones(1)}, "hook": Malicious()}, tmp_path / "model.ckpt")
    try:
        state = read_archive(tmp_path / "model.ckpt")
        assert state["a"] == 1
    except ValueError as error:
        assert "model.ckpt" in str(error)
    assert not (tmp_path / "ran").exists()


def test_extracted_checkpoints_and_the_converted_file_are_taken_too(folder, tmp_path, monkeypatch, capsys):
    sources = [folder / name for name in PUBLISHED]
    (converted,) = PRIOR.weights.prepare()
    output = shutil.copy(converted, tmp_path / "ffhq256_latent.safetensors")
    printed = capsys.readouterr().out
    for source in sources:
        assert f"{source}: sha256 {paths.sha256_of(source)}" in printed
        with zipfile.ZipFile(source) as archive:
            archive.extract("model.ckpt", folder)
        (folder / "model.ckpt").rename(source.with_suffix(".ckpt"))
        source.unlink()
    x = random_normal(1, 3, 16, 16)
    from_checkpoints = Prior("ffhq256_latent").load("cpu").denoise(x, 500)
    monkeypatch.setenv("FFHQ256_LATENT_PATH", str(output))
    from_file = Prior.of("ffhq256_latent+checkpoint").load("cpu").denoise(x, 500)
    assert torch.equal(from_checkpoints, from_file)


def test_missing_autoencoder_is_named(folder):
    (folder / "vq-f4.zip").unlink()
    with pytest.raises(FileNotFoundError, match="not on this machine, [^ ]*/vq-f4.zip missing: .*FFHQ256_LATENT_PATH"):
        PRIOR.weights.require()


def test_swapped_archives_are_refused(folder):
    (folder / "ffhq.zip").rename(folder / "other")
    (folder / "vq-f4.zip").rename(folder / "ffhq.zip")
    (folder / "other").rename(folder / "vq-f4.zip")
    with pytest.raises(ValueError, match="ffhq.zip: no tensors model.diffusion_model.*not a checkpoint of a latent"):
        PRIOR.weights.prepare()


def test_another_denoiser_is_refused(folder, states):
    write_archive(folder / "ffhq.zip", {name: value for name, value in states[0].items() if "out.2" not in name})
    with pytest.raises(ValueError, match=r"ffhq.zip: .*2 tensors are missing \(out.2.bias, out.2.weight\)"):
        PRIOR.weights.prepare()


def test_another_autoencoder_is_refused(folder, states):
    wrong = states[1] | {"quantize.embedding.weight": torch.zeros(60, 3)}
    write_archive(folder / "vq-f4.zip", wrong)
    with pytest.raises(ValueError, match=r"vq-f4.zip: .*quantize.embedding.weight has shape \(60, 3\) instead of"):
        PRIOR.weights.prepare()


def test_archive_without_a_checkpoint_is_refused(folder):
    with zipfile.ZipFile(folder / "ffhq.zip", "w") as archive:
        archive.writestr("readme.txt", "nothing")
    with pytest.raises(ValueError, match="ffhq.zip is another archive: it holds readme.txt"):
        PRIOR.weights.prepare()


def test_damaged_archive_is_refused_by_its_checksum(folder):
    path = folder / "vq-f4.zip"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match="vq-f4.zip is truncated or damaged: delete it and fetch it again"):
        PRIOR.weights.prepare()
    assert not list(paths.cache_folder().glob("*.safetensors"))


def test_truncated_archive_is_refused(folder):
    path = folder / "vq-f4.zip"
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(ValueError, match="vq-f4.zip cannot be read as a torch checkpoint: it is truncated"):
        PRIOR.weights.prepare()


def test_no_network_is_a_clear_error(tmp_path, monkeypatch):
    monkeypatch.delenv("FFHQ256_LATENT_PATH", raising=False)
    monkeypatch.setenv("BENCHMARK_DIFFUSION_POSTERIOR_CACHE", str(tmp_path))

    def no_network(url, timeout):
        raise OSError("no route")

    monkeypatch.setattr(weights.urllib.request, "urlopen", no_network)
    with pytest.raises(FileNotFoundError, match="ffhq.zip and .*vq-f4.zip missing"):
        PRIOR.weights.require()
    with pytest.raises(
        ConnectionError, match="ffhq.zip could not be downloaded from .*latent-diffusion: .*put the file"
    ):
        PRIOR.weights.prepare()
    assert not list(tmp_path.rglob("*.zip"))


@pytest.fixture
def server():
    """A server of 3 MB whose first answer breaks off after 1 MB; ``asked`` lists the first bytes it was asked for."""
    content = bytes(range(256)) * 12000

    class Handler(http.server.BaseHTTPRequestHandler):
        asked = []

        def do_GET(self):
            first = int(self.headers.get("Range", "bytes=0-")[6:-1])
            self.asked.append(first)
            self.send_response(416 if first >= len(content) else 206 if first else 200)
            self.send_header("Content-Length", len(content) - first)
            self.end_headers()
            self.wfile.write(content[first:] if len(self.asked) > 1 else content[:1_000_000])

        def log_message(self, *_):
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield SimpleNamespace(url=f"http://127.0.0.1:{server.server_port}/a.zip", content=content, asked=Handler.asked)
        server.shutdown()


def test_download_that_breaks_off_is_no_archive_and_is_taken_up_again(server, tmp_path):
    path = tmp_path / "a.zip"
    with pytest.raises(OSError, match="1,000,000 of 3,072,000 bytes came"):
        weights.download(server.url, path)
    assert not path.exists()
    weights.download(server.url, path)
    assert path.read_bytes() == server.content and server.asked == [0, 1_000_000]
    assert list(tmp_path.iterdir()) == [path]


def test_download_whose_whole_was_not_renamed_starts_again(server, tmp_path):
    (tmp_path / "a.zip.partial").write_bytes(bytes(len(server.content)))
    weights.download(server.url, tmp_path / "a.zip")
    assert (tmp_path / "a.zip").read_bytes() == server.content and server.asked == [len(server.content), 0]


# table 8 of the MGDM paper


def test_config_names_ten_tasks_of_300_images_and_the_published_methods():
    config = yaml.safe_load((ROOT / "configs" / "paper_ffhq_latent.yml").read_text())
    benchmark = Benchmark(ROOT)
    datasets = [d for d, _ in _list_parametrized_classes(*benchmark.check_dataset_patterns(config["dataset"]))]
    seen = {}
    for dataset in datasets:
        assert dataset.prior == PRIOR.name
        task = [getattr(dataset, name, None) for name in ("name", "mask", "factor", "blur")]
        seen.setdefault(str(task), []).extend(range(dataset.first, dataset.first + dataset.n_images))
    assert len(seen) == 10 and all(numbers == list(range(300)) for numbers in seen.values())
    solvers = [s.name for s, _ in _list_parametrized_classes(*benchmark.check_solver_patterns(config["solver"]))]
    assert solvers == ["mgdm", "daps", "pnp_dm", "resample", "psld"]
    not_linear = {"jpeg2", "phase_retrieval", "nonlinear_blur", "hdr"}
    image_tasks = {task: name for task, name in paper.MGDM_TASKS.items() if task != "separation"}
    for task, name in image_tasks.items():
        published = {solver for solver in solvers if ("ffhq_ldm", name, solver, "lpips") in paper.mgdm_tables()}
        assert published == set(solvers) - ({"psld"} if task in not_linear else set())


def test_published_columns_are_compared():
    cell = {
        "dataset_name": "ffhq_inpainting[mask=half,noise_std=0.05,prior=ffhq256_latent]",
        "objective_name": "Posterior sampling",
    }
    cell |= {"p_dataset_prior": PRIOR.name, "p_dataset_noise_std": 0.05, "objective_task": "half"}
    cell |= {"objective_headline": "lpips", "solver_name": "psld", "idx_rep": 0}
    df = pd.DataFrame([cell | {"objective_image": i, "objective_lpips": lpips} for i, lpips in enumerate((0.3, 0.34))])
    (row,) = paper.paper_comparison(df, scores.tasks(df)[0]).rows
    theirs = paper.mgdm_tables()["ffhq_ldm", "Half mask", "psld", "lpips"]
    published = f"{theirs.mean:.2f} ± {theirs.half_width:.2f}"
    assert theirs.mean == 0.32 and [c.text for c in row[1:5]] == ["psld", "LPIPS ↓", published, "0.320 ± 0.254"]
