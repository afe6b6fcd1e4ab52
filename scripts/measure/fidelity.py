"""Our solvers beside their authors' code: the same prior, y and random numbers, and the largest difference of a pixel.

    python -m scripts.measure.fidelity --mgdm PATH --dps PATH --daps PATH --mpgd PATH --sitcom PATH

A PATH is your own clone, of which only the named references run. Theirs runs first, with ``torch.randn``,
``torch.randn_like`` and ``torch.randint`` replaced by a recorder; ours takes the recorded numbers in the same order, on
the same levels. Their network is eps(x, t), made from our prior's denoiser, their operator is ours. Nothing of a clone
is copied or changed; modules that it imports for loading, plotting or data are stubs. docs/fidelity.md has the results.
"""

import argparse
import contextlib
import copy
import io
import math
import runpy
import subprocess
import sys
import tempfile
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import pandas as pd
import torch
import yaml

from benchmark_utils.evaluate import objective_of
from benchmark_utils.schedule import NoiseSchedule, karras_levels
from datasets.ffhq_hdr import Dataset as HDR
from datasets.ffhq_inpainting import Dataset as Inpainting
from datasets.ffhq_super_resolution import Dataset as SuperResolution
from scripts.measure.common import markdown
from solvers import daps, dps, mgdm, mpgd, sitcom

TASKS = {
    "half": (Inpainting, {"mask": "half"}),
    "sr4": (SuperResolution, {"factor": 4}),
    "hdr": (HDR, {}),
}


class Recorder:
    """Replaces torch's random functions while a reference runs, and keeps what they return in call order."""

    def __init__(self):
        self.generator, self.normals, self.integers = torch.Generator().manual_seed(0), [], []

    def randn(self, *shape, dtype=None, requires_grad=False, **_):
        shape = shape[0] if len(shape) == 1 and not isinstance(shape[0], int) else shape
        self.normals.append(self._randn(tuple(shape), generator=self.generator, dtype=dtype))
        return self.normals[-1].clone().requires_grad_(requires_grad)

    def randn_like(self, x, **_):
        return self.randn(*x.shape, dtype=x.dtype)

    def randint(self, low, high, shape):
        self.integers.append(self._randint(int(low), int(high), shape, generator=self.generator))
        return self.integers[-1]

    @contextlib.contextmanager
    def record(self):
        self._randn, self._randint = torch.randn, torch.randint
        with contextlib.ExitStack() as stack:
            for name in ("randn", "randn_like", "randint"):
                stack.enter_context(mock.patch.object(torch, name, getattr(self, name)))
            yield self


class Replay:
    """The stream of our solver: hands out recorded numbers. ``shared`` is itself, for integers."""

    def __init__(self, normals, integers=()):
        self.normals, self.shared = iter(normals), self
        self._integers = iter(integers)

    def randn(self, *shape):
        found = next(self.normals)
        assert found.shape[1:] == shape, f"the recorded numbers have shape {tuple(found.shape)}, ours asks for {shape}"
        return found

    def randn_like(self, x):
        return self.randn(*x.shape[1:])

    def integers(self, low, high, endpoint):
        return int(next(self._integers))


class Levels(NoiseSchedule):
    """A schedule with an explicit grid; ``spends``: a move without noise draws all the same, as theirs."""

    def __init__(self, schedule, grid=None, spends=False):
        super().__init__(schedule.table[1:])
        self._grid, self.spends = grid, spends

    def grid(self, n_steps):
        return self._grid

    def sample_bridge(self, x_l, x_t, l, s, t, rng, eta=1.0):
        found = super().sample_bridge(x_l, x_t, l, s, t, rng, eta)
        if self.spends and self.bridge(l, s, t, eta)[2] == 0:
            rng.randn_like(x_t)
        return found


def with_levels(prior, **levels):
    """Our prior with :class:`Levels`."""
    found = copy.copy(prior)
    found.schedule = Levels(prior.schedule, **levels)
    return found


class Epsilon(torch.nn.Module):
    """The prior as a reference's network: eps(x, label), ``first`` being the label of level 1."""

    def __init__(self, prior, first=0):
        super().__init__()
        self.prior, self.first, self.in_channels = prior, first, prior.event_shape[0]
        self.nothing = torch.nn.Parameter(torch.zeros(()))  # references ask the parameters for the device

    def forward(self, x, label):
        level = int(torch.as_tensor(label).flatten()[0]) + 1 - self.first
        abar = self.prior.schedule.abar(level)
        return (x - abar**0.5 * self.prior.denoise(x, level)) / (1 - abar) ** 0.5


