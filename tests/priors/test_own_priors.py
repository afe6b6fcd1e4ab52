"""Priors of the user's own: pipelines of every training, grey and rectangular ones, Python files."""

import numpy as np
import pytest
import torch
from diffusers import (
    CMStochasticIterativeScheduler,
    DDPMPipeline,
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    EDMDPMSolverMultistepScheduler,
    EDMEulerScheduler,
    FlowMatchEulerDiscreteScheduler,
    ScoreSdeVeScheduler,
)
from helpers import draw
from test_image_folder import data_of
from test_images import picture
from test_pipeline import problem_of, random_normal, unet
from test_tasks import objective_of, rows_of

from benchmark_utils.metrics import lpips_score
from benchmark_utils.priors import Prior
from benchmark_utils.provenance import weights
from objective import Objective
from solvers.ddrm import Solver as DDRM
from solvers.dps import Solver as DPS
from solvers.mgdm import Solver as MGDM


def save(path, scheduler, channels=3, size=16, **options):
    DDPMPipeline(unet(channels, size, **options), scheduler).save_pretrained(path)
    return str(path)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("kind", [EDMEulerScheduler, EDMDPMSolverMultistepScheduler])
def test_edm_is_the_scheduler_s_own_x_0(tmp_path, kind, prediction):
    scheduler = kind(prediction_type=prediction, sigma_data=0.7)
    prior = Prior(save(tmp_path, scheduler)).load()
    for sigma in (0.01, 1.3, 60.0):
        x = sigma * random_normal(2, 3, 16, 16)
        with torch.no_grad():
            label = scheduler.precondition_noise(torch.tensor([sigma] * 2))
            output = prior.network(scheduler.precondition_inputs(x, sigma), label).sample
            expected = scheduler.precondition_outputs(x, output, sigma)
            torch.testing.assert_close(prior.denoise_sigma(x, sigma), expected, rtol=1e-4, atol=1e-4)


def test_consistency_is_the_scheduler_s_own_x_0_and_said(tmp_path):
    scheduler = CMStochasticIterativeScheduler(clip_denoised=False)
    with pytest.warns(UserWarning, match="a consistency model stands for the mean"):
        prior = Prior(save(tmp_path, scheduler)).load()
    scheduler.set_timesteps(3)
    t, sigma = scheduler.timesteps[1], float(scheduler.sigmas[1])
    x = sigma * random_normal(2, 3, 16, 16)
    with torch.no_grad():
        output = prior.network(scheduler.scale_model_input(x, t), t).sample
        c_skip, c_out = scheduler.get_scalings_for_boundary_condition(scheduler.sigmas[1])
        torch.testing.assert_close(prior.denoise_sigma(x, sigma), c_out * output + c_skip * x, rtol=1e-3, atol=1e-3)


def test_ve_is_tweedie_s_formula_in_the_scheduler_s_range(tmp_path):
    """The pipeline's images lie in [0, 1]; without a neighbouring level its predicted mean is x + sigma^2 score."""
    scheduler = ScoreSdeVeScheduler(num_train_timesteps=100, sigma_max=50.0)
    prior = Prior(save(tmp_path, scheduler, time_embedding_type="fourier")).load()
    level = 60
    sigma = float(scheduler.discrete_sigmas[level])
    scheduler.get_adjacent_sigma = lambda timesteps, t: torch.zeros_like(t)
    unit = 0.5 + sigma * random_normal(2, 3, 16, 16)
    with torch.no_grad():
        score = prior.network(unit, torch.full((2,), sigma)).sample
        step = scheduler.step_pred(score, level / 99 + 1e-6, unit)
        found = prior.denoise_sigma(2 * unit - 1, 2 * sigma)
    assert score.std() > 0
    torch.testing.assert_close(found, 2 * step.prev_sample_mean - 1, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_flow_matching_is_the_scheduler_s_own_x_0(tmp_path, shift):
    scheduler = FlowMatchEulerDiscreteScheduler(shift=shift)
    prior = Prior(save(tmp_path, scheduler)).load()
    scheduler.set_timesteps(10)
    t, s = scheduler.timesteps[4], float(scheduler.sigmas[4])
    x_s = random_normal(2, 3, 16, 16)
    with torch.no_grad():
        velocity = prior.network(x_s, t.expand(2)).sample
        scheduler.sigmas[5] = 0  # a step to the data
        expected = scheduler.step(velocity, t, x_s).prev_sample
        found = prior.denoise_sigma(x_s / (1 - s), s / (1 - s))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_flow_predictions_of_other_schedulers(tmp_path):
    scheduler = DPMSolverMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True)
    prior = Prior(save(tmp_path, scheduler)).load()
    scheduler.set_timesteps(10)
    t, s = scheduler.timesteps[3], float(scheduler.sigmas[3])
    scheduler._init_step_index(t)
    x_s = random_normal(2, 3, 16, 16)
    with torch.no_grad():
        velocity = prior.network(x_s, t.expand(2)).sample
        expected = scheduler.convert_model_output(velocity, sample=x_s)
        # the scheduler rounds its times to whole labels
        found = prior.denoise_sigma(x_s / (1 - s), s / (1 - s))
    torch.testing.assert_close(found, expected, rtol=2e-2, atol=2e-2)


