"""Time of the solvers beside that of the bare network calls they make, and beside deepinv's samplers.

    python -m scripts.measure.speed --priors faces64 --batches 1 4 --plot speed.png
    python -m scripts.measure.speed --priors ffhq256 imagenet256 --batches 1 4 8 16 --device cuda

``ffhq256`` and ``imagenet256`` are networks of the true shape with random weights: nothing is fetched. Solvers make a
few steps on a half-hidden image. On a CPU times are CPU time of the process, so that other programs disturb them
little; on a GPU they are synchronised wall time. Columns of the tables:

bare      the same numbers of forward passes and gradients through the same network, nothing else
ratio     of the solver's time to the bare one, median over interleaved repetitions
own       the solver's time when a multiplication by 0.9 takes the network's place
overhead  own / bare
per call  the solver's time / (forward passes + backward passes)
"""

import argparse
import functools
import multiprocessing
import resource
import statistics
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmark_utils.evaluate import objective_of, score
from benchmark_utils.noise import GaussianNoise
from benchmark_utils.operators.inpainting import inpainting
from benchmark_utils.priors import PRECISIONS, Prior
from benchmark_utils.priors.adm import FFHQ, IMAGENET, SHAPE
from benchmark_utils.priors.base import LoadedPrior, PriorSpec
from benchmark_utils.priors.faces64 import EDMUNet
from benchmark_utils.priors.networks import Network
from benchmark_utils.problem import InverseProblem, capabilities, count_observed
from benchmark_utils.schedule import NoiseSchedule
from scripts.measure.common import markdown

TRUE_SIZE = {"ffhq256": ("ffhq", FFHQ), "imagenet256": ("imagenet", IMAGENET)}
SETTINGS = {
    "mgdm": {"n_steps": 5, "n_denoise": 8, "gradient_steps": (2, 2)},
    "dps": {"n_steps": 5},
    "deepinv_dps": {"n_steps": 5},
    "ddnm": {"n_steps": 10},
    "ddrm": {"n_steps": 10},
    "deepinv_ddrm": {"n_steps": 10},
    "diffpir": {"n_steps": 10},
    "deepinv_diffpir": {"n_steps": 10},
}
PAPER_MGDM = {"n_steps": 100, "n_denoise": 20, "gradient_steps": (5, 20)}
NEEDS_GPU = "not measured: needs a GPU"
LEVEL = 300


def random_adm(architecture, device):
    """An ADM network with new weights instead of a checkpoint's."""
    network = architecture.network().to_empty(device="cpu")
    torch.manual_seed(0)
    for module in network.modules():
        if hasattr(module, "reset_parameters"):
            module.reset_parameters()
    return Network(network, NoiseSchedule.linear(), device, SHAPE)


class RandomPrior(Prior):
    """Handle of an ADM network with random weights."""

    @property
    def spec(self):
        family, architecture = TRUE_SIZE[self.name]
        return PriorSpec(family=family, signal_shape=SHAPE, load=functools.partial(random_adm, architecture))


@dataclass(frozen=True)
class FreePrior(LoadedPrior):
    """In the place of a loaded prior: the same shapes and schedule, a denoiser that costs next to nothing."""

    loaded: LoadedPrior

    def __getattr__(self, name):
        return getattr(self.loaded, name)

    def denoise(self, x_t, t):
        return 0.9 * x_t

    denoise_sigma = denoise


def handle_of(name, **how):
    return RandomPrior(name, **how) if name in TRUE_SIZE else Prior(name, **how)


def half_hidden(prior, n_images):
    """A problem of ``n_images`` with the right half hidden."""
    operator, noise = inpainting("half", prior.signal_shape).double(), GaussianNoise(0.05)
    generator = torch.Generator().manual_seed(0)
    y = operator.A(0.5 * torch.randn(n_images, *prior.signal_shape, generator=generator, dtype=torch.float64))
    found = capabilities(operator, noise, prior)
    m, images = count_observed(operator, y), tuple(range(n_images))
    return InverseProblem(operator, noise, y, "half", m, images, capabilities=found)