class Score(Epsilon):
    """The prior as DAPS's network: the score at noise level sigma."""

    def score(self, x, sigma):
        return (self.prior.denoise_sigma(x, sigma) - x) / sigma**2

    def get_in_shape(self):
        return self.prior.event_shape


@contextlib.contextmanager
def modules_of(path, stubs, given=None):
    """Modules are imported from a clone first, and forgotten afterwards, since clones have the same names.

    ``stubs`` are names of empty modules, ``given`` is a mapping of names to modules.
    """
    sys.path.insert(0, str(path))
    try:
        with mock.patch.dict(sys.modules, {name: mock.MagicMock() for name in stubs} | (given or {})):
            yield
    finally:
        sys.path.remove(str(path))


def run_ours(module, parameters, problem, prior, normals, integers=()):
    """The samples of one of our solvers for recorded random numbers."""
    solver = module.Solver.get_instance(**parameters)
    solver.resolve_presets("ffhq", problem.task)
    solver._label, solver._batches_done, solver._n_batches = str(solver), 0, 1
    with torch.no_grad():
        return solver.sample(problem, prior, Replay(normals, integers))


def compare_mgdm(path, problem, prior):
    """``posterior_samplers.mgdm.mgdm``; it gives its network the next higher label, which is undone here."""
    n_steps, n_denoise, gradient_steps, rates, early, late = 20, 5, (2, 4), (0.01, 0.03), 0.12, 0.28
    stubs = ("utils", "utils.utils", "utils.im_invp_utils", "omegaconf", "ldm", "ldm.util", "local_paths")
    stubs += ("sound_model", "sound_model.misc", "guided_diffusion", "guided_diffusion.unet")
    with modules_of(path / "src", (*stubs, "guided_diffusion.gaussian_diffusion")):
        from posterior_samplers.diffusion_utils import EpsilonNet
        from posterior_samplers.mgdm import mgdm as sample
    timesteps = torch.linspace(0, prior.schedule.T - 1, n_steps).long()
    network = EpsilonNet(Epsilon(prior, first=1), prior.schedule.table, timesteps)
    likelihood = SimpleNamespace(log_pot=lambda x: problem.log_likelihood(x).sum())

    def rules(first, then, start):
        """``first`` for the steps before ``start``, ``then`` after them; steps count from 0 at the noisiest."""
        found = [Rule(condition=f"i < {start}", **{"return": first}), Rule(condition="default", **{"return": then})]
        return SimpleNamespace(conditions=found)

    first_late = n_steps - 2 - int(late * n_steps)
    with Recorder().record() as recorder:
        theirs = sample(
            torch.randn(1, *prior.event_shape),
            likelihood,
            network,
            n_reps=1,
            lr_fn=rules(*rates, n_steps - 1 - int((1 - early) * n_steps)),
            gradient_steps_fn=rules(*gradient_steps, first_late),
            n_denoising_steps=n_denoise,
            threshold=first_late,
            display_im=False,
        )
    settings = {"n_steps": n_steps, "n_denoise": n_denoise, "gradient_steps": gradient_steps, "learning_rates": rates}
    settings |= {"early": early, "late": (late, late), "n_gibbs": 1, "noising": "bridge", "variational": "log_std"}
    ours = run_ours(mgdm, settings, problem, with_levels(prior, spends=True), recorder.normals, recorder.integers)
    return ours, theirs


class Rule(dict):
    """An entry of the reference's configuration: its values are items and attributes."""

    __getattr__ = dict.__getitem__


def create_diffusion(path, module, **options):
    """(sampler of n steps, PosteriorSampling class) of ``guided_diffusion`` in a clone of DPS or MPGD."""
    options |= {"steps": 1000, "noise_schedule": "linear", "model_mean_type": "epsilon", "dynamic_threshold": False}
    options |= {"model_var_type": "fixed_small", "clip_denoised": False, "rescale_timesteps": False}
    stubs = ("util", "util.img_utils", "omegaconf", "einops", "motionblur", "motionblur.motionblur")
    with modules_of(path, stubs):
        create = import_module(f"guided_diffusion.{module}").create_sampler
        from guided_diffusion.condition_methods import get_conditioning_method

    sampler = create(**options)
    sampler.q_sample = lambda y, t: y  # a noised y, which the methods compared here do not use, takes random numbers
    levels = [label + 1 for label in reversed(sampler.timestep_map)]
    return sampler, get_conditioning_method, [*levels, 0]


