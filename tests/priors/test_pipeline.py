"""Priors made of diffusers' networks: pipelines of the hub or a folder, the decoder in parts, bad ones."""

import copy
import functools
import json
import shutil
import subprocess
import sys
from pathlib import Path

import cloudpickle
import huggingface_hub
import pytest
import torch
from benchopt.benchmark import Benchmark
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    DDPMPipeline,
    DDPMScheduler,
    LDMPipeline,
    UNet2DModel,
    VQModel,
)
from helpers import ROOT, draw
from safetensors.torch import load_file, save_file

from benchmark_utils import priors
from benchmark_utils.files.paths import sha256_of
from benchmark_utils.noise import GaussianNoise
from benchmark_utils.operators.inpainting import inpainting
from benchmark_utils.priors import Prior, known_priors
from benchmark_utils.priors.base import PriorSpec
from benchmark_utils.priors.networks import Autoencoder
from benchmark_utils.priors.pipeline import Pipeline
from benchmark_utils.problem import InverseProblem, capabilities, count_observed
from benchmark_utils.provenance import weights
from datasets.ffhq_inpainting import Dataset as FFHQInpainting
from solvers.dps import Solver as DPS
from solvers.mgdm import Solver as MGDM

LATENT_BETAS = {"beta_schedule": "scaled_linear", "beta_start": 0.0015, "beta_end": 0.0195}


def unet(channels, size, **options):
    torch.manual_seed(0)
    return UNet2DModel(
        sample_size=size,
        in_channels=channels,
        out_channels=channels,
        block_out_channels=(8, 16),
        layers_per_block=1,
        norm_num_groups=4,
        attention_head_dim=8,
        down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        **options,
    )


def vq_model():
    torch.manual_seed(1)
    half = {"down_block_types": ("DownEncoderBlock2D",) * 3, "up_block_types": ("UpDecoderBlock2D",) * 3}
    model = VQModel(block_out_channels=(8, 8, 16), norm_num_groups=4, num_vq_embeddings=20, scaling_factor=0.5, **half)
    model.quantize.embedding.weight.data.normal_()
    return model


def kl_model():
    torch.manual_seed(1)
    half = {"down_block_types": ("DownEncoderBlock2D",) * 3, "up_block_types": ("UpDecoderBlock2D",) * 3}
    return AutoencoderKL(block_out_channels=(8, 8, 16), norm_num_groups=4, latent_channels=3, **half)


def save_ldm(path, autoencoder, **scheduler):
    LDMPipeline(autoencoder, unet(3, 16), DDIMScheduler(**LATENT_BETAS | scheduler)).save_pretrained(path)
    return str(path)


@pytest.fixture(scope="module")
def ldm(tmp_path_factory):
    """The folder of a small LDMPipeline for 64-px images."""
    return save_ldm(tmp_path_factory.mktemp("ldm"), vq_model())


@pytest.fixture(scope="module")
def ddpm(tmp_path_factory):
    """The folder of a small DDPMPipeline for 64-px images."""
    path = tmp_path_factory.mktemp("ddpm")
    DDPMPipeline(unet(3, 64), DDPMScheduler()).save_pretrained(path)
    return str(path)


def problem_of(prior, n=2):
    operator, noise = inpainting("half", prior.signal_shape).double(), GaussianNoise(0.05)
    y = operator.A(torch.randn(n, *prior.signal_shape, generator=torch.Generator().manual_seed(0)).double())
    found = capabilities(operator, noise, prior)
    return InverseProblem(operator, noise, y, "half", count_observed(operator, y), tuple(range(n)), capabilities=found)


def random_normal(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(3))


