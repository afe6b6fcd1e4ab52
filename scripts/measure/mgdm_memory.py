"""Memory of one sample and distance to the posterior of MGDM, beside filters of N particles, on ``gaussian_mixture``.

    python -m scripts.measure.mgdm_memory

*peak*: the largest number of bytes that the tensors made while one sample was drawn hold at once, counted as torch
makes and frees them. *distance*: sliced Wasserstein distance of 64 samples to as many exact draws, each sample from a
filter of its own, mean over the problems; *floor*: that of other exact draws. Cost: network calls of a sample, a
gradient being two.
"""

import weakref
from dataclasses import replace
from importlib import import_module

import pandas as pd
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakIdKeyDictionary

from benchmark_utils.evaluate import objective_of
from benchmark_utils.metrics import sliced_wasserstein
from benchmark_utils.rng import RNG
from datasets.gaussian_mixture import Dataset as GaussianMixture
from scripts.measure.common import markdown

N_SAMPLES, PROBLEMS = 64, (0, 1, 2)
SETTINGS = [("mgdm", {"n_steps": 50, "n_denoise": 5, "n_gibbs": R}) for R in (1, 4)]
SETTINGS += [(name, {"n_particles": N}) for name in ("tds", "mcgdiff", "fps_smc") for N in (1, 4, 16, 64)]


class LiveTensors(TorchDispatchMode):
    """Counts the bytes of the storages that operations make: ``live`` now, ``peak`` at most."""

    def __init__(self):
        super().__init__()
        self.live = self.peak = 0
        self.known = WeakIdKeyDictionary()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        made = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(made):
            if torch.is_tensor(tensor) and tensor.untyped_storage() not in self.known:
                storage = tensor.untyped_storage()
                self.known[storage] = storage.nbytes()
                self.live += storage.nbytes()
                self.peak = max(self.peak, self.live)
                weakref.finalize(storage, self.free, storage.nbytes())
        return made

    def free(self, n_bytes):
        self.live -= n_bytes


def run(name, parameters, problem, prior):
    """A solver's result on a problem, one draw of each row."""
    solver = import_module(f"solvers.{name}").Solver.get_instance(**parameters)
    solver.set_objective(problem, prior, 1, 0)
    solver.run(None)
    return solver.get_result()


def main():
    torch.set_num_threads(1)
    problems = []
    for seed in PROBLEMS:
        objective = objective_of(GaussianMixture.get_instance(dim=8, dim_y=2, seed=seed))
        prior, problem = objective.prior, objective.problem
        posterior = prior.load("cpu").posterior(problem)
        streams = [
            RNG(i, "reference", "mixture", [0] * N_SAMPLES, range(N_SAMPLES), dtype=torch.float64) for i in (0, 1)
        ]
        exact, other = (posterior.sample(stream) for stream in streams)
        copies = replace(problem.rows([0] * N_SAMPLES), images=tuple(range(N_SAMPLES)))
        problems.append((problem, copies, prior, exact, float(sliced_wasserstein(exact, other))))
    table = []
    for name, parameters in SETTINGS:
        results = [(run(name, parameters, copies, prior), exact) for _, copies, prior, exact, _ in problems]
        distances = [float(sliced_wasserstein(result["samples"][:, 0], exact)) for result, exact in results]
        with LiveTensors() as counted:
            run(name, parameters, problems[0][0], problems[0][2])
        cost = results[0][0]["nfe"] + results[0][0]["vjp"]
        table.append(
            {
                "solver": name,
                "R or N": parameters.get("n_particles", parameters.get("n_gibbs")),
                "peak, kB": f"{counted.peak / 1e3:.0f}",
                "distance": f"{sum(distances) / len(distances):.2f}",
                "cost": f"{cost:.0f}",
            }
        )
    print(markdown(pd.DataFrame(table)))
    print(f"floor {sum(problem[-1] for problem in problems) / len(problems):.2f}")


if __name__ == "__main__":
    main()
