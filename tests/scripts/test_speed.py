"""The run's choices of precision and compilation, transfers between host and device, and the script that measures."""

import shutil
import subprocess
import sys
import warnings
from importlib import import_module

import pytest
import torch
from diffusers.models.unets.unet_2d import UNet2DOutput
from helpers import ROOT, draw
from test_invariance import SOLVERS, suitable_problem
from test_observations import CASES as TASKS
from test_observations import observed
from torch.utils._python_dispatch import TorchDispatchMode

from benchmark_utils.checks.batches import problem_of
from benchmark_utils.checks.meta import DECIDES_BY_VALUES, NOT_OURS
from benchmark_utils.evaluate import objective_of
from benchmark_utils.operators.inpainting import inpainting
from benchmark_utils.operators.nonlinear_blur import KernelWizard, NonlinearBlur
from benchmark_utils.priors import Prior, known_priors
from benchmark_utils.priors.base import PriorSpec
from benchmark_utils.priors.networks import Network
from benchmark_utils.schedule import NoiseSchedule
from datasets.ffhq_inpainting import Dataset as Inpainting
from datasets.gaussian import Dataset as Gaussian
from objective import Objective
from solvers.ddnm import Solver as DDNM
from solvers.dps import Solver as DPS
from solvers.mmps import Solver as MMPS

N_STEPS = 6
NO_GPU = not torch.cuda.is_available()


class HostReads(TorchDispatchMode):
    """Counts the operations whose result the host waits for on a GPU: values, and shapes that depend on values."""

    WAITING = {
        torch.ops.aten._local_scalar_dense.default,  # item, float, bool, if
        torch.ops.aten.nonzero.default,
        torch.ops.aten.masked_select.default,
        torch.ops.aten._unique2.default,
        torch.ops.aten.unique_dim.default,
    }

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        by_mask = function is torch.ops.aten.index.Tensor and any(
            index is not None and index.dtype == torch.bool for index in args[1]
        )
        self.count += by_mask or function in self.WAITING
        return function(*args, **(kwargs or {}))


def host_transfers(Solver, problem, prior, n_steps, monkeypatch):
    """How often values pass between host and device, or would on a GPU, in a run of ``n_steps`` steps."""
    reads, count = HostReads(), 0

    def counted(function, is_transfer):
        def call(*args, **kwargs):
            nonlocal count
            count += is_transfer(args[0])
            return function(*args, **kwargs)

        return call

    def not_counted(function):
        def call(*args, **kwargs):
            nonlocal count
            before = count, reads.count
            result = function(*args, **kwargs)
            count, reads.count = before
            return result

        return call

    with monkeypatch.context() as patch:
        # torch's Adam counts its steps in tensors that are on the host, and reads them there
        patch.setattr(torch.optim.Adam, "step", not_counted(torch.optim.Adam.step))
        for name in ("cpu", "tolist", "numpy"):  # on a CPU these do not pass through the dispatcher
            patch.setattr(torch.Tensor, name, counted(getattr(torch.Tensor, name), lambda _: True))
        for name in ("tensor", "as_tensor", "from_numpy"):
            patch.setattr(torch, name, counted(getattr(torch, name), lambda value: not torch.is_tensor(value)))
        with reads:
            draw(Solver, problem, prior, 2, **(Solver.test_config or {}) | {"n_steps": n_steps})
    return count + reads.count


def growth(Solver, problem, prior, monkeypatch):
    """Transfers that ``N_STEPS`` more steps add; a first run may have some that are made once in a process."""
    runs = [host_transfers(Solver, problem, prior, n, monkeypatch) for n in (N_STEPS, N_STEPS, 2 * N_STEPS)]
    return runs[2] - runs[1]


@pytest.mark.parametrize("name", SOLVERS)
def test_transfers_do_not_grow_with_the_number_of_steps(name, monkeypatch):
    Solver = import_module(f"solvers.{name}").Solver
    if "n_steps" not in Solver.parameters:
        pytest.skip(f"{name} has no n_steps")
    if name in DECIDES_BY_VALUES or name in NOT_OURS:
        pytest.skip(DECIDES_BY_VALUES.get(name, "the loop is deepinv's"))
    assert growth(Solver, *suitable_problem(Solver), monkeypatch) == 0


@pytest.mark.parametrize(
    "name, parameter, value", [*TASKS, ("jpeg", "codec", "real"), ("super_resolution", "kind", "bicubic")]
)
def test_likelihood_of_an_image_task_reads_no_value_on_the_host(name, parameter, value):
    x_true, problem = observed(name, parameter, value, prior="faces64")
    problem.log_likelihood(x_true)  # what is made once
    x = x_true.requires_grad_()
    with HostReads() as reads:
        torch.autograd.grad(problem.log_likelihood(x).sum(), x)
    assert reads.count == 0 or name == "jpeg" and reads.count == 4  # kornia checks the quality, which is on the host