def test_latent_pipeline_is_its_networks(ldm):
    handle = Prior(ldm)
    assert handle.is_latent and handle.family == "ffhq_latent" and not handle.closed_form
    assert handle.event_shape == (3, 16, 16) and handle.signal_shape == (3, 64, 64)
    prior, network, autoencoder = handle.load("cpu"), unet(3, 16), vq_model()
    z_t, t = random_normal(2, 3, 16, 16), 400
    abar = prior.schedule.abar(t)
    scheduler = DDIMScheduler(**LATENT_BETAS)
    assert abar == pytest.approx(float(scheduler.alphas_cumprod[t - 1]), rel=1e-5)
    with torch.no_grad():
        expected = (z_t - (1 - abar) ** 0.5 * network(z_t, t - 1).sample) / abar**0.5
        torch.testing.assert_close(prior.denoise(z_t, t), expected)
        torch.testing.assert_close(prior.decode(z_t), autoencoder.decode(z_t / 0.5).sample, rtol=1e-4, atol=1e-5)
        x = random_normal(2, 3, 64, 64)
        torch.testing.assert_close(prior.encode(x), 0.5 * autoencoder.encode(x).latents, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
def test_predictions_are_those_of_the_scheduler(tmp_path, prediction):
    """diffusers' own DDIM step to level 0 returns x_0; the levels before the last agree with ours."""
    path = save_ldm(tmp_path, kl_model(), prediction_type=prediction, clip_sample=False)
    prior, scheduler = Prior(path).load("cpu"), DDIMScheduler.from_pretrained(tmp_path / "scheduler")
    scheduler.set_timesteps(1000)
    z_t, t = random_normal(2, 3, 16, 16), 300
    with torch.no_grad():
        output = prior.network(z_t, torch.tensor([t - 1.0] * 2)).sample
        expected = scheduler.step(output, t - 1, z_t).pred_original_sample
        torch.testing.assert_close(prior.denoise(z_t, t), expected, rtol=1e-4, atol=1e-5)
        sigma = prior.schedule.sigma(t)
        both = prior.denoise_sigma(z_t / prior.schedule.abar(t) ** 0.5, sigma)
    torch.testing.assert_close(both, expected, rtol=1e-4, atol=1e-4)


def test_pixel_pipeline_is_a_pixel_prior(ddpm):
    handle = Prior(ddpm)
    assert not handle.is_latent and handle.family == "ffhq" and handle.event_shape == (3, 64, 64)
    prior = handle.load("cpu")
    x = random_normal(1, 3, 64, 64)
    assert prior.decode(x) is x and prior.encode(x) is x
    assert draw(DPS, problem_of(handle), handle, 1, n_steps=2).shape == (2, 1, 3, 64, 64)


def test_dataset_takes_a_folder(ldm):
    data = FFHQInpainting.get_instance(mask="half", prior=ldm, n_images=1).get_data()
    assert data["x_true"].shape == (1, 3, 64, 64) and data["prior"] == Prior(ldm)


@pytest.mark.parametrize("pipeline", ["ldm", "ddpm"])
def test_rows_say_which_weights_were_read(pipeline, request):
    folder = Path(request.getfixturevalue(pipeline))
    files = [next((folder / part).glob("*.safetensors")) for part in ("unet", "vqvae") if (folder / part).exists()]
    expected = ", ".join(f"diffusion_pytorch_model.safetensors {sha256_of(file)}" for file in files)
    assert weights(Prior(str(folder)).load()) == expected


def test_folder_saved_and_loaded_by_id_gives_identical_samples(ldm, tmp_path, monkeypatch):
    """By its path, and by its id on the hub, whose download is played by a copy."""
    monkeypatch.setenv("BENCHMARK_DIFFUSION_POSTERIOR_CACHE", str(tmp_path))
    handle = Prior("someone/small-ldm")

    def download(name, local_dir, allow_patterns):
        assert name == "someone/small-ldm"
        shutil.copytree(ldm, local_dir)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    dataset = FFHQInpainting.get_instance(mask="half", prior=handle.name, n_images=1)
    assert "benchopt prepare" in dataset.get_data()["missing"]
    dataset.prepare()
    assert dataset.get_data()["x_true"].shape == (1, 3, 64, 64)
    samples = [draw(MGDM, problem_of(h), h, 1, **MGDM.test_config) for h in (handle, Prior(ldm))]
    assert torch.equal(*samples) and samples[0].std() > 0.1


def test_an_interrupted_download_is_taken_up_again(ldm, tmp_path, monkeypatch):
    monkeypatch.setenv("BENCHMARK_DIFFUSION_POSTERIOR_CACHE", str(tmp_path))
    pipeline = Pipeline("someone/small-ldm")

    def breaks_off(name, local_dir, allow_patterns):
        local_dir.mkdir(parents=True)
        shutil.copy(Path(ldm) / "model_index.json", local_dir)
        raise OSError("connection lost")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", breaks_off)
    with pytest.raises(ConnectionError, match="connection lost"):
        pipeline.prepare()
    with pytest.raises(FileNotFoundError, match="small-ldm/.complete missing: delete .* and run `benchopt prepare"):
        pipeline.require()
    copy = functools.partial(shutil.copytree, ldm, dirs_exist_ok=True)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda name, local_dir, **_: copy(local_dir))
    pipeline.prepare()
    assert pipeline.load("cpu").event_shape == (3, 16, 16)


