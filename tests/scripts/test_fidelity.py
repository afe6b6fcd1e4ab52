"""The coupling of ``scripts.measure.fidelity``: ours takes the numbers of a made-up reference, in its order."""

import sys

import pytest
import torch

from benchmark_utils.schedule import NoiseSchedule
from scripts.measure.fidelity import Levels, Recorder, Replay, integrate, modules_of

REFERENCE = """
import torch
from plots import show

def sample(shape):
    start = torch.randn(*shape)
    index = torch.randint(3, 9, (1,))[0]
    show(start)
    return start + torch.randn_like(start) * index + torch.randn(shape)
"""


def test_ours_takes_the_numbers_of_the_reference_in_its_order(tmp_path):
    (tmp_path / "their_sampler.py").write_text(REFERENCE)
    original, modules = torch.randn, set(sys.modules)
    with modules_of(tmp_path, ["plots"]):
        from their_sampler import sample
    with Recorder().record() as recorder:
        theirs = sample((1, 4))
    assert torch.randn is original and not {"plots", "their_sampler"} & (set(sys.modules) - modules)
    assert str(tmp_path) not in sys.path
    rng = Replay(recorder.normals, recorder.integers)
    start = rng.randn(4)
    ours = start + rng.randn_like(start) * rng.shared.integers(3, 8, endpoint=True) + rng.randn(4)
    assert torch.equal(ours, theirs) and 3 <= recorder.integers[0] < 9


def test_numbers_of_another_shape_are_refused():
    with Recorder().record() as recorder:
        torch.randn(1, 4)
    with pytest.raises(AssertionError, match=r"have shape \(1, 4\), ours asks for \(5,\)"):
        Replay(recorder.normals).randn(5)


@pytest.mark.parametrize("spends", [False, True])
def test_a_move_without_noise_draws_where_theirs_does(spends):
    with Recorder().record() as recorder:
        one, two = torch.randn(1, 4), torch.randn(1, 4)
    levels, rng = Levels(NoiseSchedule.linear(), grid=[5, 0], spends=spends), Replay(recorder.normals)
    assert levels.grid(100) == [5, 0]
    levels.sample_bridge(one, two, 0, 0, 5, rng)
    assert torch.equal(rng.randn(4), two if spends else one)


def test_integrate_is_eulers_method():
    x = integrate(lambda t, x: -t * x, torch.ones(1), torch.tensor([3.0, 2.0, 0.0]))
    assert x.flatten().tolist() == [1.0, 4.0, 20.0]
