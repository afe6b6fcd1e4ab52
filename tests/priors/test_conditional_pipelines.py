"""Class- and text-conditional pipelines with tiny random weights: what the networks are asked, and bad input."""

import json

import pytest
import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    DDPMPipeline,
    DDPMScheduler,
    DiTPipeline,
    DiTTransformer2DModel,
    UNet2DConditionModel,
)
from diffusers.pipelines.audioldm2.modeling_audioldm2 import AudioLDM2UNet2DConditionModel
from helpers import draw
from test_pipeline import unet

from benchmark_utils.evaluate import objective_of, score
from benchmark_utils.noise import TextTilt
from benchmark_utils.operators.label import LabelOnly
from benchmark_utils.priors import Prior, conditional
from benchmark_utils.priors.conditional import TextCondition, TextPipeline
from benchmark_utils.problem import InverseProblem, capabilities
from datasets.class_conditional import Dataset as ClassConditional
from datasets.text_to_audio import Dataset as TextToAudio
from solvers.cfg import Solver as CFG
from solvers.cfgig import Solver as CFGiG

CLASSES = 7


def autoencoder():
    half = {"down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2}
    return AutoencoderKL(block_out_channels=(8, 8), norm_num_groups=4, latent_channels=4, **half)


@pytest.fixture(scope="module")
def dit(tmp_path_factory):
    """The folder of a small DiTPipeline on 8 x 8 latents of 16-px images."""
    torch.manual_seed(0)
    size = {"num_attention_heads": 2, "attention_head_dim": 8, "num_layers": 2, "sample_size": 8}
    transformer = DiTTransformer2DModel(in_channels=4, out_channels=8, num_embeds_ada_norm=CLASSES, **size)
    for parameter in transformer.parameters():  # zero at the start, so that the class would not matter
        parameter.data += 0.1 * torch.randn_like(parameter)
    path = tmp_path_factory.mktemp("dit")
    DiTPipeline(transformer, autoencoder(), DDIMScheduler(beta_end=0.02)).save_pretrained(path)
    return str(path)


def class_prior(path):
    return Prior("class_conditional", (("pipeline", path),))


def test_classes_of_a_transformer(dit):
    """The noise is the first half of the output; no label is the null class, after the last one."""
    handle = class_prior(dit)
    assert handle.labelled and handle.is_latent and not handle.closed_form and handle.family == "imagenet"
    assert handle.event_shape == (4, 8, 8) and handle.signal_shape == (3, 16, 16)
    prior = handle.load("cpu")
    network = DiTTransformer2DModel.from_pretrained(dit, subfolder="transformer").eval()
    x_t, t, label = torch.randn(3, 4, 8, 8, generator=torch.Generator().manual_seed(0)), 300, torch.tensor([0, 5, 2])
    abar = prior.schedule.abar(t)
    denoised = {}
    for given, classes in ((label, label), (None, torch.full((3,), CLASSES))):
        with torch.no_grad():
            eps = network(x_t, torch.full((3,), t - 1.0), class_labels=classes).sample[:, :4]
            denoised[given is None] = prior.denoise(x_t, t, given)
        torch.testing.assert_close(denoised[given is None], (x_t - (1 - abar) ** 0.5 * eps) / abar**0.5)
    assert not torch.allclose(denoised[True], denoised[False])
    sigma = prior.schedule.sigma(t)
    with torch.no_grad():
        torch.testing.assert_close(
            prior.denoise_sigma(x_t / abar**0.5, sigma, label), denoised[False], rtol=1e-3, atol=1e-3
        )
    assert prior.autoencoder.scale == 0.18215


@pytest.mark.parametrize("parameters", [{"sampler": "ddim"}, {"interval": (0.1, 10.0)}])
def test_guided_images_of_a_class(dit, parameters):
    objective = objective_of(ClassConditional.get_instance(prior=dit, label=3), n_samples=2)
    assert objective.problem.capabilities == {"labelled", "latent", "image"}
    (row,) = score(CFG.get_instance(n_steps=3, **parameters), objective).to_dict("records")
    assert row["spread"] > 0 and row["diverged"] == 0 and row["headline"] == "spread"
    assert row["nfe"] == (6 if "sampler" in parameters else 7)  # the interval holds the second level only


def test_methods_that_need_a_likelihood_are_skipped(dit):
    from solvers.mgdm import Solver as MGDM

    objective = objective_of(ClassConditional.get_instance(prior=dit, label=3))
    skipped, reason = MGDM.get_instance().skip(problem=objective.problem, prior=objective.prior)
    assert skipped and "mgdm needs likelihood" in reason
    skipped, reason = objective_of_one_draw(dit)
    assert skipped and "needs n_samples of 2 or more" in reason


def objective_of_one_draw(dit):
    from objective import Objective

    return Objective.get_instance(n_samples=1).skip(**ClassConditional.get_instance(prior=dit, label=3).get_data())


def test_bad_classes_and_pipelines_are_named(dit, tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="unknown label 7; prior .* has the labels 0 to 6"):
        ClassConditional.get_instance(prior=dit, label=CLASSES).get_data()
    DDPMPipeline(unet(3, 16), DDPMScheduler()).save_pretrained(tmp_path / "ddpm")
    with pytest.raises(ValueError, match="is a DDPMPipeline; this prior is made of a DiTPipeline"):
        ClassConditional.get_instance(prior=str(tmp_path / "ddpm"), label=0).get_data()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for Dataset in (ClassConditional, TextToAudio):
        missing = Dataset.get_instance(prior="nobody/nothing").get_data()["missing"]
        assert "benchopt prepare" in missing and "huggingface.co/nobody/nothing" in missing


@pytest.fixture(scope="module")
def stable_diffusion(tmp_path_factory):
    """The folder of a small StableDiffusionPipeline without its text encoder."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("sd")
    blocks = {"down_block_types": ("CrossAttnDownBlock2D",), "up_block_types": ("CrossAttnUpBlock2D",)}
    network = UNet2DConditionModel(8, block_out_channels=(8,), norm_num_groups=4, cross_attention_dim=6, **blocks)
    network.save_pretrained(path / "unet")
    autoencoder().save_pretrained(path / "vae")
    DDIMScheduler(prediction_type="v_prediction").save_pretrained(path / "scheduler")
    names = {"unet": "UNet2DConditionModel", "vae": "AutoencoderKL", "scheduler": "DDIMScheduler"}
    index = {name: ["diffusers", kind] for name, kind in names.items()} | {"_class_name": "StableDiffusionPipeline"}
    (path / "model_index.json").write_text(json.dumps(index))
    return str(path)


@pytest.fixture
def texts(monkeypatch, tmp_path):
    """Embeddings of five tokens without a text encoder: their number is the text's length."""
    n_calls = []

    def encode(pipeline, texts):
        n_calls.append(texts)
        return torch.stack([torch.linspace(-1, len(text) / 10, 30) for text in texts])

    monkeypatch.setattr(TextPipeline, "_encode", encode)
    monkeypatch.setattr(conditional, "cache_folder", lambda: tmp_path)
    return n_calls


def test_text_of_a_u_net(stable_diffusion, texts):
    handle = Prior("text", (("pipeline", stable_diffusion),))
    prior = handle.spec.load("cpu")
    network = UNet2DConditionModel.from_pretrained(stable_diffusion, subfolder="unet").eval()
    x_t, t = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0)), 500
    abar = prior.schedule.abar(t)
    y = handle.spec.encode(["a hammer", "rain"])
    for given, states in ((y, y.view(2, 5, 6)), (None, handle.spec.encode([""]).expand(2, -1).view(2, 5, 6))):
        with torch.no_grad():
            velocity = network(x_t, torch.full((2,), t - 1.0), encoder_hidden_states=states).sample
            found = prior.denoise(x_t, t, given)
        torch.testing.assert_close(found, abar**0.5 * x_t - (1 - abar) ** 0.5 * velocity)
    assert texts == [[""], ["a hammer", "rain"]]  # each once: the rest came from the cache folder