def sample_diffusion(sampler, conditioning, prior, y):
    with Recorder().record() as recorder:
        start = torch.randn(1, *prior.event_shape)
        options = {"measurement_cond_fn": conditioning.conditioning, "record": False, "save_root": None}
        theirs = sampler.p_sample_loop(model=Epsilon(prior), x_start=start, measurement=y, **options)
    return theirs, recorder.normals


def compare_dps(path, problem, prior):
    """``guided_diffusion``'s ``ddpm`` sampler with the conditioning ``ps``, the denoiser not clipped."""
    sampler, conditioning, levels = create_diffusion(
        path, "gaussian_diffusion", sampler="ddpm", timestep_respacing="20"
    )
    parts = SimpleNamespace(forward=lambda x, **_: problem.A(x)), SimpleNamespace(__name__="gaussian")
    theirs, normals = sample_diffusion(sampler, conditioning("ps", *parts, scale=0.3), prior, problem.y)
    return run_ours(dps, {"n_steps": 20, "zeta": 0.3}, problem, with_levels(prior, grid=levels), normals), theirs


def compare_mpgd(path, problem, prior):
    """``guided_diffusion``'s ``x0ddim`` sampler with ``mpgd_wo_proj``, the denoiser not clipped."""
    options = {"sampler": "x0ddim", "timestep_respacing": "ddim20", "eta": 0.5}
    sampler, conditioning, levels = create_diffusion(path / "linear_inv", "guided_gaussian_diffusion", **options)
    operator = SimpleNamespace(forward=lambda x, **_: problem.A(x))
    method = conditioning("mpgd_wo_proj", operator, SimpleNamespace(__name__="gaussian"), scale=4.0)
    theirs, normals = sample_diffusion(sampler, method, prior, problem.y)
    settings = {"n_steps": 20, "scale": 4.0, "eta": 0.5, "form": "code"}
    return run_ours(mpgd, settings, problem, with_levels(prior, grid=levels), normals), theirs


def integrate(derivative, x, times, **_):
    """Euler's method, in place of torchdiffeq's odeint(method="euler")."""
    found = [x]
    for t, t_next in zip(times[:-1], times[1:], strict=True):
        found.append(found[-1] + (t_next - t) * derivative(t, found[-1]))
    return torch.stack(found)


def compare_daps(path, problem, prior):
    """``sampler.DAPS`` with Langevin steps; it leaves out the last level of its grid, and decays by that grid."""
    n_levels, n_inner, decay = 10, 5, 0.01
    stubs = ("forward_operator.resizer", "forward_operator.fastmri_utils", "forward_operator.motionblur")
    torchdiffeq = SimpleNamespace(odeint=integrate, odeint_adjoint=integrate)
    stubs = (*stubs, "forward_operator.motionblur.motionblur")
    with modules_of(path, stubs, {"torchdiffeq": torchdiffeq}):
        from forward_operator import Operator
        from sampler import DAPS

    operator = type("OurOperator", (Operator,), {"__call__": lambda self, x: problem.A(x)})()
    grid = {"name": "edm", "sigma_min": 0.1, "sigma_max": 100.0, "num_steps": n_levels}
    chain = {"num_steps": n_inner, "lr": 5e-5, "tau": 0.01, "lr_min_ratio": decay}
    reference = DAPS(grid, {"name": "edm", "sigma_min": 0.01, "num_steps": 3}, chain)
    with Recorder().record() as recorder:
        model = Score(prior)
        theirs = reference.sample(model, reference.get_start(1, model), operator, problem.y)
    first, *rest = recorder.normals  # ours starts each chain with a velocity, which Langevin steps multiply by 0
    chains = [rest[i : i + n_inner + 1] for i in range(0, len(rest), n_inner + 1)]
    normals = [first, *(number for chain in chains for number in [torch.zeros_like(first), *chain])]
    settings = {"n_levels": n_levels, "n_ode": 3, "n_inner": n_inner, "step_size": 5e-5, "data_factor": 1.0}
    settings["step_decay"] = 1 + (decay - 1) * n_levels / (n_levels + 1)

    def levels(start, end, n):
        return karras_levels(start, end, n + 1)[:n] if n == n_levels else karras_levels(start, end, n)

    with mock.patch.object(daps, "karras_levels", levels):
        return run_ours(daps, settings, problem, prior, normals), theirs