@pytest.mark.parametrize("name", ["faces64", "faces64_latent"])
def test_network_and_decoder_read_no_value_on_the_host(name):
    prior = Prior(name).load()
    x = torch.randn(2, *prior.event_shape, requires_grad=True)
    with HostReads() as reads:
        torch.autograd.grad(prior.encode(prior.decode(prior.denoise(x, 400))).sum(), x)
    assert reads.count == 0


def item(x):
    return x.mean().item()


def branch(x):
    return 1.0 if x.mean() > 0 else 2.0


def masked(x):
    return x[x > 0].sum()


def to_list(x):
    return x.flatten().tolist()[0]


def from_number(x):
    return torch.tensor(0.5, device=x.device)


@pytest.mark.parametrize("read", [item, branch, masked, to_list, from_number])
def test_a_transfer_in_the_loop_is_noticed(read, monkeypatch):
    class Reads(DDNM):
        def step(self, problem, schedule, rng, x_hat, x_t, t, s):
            return super().step(problem, schedule, rng, x_hat, x_t, t, s) * (1 + 1e-9 * read(x_t))

    assert growth(Reads, *suitable_problem(DDNM), monkeypatch) >= N_STEPS


@pytest.mark.skipif(NO_GPU, reason="synchronisations are counted by CUDA: needs a GPU")
@pytest.mark.parametrize("name", SOLVERS)
def test_synchronisations_do_not_grow_with_the_number_of_steps_on_cuda(name):
    Solver = import_module(f"solvers.{name}").Solver
    if "n_steps" not in Solver.parameters or name in DECIDES_BY_VALUES or name in NOT_OURS:
        pytest.skip("as on the CPU")
    problem, prior = suitable_problem(Solver)

    def synchronisations(n_steps):
        torch.cuda.set_sync_debug_mode("warn")
        try:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                draw(Solver, problem, prior, 2, **(Solver.test_config or {}) | {"n_steps": n_steps})
        finally:
            torch.cuda.set_sync_debug_mode("default")
        return sum("synchronizing" in str(warning.message) for warning in caught)

    synchronisations(N_STEPS)
    assert synchronisations(N_STEPS) == synchronisations(2 * N_STEPS)


def noisy_faces(sigma):
    generator = torch.Generator().manual_seed(0)
    return Inpainting.get_instance(mask="half", n_images=2).get_data()["x_true"] + sigma * torch.randn(
        2, 3, 64, 64, generator=generator
    )


def test_bfloat16_is_autocast_of_the_network():
    x = noisy_faces(1.0)
    plain = Prior("faces64").spec.load("cpu")
    exact = plain.denoise_sigma(x, 1.0)
    plain.precision = "bfloat16"  # autocast alone, its weights in float32
    autocast = plain.denoise_sigma(x, 1.0)
    found = Prior("faces64", precision="bfloat16").load().denoise_sigma(x, 1.0)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, autocast, rtol=0, atol=0)
    # eight bits of mantissa: an output of the network of size 1 is off by about 2^-8, here times c_out = 0.45
    assert 1e-4 < (found - exact).abs().max() < 0.05


def test_bfloat16_leaves_the_image_in_float32():
    """At a low noise level the denoised image is almost the input, which bfloat16 would round by 2e-3."""
    x = noisy_faces(0.002)
    found = Prior("faces64", precision="bfloat16").load().denoise_sigma(x, 0.002)
    assert (found - Prior("faces64").load().denoise_sigma(x, 0.002)).abs().max() < 2e-4


def test_gradient_through_bfloat16_network_is_close_to_the_exact_one():
    x = noisy_faces(1.0)

    def gradient(prior):
        x_t = x.clone().requires_grad_()
        return torch.autograd.grad(prior.denoise_sigma(x_t, 1.0).square().sum(), x_t)[0]

    exact = gradient(Prior("faces64").load())
    found = gradient(Prior("faces64", precision="bfloat16").load())
    assert found.dtype == torch.float32
    assert (found - exact).norm() < 0.1 * exact.norm()


def test_weights_are_frozen_and_channels_last():
    (network,) = Prior("faces64").load().networks
    assert not any(parameter.requires_grad for parameter in network.parameters())
    for parameter in network.parameters():
        assert parameter.ndim < 4 or parameter.is_contiguous(memory_format=torch.channels_last)