def test_guided_pictures_of_a_text(stable_diffusion, texts):
    data = TextToAudio.get_instance(prior=stable_diffusion, texts="a hammer").get_data()
    assert data["files"] == ("a hammer",) and data["y"].shape == (1, 30)
    objective = objective_of(TextToAudio.get_instance(prior=stable_diffusion, texts="a hammer"))
    solver = CFGiG.get_instance(n_steps=6, n_start=2)
    (row,) = score(solver, objective).to_dict("records")
    assert solver.sampler == "ddim" and row["nfe"] == 2 + 2 * 2 * 2 and row["spread"] > 0


def test_different_texts_give_different_pictures(stable_diffusion, texts):
    handle = Prior("text", (("pipeline", stable_diffusion),))
    y = handle.spec.encode(["a", "a much longer text"]).double()
    noise, operator = TextTilt(2.0), LabelOnly()
    found = capabilities(operator, noise, handle)
    problem = InverseProblem(operator, noise, y, "label", 30, (0, 0), capabilities=found)
    x = draw(CFG, problem, handle, 1, n_steps=2)
    assert not torch.allclose(x[0], x[1])


def test_files_of_texts(tmp_path):
    from datasets.text_to_audio import read_texts

    (tmp_path / "captions.txt").write_text("rain\n\n a dog barks \n")
    assert read_texts(str(tmp_path / "captions.txt")) == ["rain", "a dog barks"]
    with pytest.raises(ValueError, match="holds no text: give one, or a file"):
        read_texts("  ")
    with pytest.raises(ValueError, match="does not exist"):
        read_texts(str(tmp_path / "none.txt"))


