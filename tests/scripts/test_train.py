"""What made embedded priors: lagged covariances, networks as they are trained and as they are used, the loop."""

import argparse
import math
from functools import partial

import pytest
import torch
from safetensors.torch import load_file

from benchmark_utils.files.weights import Asset
from benchmark_utils.priors.ecg import ECGUNet
from benchmark_utils.priors.latent import tiny_prior
from scripts.train.ecg_gaussian import N_LAGS, lagged_covariances
from scripts.train.faces64 import warp
from scripts.train.faces64_latent import Denoiser
from scripts.train.loop import (
    add_arguments,
    denoising_loss,
    draw_sigmas,
    has_bfloat16,
    learning_rate_factor,
    train,
)


def test_lagged_covariances_are_means_over_pairs_of_samples():
    """Beside a direct sum over the pairs k samples apart; the order of the leads says which one is later."""
    records = torch.randn(3, 2, 600, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    records[:, 1, 5:] += records[:, 0, :-5].clone()  # lead 1 follows lead 0
    found = lagged_covariances(records)
    assert found.shape == (2, 2, N_LAGS) and found[1, 0, 5] > 0.8 and abs(found[0, 1, 5]) < 0.1
    for lag in (0, 1, 5, 499):
        expected = torch.zeros(2, 2, dtype=torch.float64)
        for record in records:
            for t in range(600 - lag):
                expected += torch.outer(record[:, t + lag], record[:, t])
        torch.testing.assert_close(found[..., lag], expected / (3 * (600 - lag)))


def test_untrained_network_is_the_skip_connection():
    """Its last weights start at 0, so that without bias D(x; sigma) = x / (1 + sigma^2); with others it adds."""
    network, sigma = ECGUNet(), torch.tensor([0.1, 2.0])
    x = torch.randn(2, 9, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        network.last.bias.zero_()
        torch.testing.assert_close(network(x, sigma), x / (1 + sigma.square())[:, None, None])
        torch.nn.init.normal_(network.last.weight)
        assert (network(x, sigma) - x / (1 + sigma.square())[:, None, None]).abs().amin(0).max() > 0.01
        torch.testing.assert_close(network(x[1:], sigma[1:]), network(x, sigma)[1:], rtol=1e-4, atol=1e-4)


def test_latent_network_is_trained_as_the_denoiser_that_the_prior_is():
    """At each row's level, and at the nearest one of a sigma between two."""
    prior = tiny_prior(Asset("faces64/faces64_latent.safetensors").find(), "cpu")
    denoiser = Denoiser(prior.networks[0])
    levels = torch.tensor([1, 200, 999, 1000])
    sigma = prior.schedule.sigma(levels).float()
    z = torch.randn(4, *prior.event_shape, generator=torch.Generator().manual_seed(0))
    z += sigma.view(-1, 1, 1, 1) * torch.randn(z.shape, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = prior.denoise_sigma(z, sigma)
        torch.testing.assert_close(denoiser(z, sigma), expected, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(denoiser(z, 1.0001 * sigma), expected, rtol=1e-2, atol=1e-2)


def test_network_alone_is_computed_in_bfloat16():
    """Images are changed in full precision: a grid of bfloat16 would leave jagged edges."""
    seen = []

    def denoiser(noisy, sigma):
        seen.append((noisy.dtype, torch.is_autocast_enabled("cpu")))
        return noisy

    x = torch.ones(2, 3)
    assert denoising_loss(denoiser, x, torch.ones(2), 1.0, torch.Generator().manual_seed(0)).dtype == torch.float32
    assert seen == [(torch.float32, has_bfloat16("cpu"))] and not torch.is_autocast_enabled("cpu")


class Scale(torch.nn.Module):
    """D(x; sigma) = scale x."""

    def __init__(self):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.zeros(1))

    def forward(self, x, sigma):
        return self.scale * x


def test_training_resumes_where_it_stopped(tmp_path, capsys):
    """A second run goes on from the examples and the weights of the first; one without time left changes nothing."""
    parser = argparse.ArgumentParser()
    add_arguments(parser, tmp_path, minutes=0.005, cool_down=0, batch_size=4, evaluate_every=20)

    def loss_of_batch(denoiser, generator, target=1.0):
        return denoising_loss(denoiser, torch.full((4, 3), target), torch.ones(4), 1.0, generator)

    def run(minutes, loss_of_batch=loss_of_batch, options=()):
        args = parser.parse_args(["--minutes", str(minutes), "--device", "cpu", *options])
        train(Scale(), loss_of_batch, lambda network: None, "scale", args, False)
        return torch.load(tmp_path / "checkpoint.pt"), load_file(tmp_path / "scale.safetensors")["scale"]

    first, weights = run(0.005)
    assert first["seen"] > 0 and first["network"]["scale"] > 0
    assert weights == first["average"]["scale"].half() and first["average"] != first["network"]
    same, _ = run(0.0)
    for part in ("seen", "network", "average", "optimiser", "start"):
        assert same[part] == first[part], part
    assert f"resuming after {first['seen']} examples" in capsys.readouterr().out
    second, _ = run(first["seconds"] / 60 + 0.01)
    assert second["seen"] > first["seen"] and second["seconds"] > first["seconds"]
    with pytest.raises(ValueError, match="is of a run with another --start"):
        run(100, options=["--start", str(tmp_path / "scale.safetensors")])

    def infinite_gradient(denoiser, generator):
        loss = loss_of_batch(denoiser, generator)
        return loss + (denoiser.scale - denoiser.scale.detach()).sqrt().sum()

    for loss in (partial(loss_of_batch, target=torch.nan), infinite_gradient):
        with pytest.raises(FloatingPointError, match="lower the learning rate"):
            run(100, loss, ["--checkpoint-every", "0"])
        assert torch.load(tmp_path / "checkpoint.pt")["network"]["scale"].isfinite()


def test_the_learning_rate_falls_at_the_end(tmp_path):
    """A cosine over the cool-down, before which the state is kept; all of the run, where that is shorter."""
    for seconds, expected in ((0, 1), (60, 1), (70, 0.75), (80, 0.25), (90, 0)):
        assert learning_rate_factor(10**6, seconds, 90, 30) == pytest.approx(expected)
    assert learning_rate_factor(4_999, 0, 90, 30) == 0.5 and learning_rate_factor(10**6, 90, 90, 0) == 1
    parser = argparse.ArgumentParser()
    add_arguments(parser, tmp_path, minutes=0.01, cool_down=0.005, batch_size=1000, evaluate_every=20)
    x = torch.ones(1000, 3)

    def loss_of_batch(denoiser, generator):
        return denoising_loss(denoiser, x, x[:, 0], 1.0, generator)

    train(Scale(), loss_of_batch, lambda network: None, "scale", parser.parse_args(["--device", "cpu"]), False)
    stable, last = (torch.load(tmp_path / f"checkpoint{end}.pt") for end in ("_stable", ""))
    assert 0.3 <= stable["seconds"] < last["seconds"] and stable["seen"] < last["seen"]
    assert last["optimiser"]["param_groups"][0]["lr"] < stable["optimiser"]["param_groups"][0]["lr"]


def test_levels_and_changes_of_the_training_images():
    """ln sigma is normal for 95 % and uniform for the rest; a warp moves by up to 3 pixels, 8 degrees and a tenth."""
    generator = torch.Generator().manual_seed(0)
    log_sigma = draw_sigmas(200_000, -0.8, 1.2, (0.002, 160.0), generator).log()
    low, high = math.log(0.002), math.log(160)
    assert log_sigma.mean() == pytest.approx(0.95 * -0.8 + 0.05 * (low + high) / 2, abs=0.02)
    second = 0.95 * (1.2**2 + 0.8**2) + 0.05 * (low**2 + low * high + high**2) / 3
    assert log_sigma.square().mean() == pytest.approx(second, rel=0.02)

    x = torch.zeros(1000, 1, 64, 64)
    x[:, :, 15:17, 31:33] = 0.25  # a dot 16 pixels above the centre
    moved = warp(x, generator)
    rows = torch.arange(64) - 31.5
    above = -(moved.sum((1, 3)) * rows).sum(1) / moved.sum((1, 2, 3))
    right = (moved.sum((1, 2)) * rows).sum(1) / moved.sum((1, 2, 3))
    assert above.mean() == pytest.approx(16, abs=0.3) and right.mean() == pytest.approx(0, abs=0.3)
    # (rotation, scale and shift) of variances 16^2 (8 deg)^2 / 3, 16^2 .1^2 / 3 and 3^2 / 3
    assert right.std() == pytest.approx((256 * (math.pi * 8 / 180) ** 2 / 3 + 3) ** 0.5, rel=0.1)
    assert above.std() == pytest.approx((256 * 0.01 / 3 + 3) ** 0.5, rel=0.1)