def test_unknown_precision_is_refused():
    with pytest.raises(ValueError, match="unknown precision 'bf16'; known: float32, tf32, bfloat16"):
        objective_of(Inpainting.get_instance(n_images=1), precision="bf16")


@pytest.mark.parametrize("how", [{"precision": "bfloat16"}, {"compile": True}])
def test_a_closed_form_refuses_what_is_for_networks(how):
    with pytest.raises(ValueError, match="this prior has none"):
        Prior("gaussian", **how).load()
    skipped, reason = Objective.get_instance(**how).skip(**Gaussian.get_instance().get_data())
    assert skipped and "gaussian has none" in reason


def test_float32_is_what_a_closed_form_accepts_by_name():
    skipped, _ = Objective.get_instance(precision="float32").skip(**Gaussian.get_instance().get_data())
    assert not skipped


@pytest.mark.skipif(not NO_GPU, reason="there is a GPU")
def test_tf32_without_gpu_is_refused():
    with pytest.raises(ValueError, match="tf32 is a mode of NVIDIA GPUs, this run is on cpu"):
        Prior("faces64", precision="tf32").load()


def test_tf32_is_not_for_an_operator_with_convolutions():
    operator = NonlinearBlur(KernelWizard(width=2, n_front=1, n_back=1), torch.zeros(1, 16, 1, 1))
    skipped, reason = Objective.get_instance(precision="tf32").skip(prior=Prior("faces64"), operator=operator)
    assert skipped and "convolutions of NonlinearBlur" in reason


def test_solvers_get_the_prior_as_the_objective_says():
    objective = objective_of(Inpainting.get_instance(n_images=1), precision="bfloat16", compile=True)
    assert objective.get_objective()["prior"] == Prior("faces64", precision="bfloat16", compile=True)


class TinyNetwork(torch.nn.Module):
    """Predicts noise from an image and a label: few kernels to compile."""

    def __init__(self):
        super().__init__()
        self.first, self.last = torch.nn.Conv2d(3, 8, 3, padding=1), torch.nn.Conv2d(8, 3, 3, padding=1)

    def forward(self, x, label):
        return UNet2DOutput(sample=self.last(torch.nn.functional.silu(self.first(x) + label.view(-1, 1, 1, 1) / 1000)))


def tiny_prior(device):
    torch.manual_seed(0)
    return Network(TinyNetwork(), NoiseSchedule.linear(), device, (3, 16, 16))


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None and NO_GPU, reason="torch.compile needs a C++ compiler on a CPU")
def test_compiled_network_gives_the_same_samples(monkeypatch):
    """With gradients and without; the compiler may reorder sums, by a few ulp a step."""
    spec = PriorSpec(family="ffhq", signal_shape=(3, 16, 16), load=tiny_prior)
    monkeypatch.setitem(known_priors(), "tiny", lambda: spec)
    eager, compiled = Prior("tiny"), Prior("tiny", compile=True)
    problem = problem_of(eager, lambda: inpainting("half", (3, 16, 16)).double(), "half")
    for Solver in (DPS, DDNM, MMPS):  # the last goes through a graph several times
        expected, found = (draw(Solver, problem, prior, 1, n_steps=3) for prior in (eager, compiled))
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)
    assert compiled.load().networks[0]._compiled_call_impl is not None


def run_script(*arguments):
    command = [sys.executable, "-m", "scripts.measure.speed", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=1800)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
@pytest.mark.skipif(not NO_GPU, reason="checks what is printed without a GPU")
def test_speed_script_writes_its_tables_and_plot(tmp_path):
    solvers = ["mgdm", "ddrm", "deepinv_ddrm"]
    plot = tmp_path / "speed.png"
    output = run_script(
        *("--solvers", *solvers, "--batches", "1", "--repeats", "1", "--networks", "--scaling", "--plot", plot)
    )
    for title in ("Counted work", "Single calls", "Solvers", "Against deepinv's samplers", "Scaling", "Memory"):
        assert f"### {title}" in output
    assert "tf32, bfloat16, compiled, and peak memory: not measured: needs a GPU" in output
    assert all(f"| {solver} | faces64 | 1 |" in output for solver in solvers)
    assert plot.stat().st_size > 1000


@pytest.mark.slow
def test_counted_work():
    """A gradient by the input costs two forward passes; one MGDM image on FFHQ about 1.4 PFLOP."""
    table = import_module("scripts.measure.speed").arithmetic().set_index("network")
    assert (table["gradient / forward"] <= 2.1).all()
    assert 1.3 < table["MGDM image PFLOP"]["ffhq256"] < 1.45