SCHEDULERS = {
    "DDPM": DDPMScheduler,
    "EDM": EDMEulerScheduler,
    "flow": FlowMatchEulerDiscreteScheduler,
    "VE": ScoreSdeVeScheduler,
}


@pytest.mark.parametrize("kind", SCHEDULERS)
@pytest.mark.parametrize("Solver", [DPS, MGDM, DDRM])
def test_solvers_run_on_every_training(tmp_path, kind, Solver):
    options = {"time_embedding_type": "fourier"} if kind == "VE" else {}
    handle = Prior(save(tmp_path, SCHEDULERS[kind](), **options))
    parameters = {name: value for name, value in Solver.test_config.items() if name != "dataset"}
    samples = draw(Solver, problem_of(handle), handle, 1, **parameters)
    assert samples.shape == (2, 1, 3, 16, 16) and samples.isfinite().all()


def test_zero_terminal_snr_is_said(tmp_path):
    scheduler = DDPMScheduler(rescale_betas_zero_snr=True, prediction_type="v_prediction")
    with pytest.warns(UserWarning, match="the last level, noise alone .* is left out"):
        assert Prior(save(tmp_path, scheduler)).load().schedule.T == 999


def test_an_unknown_prediction_of_edm_names_the_file_and_the_known_ones(tmp_path):
    handle = Prior(save(tmp_path, EDMEulerScheduler(prediction_type="sample")))
    expected = f"{tmp_path}: scheduler EDMEulerScheduler with prediction sample; known: epsilon, v_prediction"
    with pytest.raises(ValueError, match=expected):
        handle.load()


@pytest.mark.parametrize("shape", [(1, 32, 32), (3, 32, 48), (1, 16, 24)])
def test_grey_and_rectangular_pipelines_run_on_own_images(tmp_path, shape):
    (tmp_path / "photos").mkdir()
    picture(60, 50).save(tmp_path / "photos" / "a.png")
    handle = save(tmp_path / "prior", DDPMScheduler(), shape[0], shape[1:])
    data = data_of(tmp_path / "photos", task="sr4", prior=handle)
    assert data["x_true"].shape == (1, *shape) and data["prior"].signal_shape == shape
    assert ("lpips" in data["metrics"]) == (min(shape[1:]) >= 31)
    objective = objective_of(data, n_samples=2)
    (row,) = rows_of(objective, DPS)
    assert np.isfinite([row["psnr"], row["ssim"], row["data_misfit"]]).all()
    stored = objective.save_final_results(torch.zeros(1, 2, *shape))
    assert stored["truth"].shape == (1, *shape[1:], shape[0])


def test_lpips_repeats_a_grey_channel():
    x, y = (torch.rand(1, 1, 32, 32, generator=torch.Generator().manual_seed(seed)) * 2 - 1 for seed in range(2))
    torch.testing.assert_close(lpips_score(x, y[0]), lpips_score(x.expand(-1, 3, -1, -1), y[0].expand(3, -1, -1)))


GAUSSIAN = """
event_shape = (3, 16, 16)

def denoise_sigma(x, sigma):
    return x * 0.25 / (0.25 + sigma**2)
"""
SUBCLASS = """
import torch
from benchmark_utils.priors.base import LoadedPrior
from benchmark_utils.schedule import NoiseSchedule

class Mine(LoadedPrior):
    event_shape = signal_shape = (3, 16, 16)
    dtype = torch.float64

    def __init__(self, device):
        self.device, self.schedule = torch.device(device), NoiseSchedule.linear()

    def denoise_sigma(self, x, sigma):
        return x * 0.25 / (0.25 + sigma**2)
"""


