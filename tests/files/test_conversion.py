"""Checkpoints of the 256-px priors: conversion, download, checks, and the denoiser made from the network.

The original layout is written by other implementations of the same network: azula's and deepinv's.
"""

import functools
import re
import shutil

import huggingface_hub
import pytest
import torch
from azula.plugins.adm._src.unet import UNetModel
from safetensors.torch import load_file

from benchmark_utils.files import paths
from benchmark_utils.files.convert import ADMArchitecture, adm_to_diffusers, original_name
from benchmark_utils.files.paths import sha256_of
from benchmark_utils.files.weights import Published, load_networks, read_checkpoint
from benchmark_utils.priors import Prior
from benchmark_utils.priors.adm import FFHQ, FFHQ_WEIGHTS, IMAGENET, IMAGENET_WEIGHTS
from benchmark_utils.priors.networks import Network
from benchmark_utils.schedule import NoiseSchedule

LABELS = (0, 1, 500, 999)
# the two published shapes at an eighth (a fourth) of their width; attention needs 64 channels
REDUCED = {
    "ffhq": ADMArchitecture(channels=32, res_blocks=1, attention=(4,)),
    "imagenet": ADMArchitecture(channels=32, res_blocks=2, attention=(3, 4, 5)),
}


def randomise(network, seed=0):
    """Give every parameter random values that keep activations of order 1 (new networks have layers of zeros)."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in network.parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        if parameter.ndim > 1:
            parameter.data = noise / parameter[0].numel() ** 0.5
        else:
            parameter.data += 0.1 * noise
    return network.eval().requires_grad_(False)


def azula_network(architecture):
    return randomise(
        UNetModel(
            image_size=256,
            in_channels=3,
            out_channels=6,
            model_channels=architecture.channels,
            num_res_blocks=architecture.res_blocks,
            channel_mult=architecture.multipliers,
            attention_resolutions={2**level for level in architecture.attention},
            num_head_channels=64,
            use_scale_shift_norm=True,
            resblock_updown=True,
        )
    )


def converted_network(path, architecture):
    """The diffusers network with the weights of a file in the original layout."""
    network = architecture.network()
    network.load_state_dict(adm_to_diffusers(read_checkpoint(path), architecture), assign=True)
    return network.eval().requires_grad_(False)


@pytest.fixture(scope="module", params=REDUCED)
def pair(request, tmp_path_factory):
    """(original network, its file, the converted network, architecture) at reduced width."""
    architecture = REDUCED[request.param]
    path = tmp_path_factory.mktemp("original") / f"{request.param}.pt"
    original = azula_network(architecture)
    torch.save(original.state_dict(), path)
    return original, path, converted_network(path, architecture), architecture


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """(file in the original layout, architecture) of one level: quick to convert."""
    architecture = ADMArchitecture(channels=64, res_blocks=1, attention=(0,), multipliers=(1,))
    path = tmp_path_factory.mktemp("tiny") / "tiny.pt"
    torch.save(azula_network(architecture).state_dict(), path)
    return path, architecture


@pytest.fixture
def published(tiny, tmp_path, monkeypatch):
    """A function (served file) -> Published weights whose hub serves that file in place of the tiny one."""
    path, architecture = tiny
    monkeypatch.setenv("BENCHMARK_DIFFUSION_POSTERIOR_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("FFHQ256_PATH", raising=False)

    def checkpoint(served):
        def download(repo, file, revision, local_dir):
            assert repo == "org/name"
            local_dir.mkdir(parents=True, exist_ok=True)
            (local_dir / file).write_bytes(served)

        monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
        return Published(
            name="ffhq256",
            url="https://huggingface.co/org/name",
            converters={"published.pt": functools.partial(adm_to_diffusers, architecture=architecture)},
            read=read_checkpoint,
            size=path.stat().st_size,
            sha256=sha256_of(path),
        )

    return checkpoint


@pytest.mark.parametrize("label", LABELS)
def test_converted_network_gives_the_same_output(pair, label):
    original, _, converted, _ = pair
    x = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    expected = original(x, torch.tensor([label]))
    assert expected.std() > 0.3  # a dead network would agree with anything
    torch.testing.assert_close(converted(x, torch.tensor([float(label)])).sample, expected, rtol=0, atol=1e-5)


@pytest.mark.slow
def test_full_width_ffhq_gives_the_same_output(tmp_path):
    from deepinv.models import DiffUNet

    original = randomise(DiffUNet(pretrained=None))
    tables = {"sqrt_1m_alphas_cumprod", "sqrt_alphas_cumprod"}
    path = tmp_path / "ffhq.pt"
    torch.save({name: value for name, value in original.state_dict().items() if name not in tables}, path)
    converted = converted_network(path, FFHQ)
    x = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    for label in LABELS:
        expected = original.forward_diffusion(x, torch.tensor([label]))
        torch.testing.assert_close(converted(x, torch.tensor([float(label)])).sample, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("weights", "architecture", "millions"), [(FFHQ_WEIGHTS, FFHQ, 93.6), (IMAGENET_WEIGHTS, IMAGENET, 552.8)]
)
def test_published_sizes_are_those_of_the_architectures(weights, architecture, millions):
    n_parameters = sum(parameter.numel() for parameter in architecture.network().parameters())
    assert round(n_parameters / 1e6, 1) == millions
    # four bytes each and less than a megabyte of names
    assert 0 < weights.size - 4 * n_parameters < 1e6


def test_attention_rows_are_reordered(pair):
    """With q, k and v as thirds of the rows, another layout of that matrix, the output differs."""
    original, path, _, architecture = pair
    state = read_checkpoint(path)
    tensors = adm_to_diffusers(state, architecture)
    for name, tensor in tensors.items():
        if found := re.search(r"\.to_([qkv])\.", name):
            third = state[original_name(name, architecture)].chunk(3)["qkv".index(found[1])]
            tensors[name] = third.float().reshape(tensor.shape)
    wrong = architecture.network()
    wrong.load_state_dict(tensors, assign=True)
    x = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    difference = wrong.eval()(x, torch.tensor([500.0])).sample - original(x, torch.tensor([500]))
    assert difference.abs().max() > 1e-3


# the denoiser


@pytest.fixture(scope="module")
def prior(tiny):
    path, architecture = tiny
    return Network(converted_network(path, architecture), NoiseSchedule.linear(), "cpu", (3, 16, 16))


def images(n):
    return torch.randn(n, 3, 16, 16, generator=torch.Generator().manual_seed(2))


def test_denoiser_uses_label_t_minus_1_and_the_noise_half(prior):
    x_t, abar = images(2), prior.schedule.abar(300)
    noise = prior.network(x_t, torch.tensor([299.0, 299.0])).sample[:, :3]
    torch.testing.assert_close(prior.denoise(x_t, 300), (x_t - (1 - abar) ** 0.5 * noise) / abar**0.5)


def test_denoise_takes_one_level_per_row(prior):
    x_t, levels = images(3), torch.tensor([1, 400, 1000])
    rows = [prior.denoise(x_t[i : i + 1], int(t)) for i, t in enumerate(levels)]
    abar = prior.schedule.abar(levels).view(3, 1, 1, 1).float()
    # x_0 is a difference divided by sqrt(abar), which is 0.006 at t = 1000: compare before the division
    difference = (prior.denoise(x_t, levels) - torch.cat(rows)) * abar.sqrt()
    assert difference.abs().max() < 1e-5


@pytest.mark.parametrize("t", [1, 2, 10, 500, 1000])
def test_both_views_agree_at_the_levels_of_the_table(prior, t):
    x_t = images(2)
    abar, sigma = prior.schedule.abar(t), prior.schedule.sigma(t)
    expected = prior.denoise(x_t, t)
    for level in (sigma, torch.full((2,), sigma), torch.full((2,), sigma, dtype=torch.float64)):
        difference = (prior.denoise_sigma(x_t / abar**0.5, level) - expected) * abar**0.5
        assert difference.abs().max() < 2e-5


def test_labels_are_log_linear_in_sigma_and_clamped(prior):
    sigma = prior.schedule.sigma(torch.arange(1, 1001))
    torch.testing.assert_close(prior.label_of(sigma), torch.arange(1000, dtype=torch.float64))
    between = (sigma[:-1] ** 0.75) * (sigma[1:] ** 0.25)
    torch.testing.assert_close(prior.label_of(between), torch.arange(999, dtype=torch.float64) + 0.25)
    outside = torch.tensor([1e-4, 1e4], dtype=torch.float64)
    assert prior.label_of(outside).tolist() == [0.0, 999.0]


def test_denoiser_is_differentiable_and_weights_are_frozen(prior):
    x_t = images(1).requires_grad_()
    (gradient,) = torch.autograd.grad(prior.denoise(x_t, 500).sum(), x_t)
    assert gradient.isfinite().all() and gradient.abs().sum() > 0
    assert not any(parameter.requires_grad for parameter in prior.network.parameters())


# fetching and checking


def test_prepare_downloads_checks_and_converts_once(published, tiny):
    path, architecture = tiny
    weights = published(path.read_bytes())
    with pytest.raises(FileNotFoundError, match="benchopt prepare"):
        weights.require()
    (converted,) = weights.prepare()
    weights.require()
    assert sorted(load_file(converted)) == sorted(architecture.network().state_dict())
    changed = converted.stat().st_mtime_ns
    published(b"")  # a second download would be noticed
    (weights.folder / "published.pt").unlink()
    assert weights.prepare() == [converted] and weights.find() == converted and converted.stat().st_mtime_ns == changed


def test_weights_are_loaded_from_this_machine_only(published, tiny):
    weights = published(tiny[0].read_bytes())
    message = "the weights of ffhq256 are not on this machine, .*published.pt missing: run `benchopt prepare"
    with pytest.raises(FileNotFoundError, match=message):
        weights.find()
    assert not weights.folder.exists()


def test_truncated_download_is_refused(published, tiny):
    weights = published(tiny[0].read_bytes()[:1000])
    with pytest.raises(ValueError, match=r"published.pt is truncated or another file \(1,000 bytes.*delete it"):
        weights.prepare()
    assert not list(paths.cache_folder().glob("*.safetensors"))


def test_wrong_hash_is_refused(published, tiny):
    content = bytearray(tiny[0].read_bytes())
    content[len(content) // 2] ^= 1
    weights = published(bytes(content))
    with pytest.raises(ValueError, match="published.pt is truncated or another file .*sha256.*delete it"):
        weights.prepare()


def test_no_network_is_a_clear_error(monkeypatch, tmp_path):
    monkeypatch.setenv("BENCHMARK_DIFFUSION_POSTERIOR_CACHE", str(tmp_path))
    monkeypatch.delenv("FFHQ256_PATH", raising=False)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ConnectionError, match="diffusion_ffhq_10m.pt could not be downloaded.*again with a network"):
        FFHQ_WEIGHTS.prepare()


def test_damaged_converted_file_is_refused(published, tiny):
    path, architecture = tiny
    weights = published(path.read_bytes())
    (converted,) = weights.prepare()
    converted.write_bytes(converted.read_bytes()[:-100])
    with pytest.raises(ValueError, match="cannot be read as safetensors: delete it"):
        load_networks(weights.find(), {"": architecture.network()})


def test_own_checkpoint_is_not_compared_but_its_keys_are_checked(published, tiny, tmp_path, monkeypatch):
    path, architecture = tiny
    weights = published(b"")
    state = read_checkpoint(path)
    own = tmp_path / "own.pt"
    monkeypatch.setenv("FFHQ256_PATH", str(own))
    with pytest.raises(FileNotFoundError, match="own.pt missing: correct .*FFHQ256_PATH"):
        weights.require()

    torch.save({name: value + 1 for name, value in state.items()}, own)
    network = architecture.network()
    load_networks(weights.find(), {"": network})
    torch.testing.assert_close(network.conv_out.bias.data, state["out.2.bias"] + 1)

    renamed = {name.replace("out.2", "out.3"): value for name, value in state.items()}
    torch.save(renamed, own)
    message = r"own.pt: this is not a checkpoint of .*2 tensors are missing \(out.2.bias, out.2.weight\), 2 are unknown"
    with pytest.raises(ValueError, match=message):
        weights.prepare()

    torch.save(state | {"out.2.bias": torch.zeros(3)}, own)
    with pytest.raises(ValueError, match=r"out.2.bias has shape \(3,\) instead of \(6,\)"):
        weights.prepare()


BAD_FILES = {
    "truncated": lambda path, state: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "empty": lambda path, state: path.write_bytes(b""),
    "text": lambda path, state: path.write_text("<html>quota exceeded</html>"),
    "code": lambda path, state: torch.save(Prior("gaussian"), path),
    "nested": lambda path, state: torch.save({"state_dict": state}, path),
}


@pytest.mark.parametrize("kind", BAD_FILES)
def test_own_file_that_is_no_checkpoint_is_refused(published, tiny, tmp_path, monkeypatch, kind):
    weights = published(b"")
    own = tmp_path / "own.pt"
    own.write_bytes(tiny[0].read_bytes())
    BAD_FILES[kind](own, read_checkpoint(own))
    monkeypatch.setenv("FFHQ256_PATH", str(own))
    with pytest.raises(
        ValueError, match="own.pt (cannot be read as a torch checkpoint|is not a dictionary of tensors)"
    ):
        weights.prepare()


def test_prior_without_weights_never_loads(monkeypatch, tmp_path):
    monkeypatch.setenv("BENCHMARK_DIFFUSION_POSTERIOR_CACHE", str(tmp_path))
    monkeypatch.delenv("IMAGENET256_PATH", raising=False)
    prior = Prior("imagenet256")
    assert prior.family == "imagenet" and prior.signal_shape == (3, 256, 256)
    with pytest.raises(FileNotFoundError, match="downloads 2.2 GB.*IMAGENET256_PATH"):
        prior.load("cpu")


def test_a_converted_file_and_a_folder_are_taken_too(published, tiny, tmp_path, monkeypatch, capsys):
    """What ``prepare`` makes of the user's checkpoint is itself a checkpoint; a folder holds the published name."""
    path, architecture = tiny
    weights = published(b"")
    monkeypatch.setenv("FFHQ256_PATH", str(path))
    (converted,) = weights.prepare()
    assert capsys.readouterr().out == f"{path}: sha256 {sha256_of(path)}\n"
    monkeypatch.setenv("FFHQ256_PATH", str(shutil.copy(converted, tmp_path / "converted.safetensors")))
    assert weights.find() == tmp_path / "converted.safetensors"
    folder = tmp_path / "folder"
    folder.mkdir()
    monkeypatch.setenv("FFHQ256_PATH", str(folder))
    with pytest.raises(FileNotFoundError, match="folder/published.pt missing: correct .*FFHQ256_PATH"):
        weights.find()
    shutil.copy(path, folder / "published.pt")
    assert weights.find() == converted


def test_a_file_is_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / "new" / "file"

    def fail(partial):
        partial.write_text("half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        paths.write_atomically(path, fail)
    assert list(path.parent.iterdir()) == []
    paths.write_atomically(path, lambda partial: partial.write_text("whole"))
    assert path.read_text() == "whole" and list(path.parent.iterdir()) == [path]
    with pytest.raises(ValueError, match="new is not a regular file"):
        paths.write_atomically(path.parent, fail)