def compare_sitcom(path, problem, prior):
    """The script ``SITCOM_with_noise.py`` as a whole, on one image; its last D(v) is compared, not its best."""
    n_steps, n_inner = 10, 4
    y = problem.y
    std = (problem.noise.std + 0.001) * math.sqrt(problem.n_observed / (3 * y.shape[-1] * y.shape[-2])) - 0.001
    given = {
        "guided_diffusion.unet": SimpleNamespace(create_model=lambda: Epsilon(prior)),
        "guided_diffusion.measurements": SimpleNamespace(
            get_operator=lambda device, name, in_shape: SimpleNamespace(forward=problem.A),
            get_noise=lambda: lambda clean: y,
        ),
        "data.dataloader": SimpleNamespace(
            get_dataset=lambda transforms: None,
            get_dataloader=lambda *_, **__: [torch.zeros(1, *prior.event_shape)],
        ),
    }
    stubs = ("guided_diffusion", "guided_diffusion.condition_methods", "guided_diffusion.gaussian_diffusion_correct")
    stubs += ("data", "util", "util.img_utils", "util.logger", "common_utils", "lpips")
    task = {"operator": {"name": "ours", "in_shape": [1, *prior.event_shape]}, "noise": {}}
    task = {"measurement": task, "conditioning": {"method": "ps", "params": {}}, "data": {}}
    with tempfile.TemporaryDirectory() as folder, modules_of(path, stubs, given):
        arguments = ["SITCOM", f"--num_steps={n_inner}", f"--n_step={n_steps}", f"--noiselevel={std!r}"]
        for name, config in {"model": {}, "diffusion": {}, "task": task}.items():
            file = Path(folder) / name
            file.write_text(yaml.safe_dump(config))
            arguments.append(f"--{name}_config={file}")
        with mock.patch.object(sys, "argv", [*arguments, "--learning_rate=0.01"]), Recorder().record() as recorder:
            theirs = runpy.run_path(str(path / "SITCOM_with_noise.py"))["pred_original_sample"]
    labels = [1000 // n_steps * i for i in reversed(range(n_steps))]
    abar = prior.schedule.abar(prior.schedule.T)
    signal, noise, *rest = recorder.normals
    # per level: one for a tensor that is overwritten, one for a state that is overwritten, one for x_s
    normals = [abar**0.5 * signal + (1 - abar) ** 0.5 * noise, *rest[2::3]]
    settings = {"n_steps": n_steps, "n_inner": n_inner, "learning_rate": 0.01, "regularisation": 0.0}
    ours = with_levels(prior, grid=[*(label + 1 for label in labels), 0])
    return run_ours(sitcom, settings, problem, ours, normals), theirs


COMPARISONS = {
    "mgdm": compare_mgdm,
    "dps": compare_dps,
    "daps": compare_daps,
    "mpgd": compare_mpgd,
    "sitcom": compare_sitcom,
}


def commit_of(path):
    """Short commit of a clone, "no git" for a folder without one."""
    found = subprocess.run(["git", "-C", path, "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
    return found.stdout.strip() or "no git"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, compare in COMPARISONS.items():
        parser.add_argument(f"--{name}", type=Path, metavar="PATH", help=compare.__doc__.split(";")[0])
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for name, compare in COMPARISONS.items():
        path = getattr(arguments, name)
        for task in arguments.tasks if path else ():
            Dataset, parameters = TASKS[task]
            objective = objective_of(Dataset.get_instance(n_images=1, **parameters))
            prior = objective.prior.load("cpu")
            with contextlib.redirect_stdout(io.StringIO()):
                ours, theirs = compare(path, objective.problem.to("cpu", prior.dtype), prior)
            difference = (ours - theirs).abs()
            print(f"{name}, {task}: {difference.max():.1e}", file=sys.stderr)
            rows.append((name, commit_of(path), task, f"{difference.max():.1e}", f"{difference.mean():.1e}"))
    print(markdown(pd.DataFrame(rows, columns=["method", "commit", "task", "largest difference", "mean difference"])))


if __name__ == "__main__":
    main()