def now(device):
    if device.type == "cuda":
        torch.cuda.synchronize()
        return time.perf_counter()
    return time.process_time()


def seconds(function, device):
    start = now(device)
    function()
    return now(device) - start


def prepare(name, handle, n_images, parameters=None):
    """A solver that is ready to run, alone responsible for how many images it takes at once."""
    solver = import_module(f"solvers.{name}").Solver.get_instance(**parameters or SETTINGS[name])
    solver.set_objective(half_hidden(handle, n_images), handle, 1, 0)
    return solver


def bare_calls(prior, batch, n_forward, n_gradient):
    """Forward passes and gradients through a loaded prior, as a solver makes them."""
    x = torch.randn(batch, *prior.event_shape, dtype=prior.dtype, device=prior.device)
    with torch.no_grad():
        for _ in range(n_forward):
            prior.denoise(x, LEVEL)
    for _ in range(n_gradient):
        x.requires_grad_()
        torch.autograd.grad(prior.denoise(x, LEVEL).sum(), x)


@functools.lru_cache(maxsize=1)
def bare_seconds(prior, batch, repeats, device):
    """Median seconds of one forward pass and of one gradient at a batch size."""
    calls = [functools.partial(bare_calls, prior, batch, *counts) for counts in ((1, 0), (0, 1))]
    calls[1]()
    times = [[seconds(call, device) for call in calls] for _ in range(repeats)]
    return [statistics.median(values) for values in zip(*times, strict=True)]


