"""Music source separation: operator, closed-form priors, scores, readers, networks and samplers on four stems."""

import base64
import io
import math
import os
import subprocess
import sys
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import cloudpickle
import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
import yaml
from benchopt.utils.run_context import RunContext
from helpers import benchopt, draw
from test_invariance import SOLVERS
from torch.distributions import MultivariateNormal
from torchmetrics.functional.audio import scale_invariant_signal_distortion_ratio

from benchmark_utils.__main__ import main
from benchmark_utils.attempts import last_attempt
from benchmark_utils.files import slakh
from benchmark_utils.metrics import METRICS, SAMPLE_RATE, STEMS, is_active, scored_windows, si_sdr, si_sdri
from benchmark_utils.noise import NoNoise
from benchmark_utils.operators.stem_sum import StemSum
from benchmark_utils.priors import Prior, slakh_msdm
from benchmark_utils.priors.base import PriorSpec
from benchmark_utils.priors.slakh_gaussian import Stationary, TimeVarying
from benchmark_utils.problem import InverseProblem, capabilities
from benchmark_utils.results import pictures, players
from benchmark_utils.stored import store_audio
from datasets.slakh2100 import Dataset
from objective import Objective
from solvers.ddnm import Solver as DDNM
from solvers.demucs import Solver as Demucs
from solvers.dps import Solver as DPS
from solvers.exact_posterior import Solver as ExactPosterior
from solvers.mgdm import Solver as MGDM
from solvers.msdm import Solver as MSDM
from solvers.oracle_mask import Solver as OracleMask
from solvers.silence import Solver as Silence
from solvers.unseparated import Solver as Unseparated
from solvers.wiener import Solver as Wiener

ROOT = Path(__file__).parents[2]
RMS = torch.tensor([0.044, 0.054, 0.041, 0.032], dtype=torch.float64)


class Handle:
    """A loaded prior passed as a handle."""

    name, family, is_latent, closed_form = "stems", "audio", False, True

    def __init__(self, loaded):
        self.loaded, self.signal_shape = loaded, loaded.signal_shape
        self.spec = PriorSpec(self.family, self.signal_shape, self.load)

    def load(self, device):
        return self.loaded


def separation(prior, x, std=1e-4):
    """The problem of the sum of stems x (n, 4, length), without noise."""
    operator, noise = StemSum(), NoNoise(std)
    found = capabilities(operator, noise, prior)
    y = x.sum(1, keepdim=True)
    return InverseProblem(operator, noise, y, "separation", y.shape[2], tuple(range(len(y))), capabilities=found)