def test_autoencoder_from_before_the_scaling_factor_was_written(tmp_path):
    """Its latents are what the U-Net was trained on: no factor. With the key, it is the key's."""
    folder = save_ldm(tmp_path / "a+b", vq_model())  # nor is a plus sign in a folder's name an option
    z = random_normal(1, 3, 16, 16)
    scaled = Prior.of(folder).load().decode(z * 0.5)
    path = Path(folder) / "vqvae" / "config.json"
    config = json.loads(path.read_text())
    assert config.pop("scaling_factor") == 0.5
    path.write_text(json.dumps(config))
    assert torch.equal(Pipeline(folder).load("cpu").decode(z), scaled)


def test_network_without_its_size_is_refused(ldm, tmp_path):
    path = Path(shutil.copytree(ldm, tmp_path / "copy")) / "unet" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"sample_size": None}))
    with pytest.raises(ValueError, match="unet/config.json has no sample_size"):
        Prior(str(tmp_path / "copy")).event_shape  # noqa: B018


def test_hub_without_network_is_a_clear_error(tmp_path, monkeypatch):
    monkeypatch.setenv("BENCHMARK_DIFFUSION_POSTERIOR_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ConnectionError, match="nobody/nothing could not be downloaded.*correct its name"):
        Prior("nobody/nothing").weights.prepare()


# options


def gradient_of(prior, z_t):
    with torch.enable_grad():
        z_t = z_t.clone().requires_grad_()
        image = prior.decode(prior.denoise(z_t, 500))
        return torch.autograd.grad(image.square().sum(), z_t)[0]


@pytest.mark.parametrize("model", [vq_model, kl_model])
def test_checkpointing_changes_no_gradient(tmp_path, model):
    path = save_ldm(tmp_path, model())
    z_t = random_normal(2, 3, 16, 16)
    plain, checkpointed = Prior(path).load("cpu"), Prior.of(f"{path}+checkpoint").spec.load("cpu")
    assert checkpointed.network.is_gradient_checkpointing and checkpointed.autoencoder.model.is_gradient_checkpointing
    torch.testing.assert_close(gradient_of(checkpointed, z_t), gradient_of(plain, z_t), rtol=1e-4, atol=1e-6)


def count(numbers, kept):
    numbers.append(kept.numel())
    return kept


def test_decoder_in_parts_gives_the_same_image_and_gradient_with_less_kept():
    whole, parts = Autoencoder(vq_model(), micro_batch=5), Autoencoder(vq_model(), micro_batch=2)
    z, x = random_normal(5, 3, 16, 16), random_normal(5, 3, 64, 64)
    for name, start in (("decode", z), ("encode", x)):
        results, kept = [], []
        for autoencoder in (whole, parts):
            start = start.clone().requires_grad_()
            numbers = []
            with torch.autograd.graph.saved_tensors_hooks(functools.partial(count, numbers), lambda kept: kept):
                out = getattr(autoencoder, name)(start)
            kept.append(sum(numbers))
            results.append((out.detach(), torch.autograd.grad(out.square().sum(), start)[0]))
        for a, b in zip(*results, strict=True):
            assert (a - b).abs().max() < 1e-5 * a.abs().max()
        assert kept[1] < kept[0] / 20
        with torch.no_grad():
            torch.testing.assert_close(getattr(parts, name)(start), results[0][0], rtol=1e-4, atol=1e-5)


def test_quantiser_passes_the_gradient_as_if_it_were_not_there():
    autoencoder, free = Autoencoder(vq_model()), Autoencoder(vq_model(), force_not_quantize=True)
    model, z = autoencoder.model, random_normal(1, 3, 16, 16)
    assert (autoencoder.decode(z) - free.decode(z)).abs().max() > 1e-3
    codes, _, _ = model.quantize(z)
    torch.testing.assert_close(autoencoder.decode(z), free.decode(codes), rtol=1e-4, atol=1e-5)
    gradients = []
    for decode, point in ((autoencoder.decode, z), (free.decode, codes)):
        point = point.detach().clone().requires_grad_()
        gradients.append(torch.autograd.grad(decode(point).square().sum(), point)[0])
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("mark", ["--", "+"])
def test_options_of_a_name(tmp_path, mark):
    on = ("checkpoint", True), ("force_not_quantize", True)
    assert Prior.of(f"ffhq256_latent{mark}checkpoint") == Prior("ffhq256_latent", on[:1])
    assert Prior.of("google/ddpm-cat-256--checkpoint") == Prior("google/ddpm-cat-256", on[:1])
    folder = tmp_path / f"org{mark}name"
    folder.mkdir()
    assert Prior.of(str(folder)) == Prior(str(folder))
    assert Prior.of(f"{folder}{mark}checkpoint{mark}force_not_quantize") == Prior(str(folder), on)


def test_benchopts_command_line_reads_options_and_paths_as_documented(tmp_path):
    def prior(text):
        ((_, parameters),) = Benchmark(ROOT).check_dataset_patterns([f"ffhq_inpainting[mask=half,prior={text}]"])
        return parameters["prior"]

    for text in ("faces64_latent--checkpoint", "org/name-2--checkpoint", "/data/p_1.x/y"):
        assert prior(text) == text
    for text in ("./x", "~/x", "../x", "1aurent/ddpm", "faces64_latent+checkpoint"):
        with pytest.raises(ValueError, match="Invalid name"):
            prior(text)
        assert prior(f"'{text}'") == text
    # benchopt's parser drops a space, and what it makes of = no quotes prevent
    assert prior("/a b") == "/ab" and prior("'/a b'") == "/a b" and prior("'/data/a=b'") == "/data/a:b"
    with pytest.raises(ValueError, match="there is no folder /data/a:b--checkpoint: .* give a path with = in a config"):
        _ = Prior.of("/data/a:b--checkpoint").spec
    folder = tmp_path / "a=b c"
    folder.mkdir()
    config = {"ffhq_inpainting": {"prior": [str(folder)]}}
    ((_, parameters),) = Benchmark(ROOT).check_dataset_patterns([config])
    assert Prior.of(*parameters["prior"]).weights.folder == folder


def test_cache_key_sees_the_files_of_a_pipeline(ddpm, tmp_path):
    folder = shutil.copytree(ddpm, tmp_path / "ddpm")

    def states():
        objective = Benchmark(ROOT).get_benchmark_objective().get_instance()
        ((Dataset, _),) = Benchmark(ROOT).check_dataset_patterns(["ffhq_inpainting"])
        data = Dataset.get_instance(mask="half", prior=str(folder), n_images=1)
        objective.get_seed = lambda **_: 0
        objective._set_dataset(data)
        return objective._get_state(), copy.copy(objective)._get_state()  # benchopt hashes copies

    before, of_copy = states()
    assert before == of_copy == states()[0]
    config = folder / "scheduler" / "scheduler_config.json"
    config.write_text(config.read_text().replace("0.02", "0.03"))
    assert states()[0] != before


def test_options_are_checked(ldm, ddpm, tmp_path):
    with pytest.raises(ValueError, match="prior faces64 has no option checkpoint; it has none"):
        _ = Prior.of("faces64+checkpoint").spec
    with pytest.raises(ValueError, match="ffhq256_latent has no option fast; it has force_not_quantize, checkpoint"):
        _ = Prior.of("ffhq256_latent+fast").spec
    with pytest.raises(ValueError, match="no codebook; leave the option out"):
        Prior.of(save_ldm(tmp_path, kl_model()) + "+force_not_quantize").spec.load("cpu")
    with pytest.raises(ValueError, match="has no autoencoder: leave force_not_quantize out"):
        Prior.of(f"{ddpm}+force_not_quantize").spec.load("cpu")


def test_a_spec_is_made_once_and_an_error_is_not_remembered(monkeypatch, tmp_path):
    made = []

    def counted(dim=2):
        made.append(dim)
        return PriorSpec("gaussian", (dim,), load=None)

    monkeypatch.setitem(known_priors(), "counted", counted)
    handle = Prior("counted", (("dim", 3),))
    assert handle.family == "gaussian" and handle.event_shape == (3,) and handle.weights.paths() == [] and made == [3]
    folder = str(tmp_path / "later")
    with pytest.raises(ValueError, match="unknown prior"):
        _ = Prior(folder).spec
    assert not Prior(save_ldm(folder, kl_model())).closed_form


def test_a_handle_is_pickled_as_benchopt_does_it():
    """With ``-j`` the class itself travels, since benchopt rebuilds the package for every cell."""
    cloudpickle.register_pickle_by_value(priors)
    try:
        content = cloudpickle.dumps(Prior("faces64_latent"))
    finally:
        cloudpickle.unregister_pickle_by_value(priors)
    code = "import pickle, sys; print(pickle.load(sys.stdin.buffer).event_shape)"
    done = subprocess.run([sys.executable, "-c", code], input=content, cwd=ROOT, capture_output=True, check=True)
    assert done.stdout.decode().strip() == "(8, 16, 16)"


# bad pipelines


@pytest.fixture
def broken(ldm, tmp_path):
    """A copy of the pipeline to break, and a function that edits one of its JSON files."""
    path = tmp_path / "pipeline"
    shutil.copytree(ldm, path)

    def edit(file, **changes):
        content = json.loads((path / file).read_text()) | changes
        (path / file).write_text(json.dumps({key: value for key, value in content.items() if value is not None}))
        return Prior(str(path)).spec

    return path, edit


def test_conditional_pipelines_are_refused(broken):
    path, edit = broken
    spec = edit("model_index.json", unet=["diffusers", "UNet2DConditionModel"], text_encoder=["transformers", "CLIP"])
    with pytest.raises(ValueError, match="LDMPipeline with .*text_encoder.*conditional.*unconditional pipeline"):
        _ = spec.is_latent
    spec = edit("model_index.json", unet=["diffusers", "UNet2DModel"], bert=["x", "LDMBert"])
    with pytest.raises(ValueError, match="conditional"):
        _ = spec.is_latent


def test_class_conditional_network_is_refused(broken):
    spec = broken[1]("unet/config.json", num_class_embeds=10)
    with pytest.raises(ValueError, match="conditional on a class"):
        _ = spec.is_latent


def test_pipeline_without_its_autoencoder_is_refused(broken):
    spec = broken[1]("model_index.json", vqvae=None)
    with pytest.raises(ValueError, match="LDMPipeline without its autoencoder.*VQModel or AutoencoderKL"):
        _ = spec.is_latent


def test_missing_or_partial_weights_are_refused(broken):
    path, edit = broken
    spec = edit("model_index.json")
    shutil.copy(path / "unet" / "diffusion_pytorch_model.safetensors", path / "saved")
    (path / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(ValueError, match="the weights of unet in .* are missing: give the folder of a whole"):
        spec.load("cpu")
    save_file({"conv_in.bias": torch.zeros(8)}, path / "unet" / "diffusion_pytorch_model.safetensors")
    with pytest.raises(ValueError, match="the weights of unet in .* lack "):
        spec.load("cpu")
    shutil.rmtree(path / "vqvae")
    with pytest.raises(ValueError, match="vqvae/config.json is missing or damaged"):
        _ = spec.signal_shape


@pytest.mark.parametrize("scheduler", [None, [None, None], ["diffusers", "NoSuchScheduler"]])
def test_missing_and_unknown_schedulers_are_named(broken, scheduler):
    path, edit = broken
    spec = edit("model_index.json", scheduler=scheduler)
    message = "no scheduler: name the one" if scheduler in (None, [None, None]) else "scheduler NoSuchScheduler with"
    with pytest.raises(ValueError, match=f"{path}.* {message}"):
        spec.load("cpu")


def test_a_scheduler_without_its_file_or_with_a_bad_table_is_named(broken):
    path, edit = broken
    spec = edit("scheduler/scheduler_config.json", trained_betas=[0.1, 0.0])
    with pytest.raises(ValueError, match="pipeline/scheduler/scheduler_config.json: abar must decrease"):
        spec.load("cpu")
    shutil.rmtree(path / "scheduler")
    with pytest.raises(ValueError, match="scheduler_config.json is missing or damaged: give the folder of a whole"):
        spec.load("cpu")


def test_the_last_level_of_a_schedule_with_zero_terminal_snr_is_left_out(broken):
    spec = broken[1]("scheduler/scheduler_config.json", rescale_betas_zero_snr=True)
    with pytest.warns(UserWarning, match="pipeline: the last level, noise alone .zero terminal SNR., is left out"):
        prior = spec.load("cpu")
    scheduler = DDIMScheduler(**LATENT_BETAS, rescale_betas_zero_snr=True)
    expected = scheduler.alphas_cumprod.double()
    assert prior.schedule.T == 999 and expected[-1] == 0
    torch.testing.assert_close(prior.schedule.table[1:], expected[:-1], rtol=1e-3, atol=1e-6)


def test_an_autoencoder_called_vae_makes_a_latent_prior(broken):
    path, edit = broken
    (path / "vqvae").rename(path / "vae")
    spec = edit("model_index.json", vqvae=None, vae=["diffusers", "VQModel"], _class_name="DDPMPipeline")
    assert spec.is_latent and spec.signal_shape == (3, 64, 64) and spec.event_shape == (3, 16, 16)
    z = random_normal(1, 3, 16, 16)
    assert spec.load("cpu").decode(z).shape == (1, 3, 64, 64)
    with pytest.raises(ValueError, match="one part, `vqvae` or `vae`, has to be a VQModel or AutoencoderKL"):
        _ = edit("model_index.json", vae=["diffusers", "AutoencoderTiny"]).is_latent


def test_weights_in_half_precision_are_used_where_there_are_no_others(ldm, broken):
    path, edit = broken
    for part in ("unet", "vqvae"):
        file = path / part / "diffusion_pytorch_model.safetensors"
        halves = {name: value.half() for name, value in load_file(file).items()}
        save_file(halves, file.with_suffix(".fp16.safetensors"))
        file.unlink()
    spec = edit("model_index.json")
    with pytest.warns(UserWarning, match="pipeline/unet has weights in half precision only: they are used"):
        prior = spec.load("cpu")
    z = random_normal(1, 3, 16, 16)
    whole = Pipeline(ldm).load("cpu")
    assert all(parameter.dtype == torch.float32 for parameter in prior.network.parameters())
    found, expected = prior.denoise(z, 500), whole.denoise(z, 500)
    assert 0 < (found - expected).abs().max() < 1e-2 * expected.abs().max()
    assert [file.name for file in spec.paths()] == ["diffusion_pytorch_model.fp16.safetensors"] * 2


@pytest.mark.parametrize("name", ["./no/such/folder", "/no/such", "~/no-such-folder", "a/b/c"])
def test_a_mistyped_path_is_no_address(name):
    with pytest.raises(ValueError, match=f"unknown prior '{name}'.* there is no folder {name}: correct the path"):
        _ = Prior(name).spec


def test_other_schedules_are_refused(broken):
    path, edit = broken
    spec = edit("scheduler/scheduler_config.json", prediction_type="flow")
    with pytest.raises(ValueError, match="prediction flow; .*epsilon, v_prediction, sample"):
        spec.load("cpu")


def test_unknown_names_say_what_is_known(tmp_path):
    with pytest.raises(ValueError, match="unknown prior 'nobody'.*faces64_latent.*Hugging Face hub or the path"):
        _ = Prior("nobody").spec
    with pytest.raises(FileNotFoundError, match="model_index.json missing: give the folder of a whole pipeline"):
        Prior(str(tmp_path)).weights.require()