def test_without_transformers_the_package_is_named(stable_diffusion, monkeypatch, tmp_path):
    monkeypatch.setitem(__import__("sys").modules, "transformers", None)
    monkeypatch.setattr(conditional, "cache_folder", lambda: tmp_path)
    missing = TextToAudio.get_instance(prior=stable_diffusion).get_data()["missing"]
    assert "need the package transformers" in missing and "pip install" in missing


def test_states_of_the_two_encoders_of_audioldm2():
    """A tiny random U-Net of its class, with 3 states of GPT-2 of size 8, and 4 tokens of T5 of size 12, one masked."""
    torch.manual_seed(0)
    network = AudioLDM2UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(8, 8),
        norm_num_groups=4,
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D",) * 2,
        up_block_types=("CrossAttnUpBlock2D",) * 2,
        cross_attention_dim=[[None, 8, 12]] * 2,
        attention_head_dim=2,
    ).eval()
    generated, states = torch.randn(2, 3, 8), torch.randn(2, 4, 12)
    mask = torch.tensor([[1.0, 1, 1, 1], [1, 1, 1, 0]])
    label = torch.cat([generated.flatten(1), states.flatten(1), mask], 1)
    arguments = TextCondition(torch.zeros(1, label.shape[1]), [8, 12], n_generated=24)(label, 2)
    assert torch.equal(arguments["encoder_hidden_states"], generated)
    assert torch.equal(arguments["encoder_hidden_states_1"], states)
    x, t = torch.randn(2, 4, 8, 8), torch.full((2,), 10.0)
    with torch.no_grad():
        found = network(x, t, **arguments).sample
        arguments["encoder_hidden_states_1"][1, 3] += 5  # the masked token
        same = network(x, t, **arguments).sample
        arguments["encoder_hidden_states_1"][1, 2] += 5
        other = network(x, t, **arguments).sample
    torch.testing.assert_close(found, same)
    assert not torch.allclose(found[1], other[1], atol=1e-4)