def music_density(length):
    """Spectra of four stems (4, length // 2 + 1): harmonic combs, a drum kit, with the levels of real ones."""
    f = torch.linspace(0, SAMPLE_RATE / 2, length // 2 + 1, dtype=torch.float64)

    def comb(f_0, n_harmonics, decay):
        return sum(decay ** (h - 1) * torch.exp(-((f - h * f_0) ** 2) / (72 * h)) for h in range(1, n_harmonics + 1))

    def bump(f_0, octaves, gain):
        return gain * torch.exp(-((f.clamp(min=1e-3) / f_0).log2() ** 2) / (2 * octaves**2))

    density = torch.stack(
        [
            comb(55, 12, 0.6),
            bump(60, 0.3, 1) + bump(7000, 0.8, 0.02) + 1e-3,
            comb(196, 20, 0.8) + comb(247, 20, 0.8),
            comb(262, 15, 0.7) + comb(330, 15, 0.7) + comb(392, 15, 0.7),
        ]
    )
    density = density.maximum(1e-6 * density.amax(1, keepdim=True))
    power = (2 * density.sum(1) - density[:, 0] - density[:, -1]) / length
    return density * (RMS**2 / power)[:, None]


def music(length, n):
    """(prior handle, n draws of four stems)."""
    prior = Stationary(music_density(length), length, sigma_max=20.0)
    return Handle(prior), prior.sample(n, torch.Generator().manual_seed(0))


def score(samples, truth, name="si_sdri_all"):
    """Mean score of samples (n, 1, 4, length)."""
    return float(np.mean([METRICS[name].score(s, x).item() for s, x in zip(samples, truth, strict=True)]))


class ZeroRNG:
    """Random numbers that are 0."""

    def randn_like(self, x):
        return torch.zeros_like(x)


# The operator


def matrix(function, *shape):
    """Dense matrix of a linear function of (n, *shape) tensors."""
    columns = torch.eye(math.prod(shape), dtype=torch.float64).view(-1, *shape)
    return function(columns).flatten(1).T


def test_the_stem_sum_is_its_dense_algebra():
    d, rho, std, center_std = 16, 2.5e-3, 1e-4, 0.3
    operator = cloudpickle.loads(cloudpickle.dumps(StemSum()))
    A = matrix(operator.A, 4, d)
    assert torch.equal(A, torch.eye(d, dtype=torch.float64).repeat(1, 4))
    V, V_adjoint = matrix(operator.V, 4, d), matrix(operator.V_adjoint, 4, d)
    U, U_adjoint = matrix(operator.U, 4, d), matrix(operator.U_adjoint, 1, d)
    exact = {"rtol": 0, "atol": 1e-12}
    torch.testing.assert_close(V @ V_adjoint, torch.eye(4 * d, dtype=torch.float64), **exact)
    torch.testing.assert_close(V.T, V_adjoint, **exact)
    torch.testing.assert_close(U @ U_adjoint, torch.eye(d, dtype=torch.float64), **exact)
    singular = operator.mask.expand(1, 4, d).flatten()
    torch.testing.assert_close(U * singular @ V_adjoint, A, **exact)
    torch.testing.assert_close(matrix(operator.A_adjoint, 1, d), A.T, **exact)
    torch.testing.assert_close(matrix(operator.A_dagger, 1, d), torch.linalg.pinv(A), **exact)

    generator = torch.Generator().manual_seed(0)
    z, y = (torch.randn(3, k, d, generator=generator, dtype=torch.float64) for k in (4, 1))
    right_side = y.flatten(1) @ A + rho * z.flatten(1)
    system = A.T @ A + rho * torch.eye(4 * d, dtype=torch.float64)
    expected = torch.linalg.solve(system, right_side.T).T.view_as(z)
    torch.testing.assert_close(operator.prox_l2(z, y, 1 / rho), expected, **exact)

    gain = center_std**2 * A.T @ torch.linalg.inv(center_std**2 * A @ A.T + std**2 * torch.eye(d, dtype=torch.float64))
    mean = z.flatten(1) + (y.flatten(1) - z.flatten(1) @ A.T) @ gain.T
    problem = InverseProblem(operator, NoNoise(std), y, "separation", d, (0, 1, 2))
    found = problem.draw_conditional(z, center_std, std, ZeroRNG())
    torch.testing.assert_close(found.flatten(1), mean, **exact)


@pytest.mark.parametrize("sigma", [20.0, 1.0, 0.1, 0.01])
def test_conjugate_steps_keep_float32_at_the_audio_noise(sigma):
    """Signals of 0.05, sigma_y = 1e-4: errors below 1e-7, where solving for ``rho x + A^T y`` errs by 5 at sigma 1."""
    prior, x = music(64, 2)
    z = 0.05 * torch.randn(2, 4, 64, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    problem, rho = separation(prior, x), 1e-8 / sigma**2
    exact = z + problem.operator.A_adjoint(problem.residual(z)) / (4 + rho)
    single = problem.to("cpu", torch.float32)
    for found in (
        single.operator.prox_l2(z.float(), single.y, 1 / rho),
        z.float() + single.correction(z.float(), rho),
        single.draw_conditional(z.float(), sigma, 1e-4, ZeroRNG()),
    ):
        torch.testing.assert_close(found.double(), exact, rtol=0, atol=1e-7)


# The closed-form priors


def small_prior(kind):
    """(prior of 4 x 16 numbers, its dense covariances (4, 16, 16)) built without the prior's own transforms."""
    d, generator = 16, torch.Generator().manual_seed(0)
    density = 0.1 + torch.rand(4, 9, generator=generator, dtype=torch.float64)
    if kind == "stationary":
        prior = Stationary(density, d, sigma_max=20.0)
        lag = (torch.arange(d)[:, None] - torch.arange(d)).double()
        frequency = torch.cat([torch.arange(9), torch.arange(7, 0, -1)])
        waves = torch.cos(2 * math.pi / d * lag * torch.arange(d).double()[:, None, None]) / d
        return prior, torch.einsum("kf,fij->kij", density[:, frequency], waves)
    hop, n_frames = 4, 4
    level = 0.1 + torch.rand(4, n_frames, generator=generator, dtype=torch.float64)
    prior = TimeVarying(density, level, hop, sigma_max=20.0)
    basis = torch.zeros(n_frames, hop, d, dtype=torch.float64)
    for m in range(n_frames):
        for k in range(hop):
            for n in range(2 * hop):
                window = math.sqrt(2 / hop) * math.sin(math.pi * (n + 0.5) / (2 * hop))
                wave = math.cos(math.pi / hop * (n + 0.5 + hop / 2) * (k + 0.5))
                basis[m, k, (m * hop + n) % d] = window * wave
    torch.testing.assert_close(
        basis.flatten(0, 1) @ basis.flatten(0, 1).T, torch.eye(d, dtype=torch.float64), rtol=0, atol=1e-12
    )
    # coefficient k is at frequency (k + 1/2) / 8, the bins are at multiples of 1/16: bin 2 k + 1
    template = density[:, [1, 3, 5, 7]]
    variance = level[..., None] * template[:, None]
    return prior, torch.einsum("smk,mki,mkj->sij", variance, basis, basis)


@pytest.mark.parametrize("kind", ["stationary", "time_varying"])
def test_denoiser_and_posterior_are_dense_algebra(kind):
    prior, covariances = small_prior(kind)
    d, std, exact = 16, 0.2, {"rtol": 0, "atol": 1e-12}
    one = torch.eye(4 * d, dtype=torch.float64)
    covariance, A = torch.block_diag(*covariances), torch.eye(d, dtype=torch.float64).repeat(1, 4)
    x = prior.sample(3, torch.Generator().manual_seed(1))
    sigma = torch.tensor([0.1, 0.7, 3.0], dtype=torch.float64)
    for i in range(3):
        shrink = covariance @ torch.linalg.inv(covariance + sigma[i] ** 2 * one)
        expected = (shrink @ x[i].flatten()).view(4, d)
        torch.testing.assert_close(prior.denoise_sigma(x, sigma)[i], expected, **exact)
        torch.testing.assert_close(prior.denoise_sigma(x, sigma[i].item())[i], expected, **exact)
    abar = prior.schedule.abar(300)
    gain = abar**0.5 * covariance @ torch.linalg.inv(abar * covariance + (1 - abar) * one)
    torch.testing.assert_close(prior.denoise(x, 300).flatten(1), x.flatten(1) @ gain.T, **exact)

    problem = separation(Handle(prior), x, std)
    posterior = prior.posterior(problem)
    evidence = A @ covariance @ A.T + std**2 * torch.eye(d, dtype=torch.float64)
    gain = covariance @ A.T @ torch.linalg.inv(evidence)
    torch.testing.assert_close(posterior.mean.flatten(1), problem.y.flatten(1) @ gain.T, **exact)
    expected = torch.trace(covariance - gain @ A @ covariance)
    torch.testing.assert_close(posterior.trace_cov, expected.expand(3), **exact)
    expected = MultivariateNormal(torch.zeros(d, dtype=torch.float64), evidence).log_prob(problem.y.flatten(1))
    torch.testing.assert_close(posterior.log_evidence, expected, **exact)
    torch.testing.assert_close(Wiener().sample(problem, prior, None), posterior.mean)


@pytest.mark.parametrize("kind", ["stationary", "time_varying"])
def test_posterior_samples_have_its_mean_and_covariance(kind):
    prior, covariances = small_prior(kind)
    d, std, n = 16, 0.2, 4000
    A, covariance = torch.eye(d, dtype=torch.float64).repeat(1, 4), torch.block_diag(*covariances)
    problem = separation(Handle(prior), prior.sample(1, torch.Generator().manual_seed(1)), std)
    samples = draw(ExactPosterior, problem, Handle(prior), n)[0].flatten(1)
    gain = covariance @ A.T @ torch.linalg.inv(A @ covariance @ A.T + std**2 * torch.eye(d, dtype=torch.float64))
    expected = covariance - gain @ A @ covariance
    # the squared norm of the mean's error averages tr P / n, that of the covariance's (tr P^2 + (tr P)^2) / n
    trace, square = torch.trace(expected), expected.square().sum()
    error = (samples.mean(0) - prior.posterior(problem).mean.flatten()).norm()
    assert error < 1.5 * (trace / n) ** 0.5
    assert (samples.T.cov() - expected).norm() < 1.5 * ((square + trace**2) / n) ** 0.5


def test_expected_scores_of_the_wiener_filter_and_of_samples():
    """SI-SDR from the share q of a stem's energy that the posterior mean explains; 32 draws agree within 0.2 dB."""
    length = 8192
    density = music_density(length).sqrt() * 1e-2 + 1e-5  # smoother, so that 32 draws suffice
    prior = Stationary(density, length, sigma_max=20.0)
    x = prior.sample(32, torch.Generator().manual_seed(0))
    problem = separation(Handle(prior), x)
    posterior = prior.posterior(problem)
    energy = (prior.multiplicity * prior.variance).sum(1)
    q = (prior.multiplicity * prior.variance * posterior.gain).sum(1) / energy
    draws = draw(ExactPosterior, problem, Handle(prior), 4)
    mixture = problem.y.expand_as(x)
    for estimate, ratio in (
        (posterior.mean, q / (1 - q)),
        (draws[:, 0], q**2 / (1 - q**2)),
        (draws.mean(1), q**2 / (q + (1 - q) / 4 - q**2)),
        (mixture, energy / (energy.sum() - energy)),
    ):
        torch.testing.assert_close(si_sdr(estimate, x).mean(0), 10 * ratio.log10(), rtol=0, atol=0.2)


def test_schedule_is_the_one_of_the_mgdm_paper():
    schedule = Prior("slakh_gaussian", (("length", 1024),)).load().schedule
    sigma = schedule.sigma(torch.arange(1, 1001))
    ends = 5e-4 ** (1 / 3), 20 ** (1 / 3)
    torch.testing.assert_close(sigma, torch.linspace(*ends, 1000, dtype=torch.float64) ** 3, rtol=1e-6, atol=0)
    assert [int((sigma < level).sum()) + 1 for level in (0.2, 1.0, 3.0)] == [193, 351, 518]
    assert Prior("slakh_gaussian", (("length", 1024), ("sigma_max", 3.0))).load().schedule.sigma(1000) == pytest.approx(
        3
    )


def test_embedded_prior_has_the_levels_of_the_stems_outside_the_excerpt():
    prior = Prior("slakh_gaussian", (("length", 2**18),)).load()
    rms = ((prior.multiplicity * prior.variance).sum(1) / 2**18).sqrt()
    np.testing.assert_allclose(rms, [0.0440, 0.0533, 0.0407, 0.0314], atol=1e-4)


def test_time_varying_draws_have_rests():
    prior = Prior("slakh_mdct", (("length", 2**18),)).load()
    x = prior.sample(1, torch.Generator().manual_seed(0))[0]
    active = torch.stack([is_active(x[:, first:last]) for first, last in scored_windows(2**18)])
    assert active.any(0).all() and not active.all()
    with pytest.raises(ValueError, match="multiple of 512"):
        Prior("slakh_mdct", (("length", 1000),)).load()


# The scores


def test_si_sdr_is_the_one_of_torchmetrics():
    _, x = music(4096, 3)
    estimate = x + 0.02 * torch.randn(x.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    expected = scale_invariant_signal_distortion_ratio(estimate, x)
    torch.testing.assert_close(si_sdr(estimate, x), expected, rtol=0, atol=1e-3)


def test_windows_and_silence():
    assert scored_windows(262_144)[-1] == (176_400, 262_144) and len(scored_windows(262_144)) == 5
    assert scored_windows(88_200) == [(0, 88_200)] and scored_windows(88_201)[-1] == (44_100, 88_201)
    assert scored_windows(8192) == [(0, 8192)]
    constant = torch.ones(88_200, dtype=torch.float64)
    assert is_active(4.46e-3 * constant) and not is_active(4.45e-3 * constant)


def test_windows_with_one_stem_are_left_out_and_silent_stems_count():
    generator = torch.Generator().manual_seed(0)
    x = 0.05 * torch.randn(4, 176_400, generator=generator, dtype=torch.float64)
    x[1:, :88_200] = 0  # in the first of three windows the bass is alone
    x[3] = 0
    estimate = x + 0.01 * torch.randn(2, *x.shape, generator=generator, dtype=torch.float64)
    gains, active = si_sdri(estimate, x)
    assert gains.shape == (2, 2, 4) and active.tolist() == [[True, True, True, False]] * 2
    # a silent stem scores the ratio of the energies of the mixture and of the estimate
    expected = 10 * (x[:, 88_200:].sum(0).square().sum() / estimate[:, 3, 88_200:].square().sum(1)).log10()
    torch.testing.assert_close(gains[:, 1, 3], expected, rtol=0, atol=0.01)
    assert torch.isnan(METRICS["si_sdri_all"].score(estimate, x[:1].new_zeros(4, 176_400))).all()
    active_score = METRICS["si_sdri_active"].score(estimate, x)
    torch.testing.assert_close(active_score, gains[..., :3].mean((1, 2)))


def test_baselines():
    handle, x = music(8192, 2)
    problem = separation(handle, x)
    mixture, silence = (draw(solver, problem, handle, 1) for solver in (Unseparated, Silence))
    assert score(mixture, x) == pytest.approx(0, abs=1e-4)
    assert score(mixture / 4, x) == pytest.approx(0, abs=1e-4)
    before = np.mean([si_sdr(problem.y[i], x[i]).mean() for i in range(2)])
    assert score(silence, x) == pytest.approx(-before, abs=1e-3) and 4 < -before < 6
    assert score(silence, x, "data_consistency_db") == pytest.approx(0, abs=1e-9)
    assert score(x[:, None], x, "data_consistency_db") == -200
    assert score(mixture, x, "data_consistency_db") == pytest.approx(20 * np.log10(3))


# What a user has


def write(path, samples, rate=SAMPLE_RATE):
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, samples, rate, subtype="PCM_16")


def tone(frequency, seconds=0.5, rate=SAMPLE_RATE):
    return 0.1 * np.sin(2 * np.pi * frequency * np.arange(int(seconds * rate)) / rate)


INSTRUMENTS = {
    "S00": {"inst_class": "Bass", "is_drum": False, "audio_rendered": False},
    "S01": {"inst_class": "Guitar", "is_drum": False, "audio_rendered": True},
    "S02": {"inst_class": "Guitar", "is_drum": False, "audio_rendered": True},
    "S03": {"inst_class": "Strings (continued)", "is_drum": False, "audio_rendered": True},
    "S04": {"inst_class": "Drums", "is_drum": True, "audio_rendered": True},
    "S05": {"inst_class": "Piano", "is_drum": False, "audio_rendered": False},
}


@pytest.fixture()
def trees(tmp_path, monkeypatch):
    """A folder with a track in each layout: 44.1 kHz FLAC files per instrument, and 22.05 kHz WAV files per stem."""
    published = tmp_path / "test" / "Track01900"
    for number, name in enumerate(list(INSTRUMENTS)[:-1]):  # S05 was not rendered and has no file
        write(published / "stems" / f"{name}.flac", tone(200 * (number + 1), rate=44_100), 44_100)
    (published / "metadata.yaml").write_text(yaml.safe_dump({"UUID": "x", "stems": INSTRUMENTS}))
    for number, stem in enumerate(STEMS):
        write(tmp_path / "Track01902" / f"{stem}.wav", tone(200 * (number + 1)))
    monkeypatch.setenv("SLAKH2100_PATH", str(tmp_path))
    return tmp_path


def test_the_published_layout_is_merged_and_resampled(trees):
    stems = slakh.read_stems(trees / "test" / "Track01900")
    expected = np.stack([tone(200), tone(1000), tone(400) + tone(600), 0 * tone(200)])
    assert stems.shape == expected.shape and stems.dtype == torch.float32
    middle = slice(1000, -1000)  # the ends of a tone are edges
    np.testing.assert_allclose(stems[:, middle], expected[:, middle], atol=2e-4)


def test_the_four_wav_layout(trees):
    track = trees / "Track01902"
    expected = np.stack([tone(200 * (k + 1)) for k in range(4)])
    np.testing.assert_allclose(slakh.read_stems(track), expected, atol=2**-15)
    write(track / "drums.wav", tone(400, 0.45))  # 0.05 s shorter: all are cut
    (track / "piano.wav").unlink()  # silence
    stems = slakh.read_stems(track)
    assert stems.shape == (4, int(0.45 * SAMPLE_RATE)) and (stems[3] == 0).all() and (stems[0] != 0).any()


def break_missing(folder):
    for stem in STEMS:
        (folder / f"{stem}.wav").unlink()


def break_flac(folder):
    break_missing(folder)
    path = folder / "stems" / "S00.flac"
    write(path, tone(200, rate=44_100), 44_100)
    path.write_bytes(path.read_bytes()[:2000])
    (folder / "metadata.yaml").write_text(yaml.safe_dump({"stems": {"S00": INSTRUMENTS["S00"]}}))


@pytest.mark.parametrize(
    "damage, message",
    [
        (break_missing, "none of the four stems"),
        (lambda folder: write(folder / "bass.wav", tone(200, 0.3)), "0.2 s longer than bass.wav"),
        (lambda folder: write(folder / "bass.wav", np.stack([tone(200)] * 2, 1)), "bass.wav has 2 channels"),
        (lambda folder: write(folder / "bass.wav", tone(200)[:0]), "bass.wav is empty"),
        (
            lambda folder: soundfile.write(folder / "bass.wav", [0.0] * 2205 + [np.nan], 22_050, subtype="FLOAT"),
            "bass.wav has samples that are no finite numbers, first at 0.100 s",
        ),
        (lambda folder: write(folder / "bass.wav", tone(200), 16_000), "bass.wav has 16000 samples per second"),
        (lambda folder: (folder / "bass.wav").write_bytes(b"RIFF1234"), "bass.wav cannot be decoded"),
        (break_flac, r"S00.flac (cannot be decoded|is cut off)"),
        (lambda folder: (folder / "metadata.yaml").write_text("{"), "metadata.yaml.* does not list"),
        (
            lambda folder: (folder / "metadata.yaml").write_text(yaml.safe_dump({"stems": INSTRUMENTS})),
            r"lists S01 \(guitar\), but there is no",
        ),
    ],
)
def test_bad_tracks_are_refused(trees, damage, message):
    damage(trees / "Track01902")
    with pytest.raises(ValueError, match=message):
        slakh.read_stems(trees / "Track01902")


def test_tracks_and_chunks_of_the_dataset(trees):
    data = Dataset.get_instance(tracks="1899-1902", chunk_length=2048).get_data()
    assert data["x_true"].shape == (10, 4, 2048) and data["files"] == ("Track01900", "Track01902")
    assert data["images"] == (*range(1_900_000, 1_900_005), *range(1_902_000, 1_902_005))
    assert data["groups"] == (list(range(5)), list(range(5, 10)))
    data = Dataset.get_instance(tracks=1902, chunk_length=2048, chunks="3-9").get_data()
    assert data["images"] == (1_902_003, 1_902_004)
    expected = slakh.read_stems(trees / "Track01902")[:, 3 * 2048 : 4 * 2048]
    assert torch.equal(data["x_true"][0], expected)


@pytest.mark.parametrize(
    "parameters, message",
    [
        ({"tracks": "1-2"}, "has none of Track00001 to Track00002"),
        ({"tracks": "all"}, "tracks must be a number or a range"),
        ({"tracks": 1902}, "Track01902 has 0 chunks of 262144 samples"),
        ({"chunk_length": 2048, "chunks": 200}, "has 128 chunks of 2048 samples, but chunks 200 to 200"),
        ({"prior": "faces64"}, "faces64 is no prior of four stems"),
        ({"chunk_length": 0}, "chunk_length must be a whole number of 1 or more, got 0"),
        ({"sigma_max": 0.0001}, "sigma_max must be above 0.0005, got 0.0001"),
        ({"prior": "slakh_msdm", "chunk_length": 10_000}, "multiple of 8192"),
    ],
)
def test_bad_parameters_get_a_clear_error(trees, parameters, message):
    with pytest.raises(ValueError, match=message):
        Dataset.get_instance(**parameters).get_data()


def test_missing_files_are_named(monkeypatch, tmp_path):
    monkeypatch.setenv("SLAKH2100_PATH", str(tmp_path / "nowhere"))
    assert "SLAKH2100_PATH" in Dataset.get_instance(tracks=1900).get_data()["missing"]
    assert "SLAKH_MSDM_PATH" in Dataset.get_instance(prior="slakh_msdm").get_data()["missing"]
    monkeypatch.setenv("SLAKH_ISDM_PATH", str(tmp_path))
    assert "bass.ckpt" in Dataset.get_instance(prior="slakh_isdm").get_data()["missing"]
    monkeypatch.setattr(slakh_msdm, "VERSIONS", ("0.0.0",))
    missing = Dataset.get_instance(prior="slakh_msdm").get_data()["missing"]
    assert "pip install '.[audio]' -c constraints.txt" in missing


# The networks of MSDM

TINY = slakh_msdm.ARCHITECTURE | {
    "channels": 16,
    "patch_factor": 4,
    "multipliers": (1, 2, 2),
    "factors": (4, 2),
    "num_blocks": (1, 1),
    "attentions": (False, True),
    "attention_heads": 2,
    "attention_features": 8,
}


def write_checkpoint(path, n_stems, architecture):
    """A checkpoint in the layout of MSDM's training code with random weights; returns the model."""
    from audio_diffusion_pytorch import AudioDiffusionModel, LogNormalDistribution

    training = {
        "diffusion_sigma_distribution": LogNormalDistribution(-3.0, 1.0),
        "diffusion_sigma_data": 0.2,
        "diffusion_dynamic_threshold": 0.0,
    }
    model = AudioDiffusionModel(in_channels=n_stems, **architecture, **training)
    state = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    torch.save({"epoch": 419, "state_dict": state, "hyper_parameters": {"learning_rate": 1e-4, **training}}, path)
    return model


@pytest.mark.parametrize("joint", [True, False])
def test_networks_are_read_and_preconditioned_as_they_were_trained(joint, tmp_path, monkeypatch):
    torch.manual_seed(0)
    names, n_stems = (["joint"], 4) if joint else (STEMS, 1)
    models = [write_checkpoint(tmp_path / f"{name}.ckpt", n_stems, TINY) for name in names]
    weights = slakh_msdm.WEIGHTS["slakh_msdm" if joint else "slakh_isdm"]
    monkeypatch.setenv(f"{weights.name.upper()}_PATH", str(tmp_path / "joint.ckpt" if joint else tmp_path))
    prior = weights.load(256, 20.0, "cpu", TINY)
    for network, model in zip(prior.networks, models, strict=True):
        state = network.state_dict()
        assert state.keys() == model.unet.state_dict().keys()
        assert all(torch.equal(state[name], tensor) for name, tensor in model.unet.state_dict().items())
    x, sigma = torch.randn(2, 4, 256), torch.tensor([0.05, 0.9])
    parts = zip(models, x.chunk(len(models), 1), strict=True)
    with torch.no_grad():
        expected = torch.cat([model.diffusion.denoise_fn(part, sigmas=sigma) for model, part in parts], 1)
    torch.testing.assert_close(prior.denoise_sigma(x, sigma), expected, rtol=0, atol=1e-6)
    assert prior.denoise(x, 5).shape == x.shape
    x.requires_grad_()
    (gradient,) = torch.autograd.grad(prior.denoise(x, 300).sum(), x)
    assert gradient.isfinite().all() and (gradient != 0).any()


def test_wrong_checkpoints_are_refused(tmp_path, monkeypatch):
    path = tmp_path / "joint.ckpt"
    monkeypatch.setenv("SLAKH_MSDM_PATH", str(path))
    weights = slakh_msdm.WEIGHTS["slakh_msdm"]
    write_checkpoint(path, 1, TINY)
    with pytest.raises(ValueError, match="does not hold a network of MSDM for 4 stems"):
        weights.load(256, 20.0, "cpu", TINY)
    model = write_checkpoint(path, 4, TINY)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match="cannot be read as a torch checkpoint"):
        weights.load(256, 20.0, "cpu", TINY)
    torch.save(model, path)  # a whole module would run code
    with pytest.raises(ValueError, match="cannot be read as a torch checkpoint"):
        weights.load(256, 20.0, "cpu", TINY)
    torch.save(model.state_dict(), path)
    with pytest.raises(ValueError, match="has no `state_dict`"):
        weights.load(256, 20.0, "cpu", TINY)
    torch.save({"state_dict": {"model.weight": torch.ones(1)}}, path)
    with pytest.raises(ValueError, match="has no tensors model.unet"):
        weights.load(256, 20.0, "cpu", TINY)


# The samplers
SLOW = pytest.mark.slow


WINDOWS = [  # solver, its parameters, SI-SDRi and ``||x - E[x | y]||^2 / tr P`` as measured
    ("exact_posterior", {}, 6.3, 1.0),
    ("msdm", {}, 6.3, 1.0),
    ("msdm", {"likelihood": "gaussian", "churn": 40.0}, 6.3, 1.0),
    ("ddnm", {}, 7.3, 0.74),
    ("pgdm", {}, 6.7, 0.92),
    ("dps", {}, 4.4, 2.1),  # steps of one length, whatever the signal's, are too long for so short a signal
    ("mpgd", {"scale": 0.35}, 6.1, 1.04),  # steps of one length again: 4 for 2^18 samples is 0.35 for 2^11
    ("mgdm", {"n_gibbs": 1}, 6.1, 1.2),
    ("ddrm", {}, 4.2, 1.6),  # 20 steps
    ("dmps", {}, 3.5, 1.7),  # its guidance takes the prior for flat
    ("mmps", {}, 7.1, 0.8),
    ("sitcom", {}, 7.6, 0.64),
    *(
        pytest.param(*case, marks=SLOW)
        for case in (
            ("mgdm", {}, 6.5, 1.1),
            ("mgdm", {"n_gibbs": 1, "gradient_steps": (90, 90)}, 6.5, 1.2),
            ("diffpir", {}, 7.6, 0.47),
            ("reddiff", {}, 8.4, 0.35),
            ("pnp_dm", {}, 7.0, 0.85),
            ("daps", {}, 5.9, 1.1),
            ("mgps", {}, 7.0, 0.89),
            ("dcps", {}, 7.4, 0.82),
            ("fps_smc", {}, 6.7, 0.63),
            ("tds", {}, 5.1, 1.2),
        )
    ),
]
WITHOUT_WINDOW = {
    "unseparated": "a baseline, test_baselines",
    "silence": "a baseline, test_baselines",
    "pseudo_inverse": "a baseline, a quarter of the mixture",
    "wiener": "the posterior mean itself, test_denoiser_and_posterior_are_dense_algebra",
    "prior_sample": "does not look at y",
    "mcgdiff": "64 particles in 8192 dimensions: one is left, -0.4 dB",
    "oracle_mask": "sees the truth, test_oracle_masks_on_the_excerpt",
    "demucs": "does not look at the prior, test_demucs_keeps_four_of_its_six_stems",
    "ddsmc": "its law is in test_fingerprints_chains; 16 particles are few in 8192 dimensions",
    "n_hmc": "draws from its generator's law, test_fingerprints_chains",
    "dmplug": "an optimiser, test_fingerprints_chains",
    "enkg": "an ensemble that collapses, test_fingerprints_chains",
    "deepinv_pgdm": "is pgdm, test_other_libraries",
    "dsg": "no setting for audio; its law is in test_fingerprints_flow",
    "fast_dips": "no setting for audio; its law is in test_fingerprints_flow",
    "flow_dps": "no setting for audio; its law is in test_fingerprints_flow",
    "flower": "no setting for audio; its law is in test_fingerprints_flow",
    "jfps": "no setting for audio; its law is in test_fingerprints_flow",
    "ot_ode": "no setting for audio; its law is in test_fingerprints_flow",
    "pnp_flow": "no setting for audio; its law is in test_fingerprints_flow",
    "tmpd": "no setting for audio; its law is in test_fingerprints_flow",
    "azula_mmps": "is mmps, test_other_libraries",
    "azula_tmpd": "another library's, test_other_libraries",
    "azula_jfps": "another library's, test_other_libraries",
}


@pytest.mark.parametrize("solver, parameters, expected_score, expected_ratio", WINDOWS)
def test_samplers_on_gaussian_stems(solver, parameters, expected_score, expected_ratio):
    """SI-SDRi and variance ratio with the audio presets stay where they were, on 4 problems of 2048 samples.

    There 40 sets of exact samples score 6.3 +- 0.37 dB with ratio 1.00 +- 0.08, the posterior mean 10.2 dB: the
    windows are 3 standard deviations wide on both sides.
    """
    handle, x = music(2048, 4)
    problem = separation(handle, x)
    samples = draw(import_module(f"solvers.{solver}").Solver, problem, handle, 1, **parameters)
    posterior = handle.loaded.posterior(problem)
    ratio = ((samples[:, 0] - posterior.mean).square().sum((1, 2)) / posterior.trace_cov).mean().item()
    assert score(samples, x) == pytest.approx(expected_score, abs=1.1)
    assert ratio == pytest.approx(expected_ratio, rel=0.25)


def test_every_solver_that_separates_has_a_window_or_a_reason():
    handle, x = music(2048, 1)
    problem = separation(handle, x)
    with_window = {getattr(case, "values", case)[0] for case in WINDOWS}
    for name in SOLVERS:
        Solver = import_module(f"solvers.{name}").Solver
        skipped, _ = Solver.get_instance().skip(problem=problem, prior=handle)
        # demucs is skipped where its package is missing
        applies = not skipped or "separation" in Solver.needs
        assert applies == ((name in with_window) != (name in WITHOUT_WINDOW)), name


def test_msdm_dirac_scores_as_exact_samples():
    """Within 1 dB; the difference of two means over 16 samples has a standard deviation of 0.26 dB."""
    handle, x = music(2048, 4)
    problem = separation(handle, x)
    found = {}
    for solver in (MSDM, ExactPosterior):
        samples = draw(solver, problem, handle, 4)
        found[solver] = np.mean([score(samples[:, k : k + 1], x) for k in range(4)])
    assert found[MSDM] == pytest.approx(found[ExactPosterior], abs=1)


def confusion(samples, truth):
    """SI-SDR (4 estimates, 4 true stems) of samples (4, length)."""
    return torch.stack([si_sdr(sample.double().expand_as(truth), truth.double()) for sample in samples])


def closest_to_own(table, axis):
    """Whether along an axis of a confusion matrix (estimates, true stems) the largest numbers are on the diagonal."""
    return table.argmax(axis).tolist() == [0, 1, 2, 3]


def test_msdm_dirac_keeps_the_sum_and_is_refused_elsewhere():
    handle, x = music(2048, 2)
    problem = separation(handle, x)
    samples = draw(MSDM, problem, handle, 1)
    assert problem.residual(samples[:, 0]).square().mean().sqrt() < 2e-4  # the last noise level is 1e-4
    with pytest.raises(ValueError, match="likelihood must be"):
        draw(MSDM, problem, handle, 1, likelihood="laplace")
    for name, value in {"n_steps": 0, "n_rounds": 0, "source": 4}.items():
        with pytest.raises(ValueError, match=f"msdm: {name} must be .*, got {value}"):
            draw(MSDM, problem, handle, 1, **{name: value})
    skipped, reason = MSDM.get_instance().skip(problem_of_an_image(problem), handle)
    assert skipped and "separation" in reason


def problem_of_an_image(problem):
    return replace(problem, task="denoising", capabilities=problem.capabilities - {"separation"})


# The dataset and the objective together


def objective_of(n_samples=None, **parameters):
    """The objective after it has drawn y for the dataset."""
    objective = Objective.get_instance(n_samples=n_samples)
    objective.get_seed = lambda **_: 0
    objective.set_data(**Dataset.get_instance(**parameters).get_data())
    return objective


def rows(objective, solver, **parameters):
    solver = solver.get_instance(**parameters)
    solver.set_objective(**objective.get_objective())
    solver.run(None)
    return objective.evaluate_result(**solver.get_result())


def test_chunks_of_a_track_are_scored_together():
    objective = objective_of(n_samples=2, chunk_length=65_536)
    truth = slakh.read_excerpt()
    assert torch.equal(torch.cat(list(objective.x_true), 1), truth)
    assert torch.equal(objective.problem.y, objective.x_true.double().sum(1, keepdim=True))
    (row,) = rows(objective, ExactPosterior)
    posterior = Prior("slakh_gaussian", (("length", 65_536), ("sigma_max", 20.0))).load().posterior(objective.problem)
    mean = torch.cat(list(posterior.mean), 1)
    (wiener,) = rows(objective, Wiener)
    assert wiener["si_sdri_all"] == pytest.approx(METRICS["si_sdri_all"].score(mean[None], truth).item(), abs=1e-6)
    stems = [wiener[f"si_sdri_{stem}"] for stem in STEMS]
    assert wiener["si_sdri_all"] == pytest.approx(np.mean(stems)) and wiener["mean_error"] < 1e-6
    assert row["file"] == "Track02098" and row["image"] == 2_098_000 and row["headline"] == "si_sdri_all"
    assert row["si_sdri_all"] < row["si_sdri_mean"] < wiener["si_sdri_all"]
    assert row["variance_ratio"] == pytest.approx(1, abs=0.2)


def test_columns_of_a_separation():
    objective = objective_of(n_samples=2, chunk_length=16_384, chunks="9-10")
    (row,) = rows(objective, DPS, n_steps=3)
    scores = ["si_sdri_all", *(f"si_sdri_{stem}" for stem in STEMS), "si_sdri_active", "data_consistency_db"]
    assert list(row)[:7] == scores and np.isfinite([row[name] for name in [*scores, "si_sdri_mean"]]).all()
    assert row["nfe"] == 3 and row["vjp"] == 3 and row["seconds_per_image"] > 0 and "peak_memory_gb" in row
    assert row["si_sdri_all"] == pytest.approx(np.mean([row[f"si_sdri_{stem}"] for stem in STEMS]))
    assert "oracle" not in row


def test_draws_of_the_time_varying_prior_are_separated_as_well_as_it_says():
    objective = objective_of(tracks="prior", prior="slakh_mdct", chunk_length=32_768, chunks="0-3")
    assert objective.x_true.shape == (4, 4, 32_768) and len(objective.groups) == 4
    prior = Prior("slakh_mdct", (("length", 32_768), ("sigma_max", 20.0))).load()
    posterior = prior.posterior(objective.problem)
    error = (posterior.mean - objective.x_true).square().sum((1, 2)) / posterior.trace_cov
    # P = diag V - V V^T / V_y per coefficient, and a squared Gaussian error of covariance P has variance 2 tr P^2
    total = prior.variance.sum(0) + 1e-8
    first, second = prior.variance.square().sum(0), (prior.variance**3).sum(0)
    square = (first - 2 * second / total + (first / total) ** 2).sum()
    deviation = ((2 * square).sqrt() / posterior.trace_cov[0] / 4**0.5).item()
    assert deviation < 0.15 and error.mean().item() == pytest.approx(1, abs=3 * deviation)
    wiener = [row["si_sdri_all"] for row in rows(objective, Wiener)]
    assert np.mean(wiener) > np.mean([row["si_sdri_all"] for row in rows(objective, ExactPosterior)]) + 2


def test_real_music_is_separated():
    """0.7 s of the excerpt, short versions of the samplers: the Wiener filter is the best, all beat the mixture.

    The stems can be told apart: each true stem is closer to its own estimate than to the other three, and each
    estimate of the filter to its own true stem (a sample of the guitar in so short a piece is not).
    """
    objective = objective_of(chunk_length=16_384, chunks=9)
    found = {}
    for solver, parameters in (
        (Wiener, {}),
        (ExactPosterior, {}),
        (MGDM, {"n_gibbs": 1}),
        (DPS, {"n_steps": 300}),
        (DDNM, {"n_steps": 200}),
        (MSDM, {"n_steps": 60}),
        (Unseparated, {}),
    ):
        instance = solver.get_instance(**parameters)
        instance.set_objective(**objective.get_objective())
        instance.run(None)
        result = instance.get_result()
        found[solver.name] = objective.evaluate_result(**result)[0]["si_sdri_all"]
        table = confusion(result["samples"][0, 0], objective.x_true[0])
        assert solver is Unseparated or closest_to_own(table, 0), (solver.name, table)
        assert solver is not Wiener or closest_to_own(table, 1), table
    assert max(found, key=found.get) == "wiener" and min(found, key=found.get) == "unseparated", found
    for name in ("mgdm", "dps", "ddnm", "msdm"):
        assert found[name] > 0.5, found


def test_oracle_masks_on_the_excerpt():
    """The masks score as those of another implementation did (13.2 and 13.9 dB), and their rows are marked.

    So do the two trivial baselines on this excerpt: 0 and 4.4 dB.
    """
    objective = objective_of()
    for solver, parameters, expected in (
        (OracleMask, {"power": 1}, 13.2),
        (OracleMask, {"power": 2}, 13.9),
        (Unseparated, {}, 0.0),
        (Silence, {}, 4.4),
    ):
        (row,) = rows(objective, solver, **parameters)
        assert row["si_sdri_all"] == pytest.approx(expected, abs=0.06)
        assert ("oracle" in row) == (solver is OracleMask)


class ReadsTheTruth(Unseparated):
    """A cheat: its samples are the truth."""

    def get_result(self):
        return super().get_result() | {"oracle": lambda samples, truth: truth}


def test_the_truth_stays_with_the_objective():
    objective = objective_of(chunk_length=8192, chunks=18)
    given = cloudpickle.dumps(objective.get_objective())
    assert objective.problem.y.numpy().tobytes() in given
    for truth in (objective.x_true, objective.x_true.double()):
        assert all(stem.numpy().tobytes() not in given for stem in truth[0])
    (row,) = rows(objective, ReadsTheTruth)
    assert row["si_sdri_all"] > 60 and row["oracle"] == "sees the truth"


DEMUCS = """
import torch
class Separator:
    samplerate, audio_channels = 44_100, 2
    def __init__(self, model="htdemucs", repo=None, device="cpu", shifts=1, overlap=0.25, split=True, segment=None,
                 jobs=0, progress=False, callback=None, callback_arg=None):
        if model == "hf://nobody":
            raise OSError("no connection")
        assert shifts == 0  # others draw from a generator that no seed of the benchmark sets
        sources = ["drums", "bass", "other", "vocals"] + ["guitar", "piano"] * model.endswith("_6s")
        self.model = type("Bag", (), {"sources": sources})
    def separate_tensor(self, wav, sr=None):
        assert wav.dtype == torch.float32 and wav.ndim == 2 and len(wav) == 2
        both = torch.tensor([[0.5], [1.5]])
        return wav, {source: k * both * wav for k, source in enumerate(self.model.sources)}
"""


@pytest.fixture()
def demucs_package(tmp_path, monkeypatch):
    """A package with the programming interface of demucs 4.1, whose k-th stem is k times the mixture."""
    (tmp_path / "demucs").mkdir()
    (tmp_path / "demucs" / "__init__.py").touch()
    (tmp_path / "demucs" / "api.py").write_text(DEMUCS)
    for name in ("demucs", "demucs.api"):
        monkeypatch.setitem(sys.modules, name, None)  # restored afterwards
        del sys.modules[name]
    monkeypatch.syspath_prepend(tmp_path)


def test_demucs_keeps_four_of_its_six_stems(demucs_package):
    handle, _ = music(8192, 1)
    problem = separation(handle, torch.from_numpy(tone(440, 8192 / SAMPLE_RATE)).expand(2, 4, -1) / 4)
    assert not Demucs.get_instance().skip(problem=problem, prior=handle)[0]
    samples = draw(Demucs, problem, handle, 2)
    assert samples.shape == (2, 2, 4, 8192) and torch.equal(samples[:, 0], samples[:, 1])
    expected = problem.y * torch.tensor([1.0, 0.0, 4.0, 5.0], dtype=torch.float64)[:, None]
    middle = slice(1000, -1000)  # the ends of a tone are edges
    torch.testing.assert_close(samples[:, 0, :, middle], expected[..., middle], rtol=0, atol=1e-4)
    with pytest.raises(ValueError, match="htdemucs has no stem guitar, piano; use htdemucs_6s"):
        draw(Demucs, problem, handle, 1, model="htdemucs")
    with pytest.raises(FileNotFoundError, match="could not fetch the weights of nobody: no connection"):
        draw(Demucs, problem, handle, 1, model="nobody")


def test_demucs_notes_what_it_fails_with_and_names_its_network(demucs_package, tmp_path):
    handle, x = music(8192, 1)
    problem, solver = separation(handle, x), Demucs.get_instance(model="nobody")
    solver._run_context = RunContext(
        run_output_base=tmp_path / "run", dataset_name="d", objective_name="o", solver_name="s", repetition=0
    )
    with pytest.raises(FileNotFoundError):
        solver.set_objective(problem, handle, 1, 0)
    assert "could not fetch the weights of nobody" in last_attempt(tmp_path, ("d", "o", "s", 0))
    solver = Demucs.get_instance()
    solver.set_objective(problem, handle, 1, 0)
    solver.run(None)
    assert solver.get_result()["provenance"]["weights"].endswith(", demucs htdemucs_6s")


def test_demucs_is_skipped_without_its_package(monkeypatch):
    handle, x = music(2048, 1)
    problem = separation(handle, x)
    monkeypatch.setattr("solvers.demucs.has_demucs", lambda: False)
    skipped, reason = Demucs.get_instance().skip(problem=problem, prior=handle)
    assert skipped and "pip install 'demucs>=4.1'" in reason
    skipped, reason = Demucs.get_instance().skip(problem=problem_of_an_image(problem), prior=handle)
    assert skipped and "separation" in reason


def test_demucs_of_the_package(monkeypatch):
    """A small network of random weights through the package's own code."""
    api = pytest.importorskip("demucs.api", reason="the optional package demucs is not installed")
    from demucs.apply import BagOfModels
    from demucs.htdemucs import HTDemucs

    torch.manual_seed(0)
    sources = ["drums", "bass", "other", "vocals", "guitar", "piano"]
    network = HTDemucs(sources, channels=16, t_layers=1, t_heads=2, bottom_channels=0, segment=1, samplerate=44_100)
    monkeypatch.setattr(api, "get_model", lambda name, repo=None: BagOfModels([network]))
    handle, x = music(32_768, 1)
    samples = draw(Demucs, separation(handle, x), handle, 1)
    assert samples.shape == (1, 1, 4, 32_768) and samples.isfinite().all()
    assert torch.equal(samples, draw(Demucs, separation(handle, x), handle, 1))


@SLOW
def test_paper_config_lists_the_run_matrix_without_loading_weights(copy_of_benchmark, tmp_path):
    """Nine parts of the test tracks, ten methods; one with the four single-stem networks."""
    (tmp_path / "weights").mkdir()
    for name in ("msdm", *STEMS):
        (tmp_path / "weights" / f"{name}.ckpt").touch()  # empty: whoever reads it fails
    chunk = np.zeros(2**18 + 1)
    for number in range(1876, 2101, 25):
        write(tmp_path / "test" / f"Track{number:05d}" / "bass.wav", chunk)
    environment = {"SLAKH2100_PATH": tmp_path, "SLAKH_ISDM_PATH": tmp_path / "weights"}
    environment |= {"SLAKH_MSDM_PATH": tmp_path / "weights" / "msdm.ckpt"}
    environment = {name: str(path) for name, path in environment.items()}
    for name, n_cells in (("paper_slakh", 90), ("paper_slakh_isdm", 9)):
        arguments = ["run", ".", "--config", f"configs/{name}.yml", "--collect", "--no-plot"]
        _, output = benchopt(copy_of_benchmark, *arguments, **environment)
        assert output.count("not run yet") == n_cells, output


def test_the_page_of_players(tmp_path, monkeypatch):
    objective = objective_of(chunk_length=16_384, chunks="9-10")
    frames = []
    for solver in (Wiener, Unseparated):
        instance = solver.get_instance()
        instance.set_objective(**objective.get_objective())
        instance.run(None)
        result = instance.get_result()
        (row,) = objective.evaluate_result(**result)
        row = {f"objective_{name}": value for name, value in row.items()}
        row |= {"solver_name": solver.name, "dataset_name": "slakh2100", "objective_name": "posterior", "idx_rep": 0}
        frames.append(row | {"final_results": objective.save_final_results(**result)})
    frame = pd.DataFrame(frames)
    stored = frame["final_results"][0]
    assert stored["sample"].shape == (4, 128, 257, 1) and stored["sample"].dtype == np.uint8
    truth = torch.cat(list(objective.x_true), 1)
    np.testing.assert_allclose(players.decode(stored["truth_audio"]), truth, atol=2**-15)
    grid = pictures.pictures(frame, "slakh2100")
    n_columns = pictures.n_columns(frame, "slakh2100", "reconstructions")
    assert n_columns == 4 and [picture.label for picture in grid[::4]] == [f"{stem}: truth" for stem in STEMS]

    assert grid[3].label == f"unseparated: SI-SDRi bass {frame['objective_si_sdri_bass'][1]:.3f}"
    assert pictures.title(frame, "slakh2100", "spread") == "slakh2100: no spread, which is stored of images only"

    monkeypatch.setattr(players.scores, "read_file", lambda path: frame)
    (tmp_path / "run.parquet").touch()
    main(["listen", str(tmp_path / "run.parquet")])
    page = (tmp_path / "run_listen.html").read_text()
    assert "width=device-width" in page and "<div class=wide><table>" in page  # a phone scrolls the table alone
    assert page.count("<audio") == 13 and page.index("wiener") < page.index("unseparated</td><td>0")
    wav = base64.b64decode(page.split("base64,")[2].split('"')[0])  # after the mixture: the bass
    samples, rate = soundfile.read(io.BytesIO(wav))
    assert rate == SAMPLE_RATE and len(samples) == 32_768
    assert np.corrcoef(samples, truth[0])[0, 1] > 0.9999


def test_all_players_are_of_one_track_with_its_score():
    """Shards in another order for the second solver: its sound must be of the first one's track."""
    rows = []
    for solver, tracks, gain in (("a", (1876, 1901), 1.0), ("b", (1901, 1876), 0.5)):
        for track in tracks:
            signal = torch.full((4, 4096), track / 4000)
            row = {"solver_name": solver, "dataset_name": f"slakh2100[tracks={track}-{track + 24}]", "idx_rep": 0}
            row |= {"objective_name": "posterior", "objective_headline": "si_sdri_all", "objective_task": "separation"}
            row |= {
                "objective_image": 1000 * track,
                "objective_file": f"Track0{track}",
                "final_results": store_audio(signal.sum(0, keepdim=True), signal, gain * signal),
            }
            rows.append(row | {"objective_si_sdri_all": gain * (track - 1875)})
    frame = pd.DataFrame(rows)
    page = players.task_html(frame, "slakh2100")
    assert "Track01876" in page and "Track01901" not in page
    assert "<td>a</td><td>1.000</td>" in page and "<td>b</td><td>0.500</td>" in page
    sounds = [part.split('"')[0] for part in page.split("base64,")[1:]]
    levels = [np.abs(soundfile.read(io.BytesIO(base64.b64decode(player)))[0]).max() for player in sounds]
    mixture, truth, a, b = levels[0], levels[1], levels[5], levels[9]
    np.testing.assert_allclose([mixture, a, b], [4 * truth, truth, truth / 2], rtol=1e-3)


FULL_SIZE = """
import resource, sys, torch
from benchmark_utils.priors import Prior
prior = Prior("slakh_msdm").load()
assert sum(p.numel() for p in prior.networks[0].parameters()) == 405_497_700
x = (0.05 * torch.randn(1, 4, 2**18)).requires_grad_()
(gradient,) = torch.autograd.grad(prior.denoise(x, 193).square().sum(), x)
assert gradient.isfinite().all()
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6)
"""
WRITE_FULL_SIZE = """
import sys
sys.path[:0] = ["tests", "tests/datasets", "tests/solvers"]
from test_audio import write_checkpoint
from benchmark_utils.priors.slakh_msdm import ARCHITECTURE
write_checkpoint(sys.argv[1], 4, ARCHITECTURE)
"""


@SLOW
def test_the_full_size_network_fits_in_memory(tmp_path):
    """405 million random weights in the checkpoint's layout: one chunk forward and backward within 4 GB."""
    subprocess.run([sys.executable, "-c", WRITE_FULL_SIZE, str(tmp_path / "msdm.ckpt")], cwd=ROOT, check=True)
    environment = os.environ | {"SLAKH_MSDM_PATH": str(tmp_path / "msdm.ckpt")}
    done = subprocess.run(
        [sys.executable, "-c", FULL_SIZE], cwd=ROOT, env=environment, check=True, capture_output=True, text=True
    )
    (tmp_path / "msdm.ckpt").unlink()  # 1.6 GB
    assert float(done.stdout) < 4