def solver_row(name, handle, batch, device, repeats, direct):
    """One row of the table of solvers."""
    solver = prepare(name, handle, batch)
    loaded, free = solver.prior, FreePrior(solver.prior)
    one_by_one = name.startswith("deepinv")  # the adapter runs deepinv's samplers so
    bare_batch, calls_of = (1, batch) if one_by_one else (batch, 1)

    def run(prior):
        solver.prior = prior
        return seconds(lambda: solver.run(None), device)

    run(free)
    own = statistics.median(run(free) for _ in range(5))
    counts = solver.get_result()
    n_gradient = round(counts["vjp"] * calls_of)
    n_forward = round(counts["nfe"] * calls_of) - n_gradient
    row = {"solver": name, "prior": handle.name, "batch": batch, "forwards": n_forward // calls_of}
    row["gradients"] = n_gradient // calls_of
    if direct:
        run(loaded)
        bare = functools.partial(bare_calls, loaded, bare_batch, n_forward, n_gradient)
        pairs = [(run(loaded), seconds(bare, device)) for _ in range(repeats)]
        total, bare_time = (statistics.median(values) for values in zip(*pairs, strict=True))
        row["s / image"] = total / batch
        row["bare s / image"] = bare_time / batch
        row["ratio"] = statistics.median(a / b for a, b in pairs)
        row["peak GB"] = solver.get_result()["peak_memory_gb"]
    else:
        forward, gradient = bare_seconds(loaded, bare_batch, repeats, device)
        bare_time = n_forward * forward + n_gradient * gradient
        total = bare_time + own
        row["bare s / image"] = bare_time / batch
    row["own s / image"] = own / batch
    row["overhead"] = own / bare_time
    row["s / call"] = total / batch / (counts["nfe"] + counts["vjp"])
    return row


def against_deepinv(table):
    """Time per network call of each solver over that of deepinv's, at the same prior and batch."""
    per_call = table.set_index(["prior", "batch", "solver"])["s / call"]
    own = table.set_index(["prior", "batch", "solver"])["own s / image"]
    rows = []
    for prior, batch, solver in per_call.index:
        peer = (prior, batch, f"deepinv_{solver}")
        if peer in per_call.index:
            key = prior, batch, solver
            ratios = {"per call / deepinv's": per_call[key] / per_call[peer], "own / deepinv's": own[key] / own[peer]}
            rows.append({"solver": solver, "prior": prior, "batch": batch} | ratios)
    return pd.DataFrame(rows)


def flops_of(network, n_channels, size):
    """Counted FLOPs of a forward pass and of a gradient with respect to the input, for one image."""
    x, label = torch.empty(1, n_channels, size, size, device="meta"), torch.empty(1, device="meta")
    network = network.eval().requires_grad_(False)
    counts = []
    for gradient in (False, True):
        x = x.detach().requires_grad_(gradient).clone()  # the counter cannot follow a gradient to a leaf
        with FlopCounterMode(display=False) as counter:
            output = network(x, label)
            output = output if torch.is_tensor(output) else output.sample
            if gradient:
                torch.autograd.grad(output, x, torch.empty_like(output))
        counts.append(counter.get_total_flops())
    return counts


def mgdm_calls():
    """Forward passes without gradient and gradients of the paper's MGDM, counted on a Gaussian prior."""
    from datasets.gaussian import Dataset as Gaussian
    from solvers.mgdm import Solver as MGDM

    objective = objective_of(Gaussian.get_instance(n_problems=1), n_samples=2)
    row = score(MGDM.get_instance(**PAPER_MGDM), objective).iloc[0]
    return round(row.nfe - row.vjp), round(row.vjp)


def arithmetic():
    """Counted FLOPs of each network, and the floor of one MGDM image in PFLOP."""
    n_forward, n_gradient = mgdm_calls()
    with torch.device("meta"):
        networks = {"faces64": (EDMUNet(), 64)}
    networks |= {name: (architecture.network(), 256) for name, (_, architecture) in TRUE_SIZE.items()}
    rows = []
    for name, (network, size) in networks.items():
        forward, gradient = flops_of(network, 3, size)
        row = {"network": name, "forward GFLOP": forward / 1e9, "gradient / forward": gradient / forward}
        row["MGDM calls"] = f"{n_forward} forwards, {n_gradient} gradients"
        row["MGDM image PFLOP"] = (n_forward * forward + n_gradient * gradient) / 1e15
        rows.append(row)
    return pd.DataFrame(rows)


def network_table(names, batches, device, repeats, modes):
    """One call and one MGDM image (the counted calls times a call's time) for every way to run the network."""
    n_forward, n_gradient = mgdm_calls()
    rows = []
    for name in names:
        for precision, compiled in modes:
            prior = handle_of(name, precision=precision, compile=compiled).load(device)
            for batch in batches:
                if device.type == "cuda":
                    torch.cuda.reset_peak_memory_stats()
                forward, gradient = bare_seconds(prior, batch, repeats, device)
                row = {"network": name, "precision": precision, "compiled": compiled, "batch": batch}
                row |= {"forward s / image": forward / batch, "gradient s / image": gradient / batch}
                row["gradient / forward"] = gradient / forward
                row["MGDM s / image"] = (n_forward * forward + n_gradient * gradient) / batch
                if device.type == "cuda":
                    row["peak GB"] = torch.cuda.max_memory_allocated() / 1e9
                rows.append(row)
    return pd.DataFrame(rows)


def scaling_table(name, device, repeats):
    """MGDM's time against the number of images, of steps and of gradient steps, with the straight line through it."""
    handle, rows = handle_of(name), []
    base = {"n_steps": 6, "n_denoise": 3, "gradient_steps": (2, 2)}
    cases = {
        "images": [(n, n, base) for n in (1, 2, 4, 8)],
        "steps K": [(K, 1, base | {"n_steps": K}) for K in (5, 8, 14, 26)],
        "gradient steps G": [(G, 1, base | {"gradient_steps": (G, G)}) for G in (1, 2, 4, 8)],
    }
    for quantity, settings in cases.items():
        solvers = [(value, prepare("mgdm", handle, n, parameters)) for value, n, parameters in settings]
        times = [[seconds(lambda s=s: s.run(None), device) for _, s in solvers] for _ in range(repeats)]
        medians = torch.tensor([statistics.median(values) for values in zip(*times, strict=True)])
        values = torch.tensor([float(value) for value, _ in solvers])
        design = torch.stack([torch.ones_like(values), values], 1)
        fit = design @ torch.linalg.lstsq(design, medians[:, None]).solution[:, 0]
        r2 = 1 - (medians - fit).square().sum() / (medians - medians.mean()).square().sum()
        points = ", ".join(f"{value}: {float(t):.2f}" for (value, _), t in zip(solvers, medians, strict=True))
        deviation = float(((medians - fit) / fit).abs().max())
        rows.append({"MGDM against": quantity, "s": points, "R2": float(r2), "largest deviation": deviation})
    return pd.DataFrame(rows)


def peak_resident_gb(name, parameters):
    """Most memory that a process held after it ran MGDM once."""
    prepare("mgdm", handle_of(name), 1, parameters).run(None)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def memory_table(name):
    """Memory of MGDM against its number of steps, each in a process of its own."""
    base = {"n_denoise": 3, "gradient_steps": (2, 2)}
    rows = []
    for K in (5, 20, 80):
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
            peak = pool.submit(peak_resident_gb, name, base | {"n_steps": K}).result()
        rows.append({"steps K": K, "peak resident GB": peak})
    return pd.DataFrame(rows)


def environment(device):
    import deepinv
    import diffusers

    versions = f"torch {torch.__version__}, diffusers {diffusers.__version__}, deepinv {deepinv.__version__}"
    machine = torch.cuda.get_device_name() if device.type == "cuda" else f"CPU, {torch.get_num_threads()} thread"
    return f"{time.strftime('%Y-%m-%d')}, {machine}, {versions}"


def rounded(table):
    return table.map(lambda value: f"{value:.4g}" if isinstance(value, float) else value)


def show(title, table):
    print(f"\n### {title}\n\n{markdown(rounded(table))}", flush=True)


def draw(table, path):
    """Overhead of each solver, a bar for each prior and batch."""
    wide = table.pivot(index="solver", columns=["prior", "batch"], values="overhead") * 100
    wide.columns = [f"{prior}, batch {batch}" for prior, batch in wide.columns]
    axis = wide.plot.barh(figsize=(8, 4.5))
    axis.set(xlabel="time of the solver's own work, % of its bare network calls", ylabel="")
    axis.figure.tight_layout()
    axis.figure.savefig(path, dpi=110)
    plt.close(axis.figure)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--priors", nargs="+", default=["faces64"])
    parser.add_argument("--solvers", nargs="*", default=list(SETTINGS))
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 4])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--bare-only", action="store_true", help="no run of the solvers with the network: own + bare")
    parser.add_argument(
        "--scaling", action="store_true", help="MGDM's time against images, K and G, its memory against K"
    )
    parser.add_argument("--networks", action="store_true", help="single calls in every precision, eager and compiled")
    parser.add_argument("--plot", type=Path, help="PNG file of the overheads")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    device = torch.device(arguments.device)
    print(environment(device))
    show("Counted work", arithmetic())
    if arguments.networks:
        on_gpu = device.type == "cuda"
        modes = [(p, c) for p in PRECISIONS for c in (False, True)] if on_gpu else [("float32", False)]
        show("Single calls", network_table(arguments.priors, arguments.batches, device, arguments.repeats, modes))
        if not on_gpu:
            print(f"\ntf32, bfloat16, compiled, and peak memory: {NEEDS_GPU}")
    if arguments.solvers:
        rows = []
        for prior in arguments.priors:
            for batch in arguments.batches:
                for name in arguments.solvers:
                    handle = handle_of(prior)
                    rows.append(solver_row(name, handle, batch, device, arguments.repeats, not arguments.bare_only))
        table = pd.DataFrame(rows)
        show("Solvers", table)
        show("Against deepinv's samplers", against_deepinv(table))
        if arguments.plot:
            draw(table, arguments.plot)
    if arguments.scaling:
        show("Scaling", scaling_table(arguments.priors[0], device, arguments.repeats))
        show("Memory", memory_table(arguments.priors[0]))


if __name__ == "__main__":
    main()