@pytest.mark.parametrize("source", [GAUSSIAN, SUBCLASS], ids=["function", "class"])
def test_files_that_a_python_file_reads_are_among_its_weights(tmp_path, source):
    path = tmp_path / "my_prior.py"
    path.write_text(source + "\nreads = ('net.pt',)\nsignal_range = 3\n")
    (tmp_path / "net.pt").write_bytes(b"weights")
    handle = Prior.of(str(path))
    assert handle.weights.named_paths() == [path, tmp_path / "net.pt"] and handle.signal_range == 3
    assert "net.pt " in weights(handle.load())


def test_a_function_is_no_prior_of_latents(tmp_path):
    path = tmp_path / "my_prior.py"
    path.write_text(GAUSSIAN + "\nsignal_shape = (3, 32, 32)\n")
    with pytest.raises(ValueError, match="my_prior.py has a signal_shape: write a prior of latents as a subclass"):
        Prior.of(str(path)).load()


@pytest.mark.parametrize("source", [GAUSSIAN, SUBCLASS], ids=["function", "class"])
def test_a_python_file_is_a_prior(tmp_path, source):
    """The law N(0, 0.25)."""
    path = tmp_path / "my_prior.py"
    path.write_text(source)
    handle = Prior.of(str(path))
    assert handle.event_shape == handle.signal_shape == (3, 16, 16)
    assert handle.family == "ffhq" and not handle.is_latent and handle.weights.named_paths() == [path]
    prior = handle.load()
    assert weights(prior).startswith("my_prior.py ")
    x_t = random_normal(2, 3, 16, 16).to(prior.dtype)
    levels = torch.tensor([300, 700])
    abar = prior.schedule.abar(levels).view(-1, 1, 1, 1)
    # E[x_0 | x_t] of N(0, 0.25)
    expected = (0.25 * abar.sqrt() / (0.25 * abar + 1 - abar)).to(prior.dtype) * x_t
    if source == GAUSSIAN:
        torch.testing.assert_close(prior.denoise(x_t, levels), expected)
    torch.testing.assert_close(prior.denoise(x_t[:1], 300), expected[:1])
    samples = draw(DDRM, problem_of(handle), handle, 20, n_steps=50)
    assert 0.35 < float(samples[..., 8:].std()) < 0.55  # where nothing is seen; DDRM is not exact


@pytest.mark.parametrize("options", [{"precision": "bfloat16"}, {"compile": True}])
def test_precision_and_compile_skip_a_function_and_tell_a_class_what_it_lacks(tmp_path, options):
    path = tmp_path / "my_prior.py"
    path.write_text(GAUSSIAN)
    objective = Objective.get_instance(**options)
    assert objective.skip(prior=Prior(str(path))) == (
        True,
        f"precision and compile are for networks, and {path} has none",
    )
    (tmp_path / "my_class.py").write_text(SUBCLASS)
    handle = Prior(str(tmp_path / "my_class.py"), **options)
    assert not objective.skip(prior=handle)[0]
    with pytest.raises(ValueError, match="this prior has none: leave them out, or list its torch modules"):
        handle.load()


BAD = {
    "x = 1\n": "has no denoise_sigma and no event_shape: a prior's file has event_shape",
    "def denoise_sigma(x, sigma):\n    return x\n": "has no event_shape: a prior's file has",
    SUBCLASS + "\nclass Other(Mine):\n    pass\n": "has 2 subclasses of LoadedPrior: keep one",
}


@pytest.mark.parametrize("source", BAD)
def test_a_bad_prior_file_says_what_to_do(tmp_path, source):
    (tmp_path / "my_prior.py").write_text(source)
    with pytest.raises(ValueError, match=BAD[source]) as refused:
        _ = Prior(str(tmp_path / "my_prior.py")).family, Prior(str(tmp_path / "my_prior.py")).event_shape
    assert "\n" not in str(refused.value)


def test_a_prior_file_that_does_not_exist_says_how_to_quote_it():
    with pytest.raises(ValueError, match="my_prior.py does not exist. On the command line, a path that begins with"):
        _ = Prior("./my_prior.py").family
