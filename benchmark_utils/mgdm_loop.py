"""The loop of MGDM, shared by its solver and the variants that draw x_s in another way."""

import math
from itertools import pairwise

import torch
from numpy.random import Generator
from torch import Tensor

from benchmark_utils.priors.base import LoadedPrior
from benchmark_utils.problem import InverseProblem
from benchmark_utils.rng import RNG
from benchmark_utils.sampler import PosteriorSampler

LOOP = {"n_steps": 100, "n_gibbs": 1, "n_denoise": 20, "tau": 0.01, "index_law": "uniform", "noising": "forward"}
LOOP |= {"late": (0.25, 0.25), "preset": None}  # table 5


class MGDMLoop(PosteriorSampler):
    """Algorithm 2 of "A Mixture-Based Framework for Guiding Diffusion Models",
    Janati, Moufad, Abou El Qassime, Durmus, Moulines and Olsson, ICML 2025, https://arxiv.org/abs/2502.03332

    A subclass defines :meth:`sample_x_s`, the one conditional of Algorithm 1 that sees y, and gives every parameter
    of ``LOOP`` a value in its ``PRESETS``.
    """

    choices = {"index_law": ("uniform", "near_zero"), "noising": ("forward", "bridge")}
    ranges = {"n_steps": (4, math.inf), "late": (0, 1), "tau": (0, 1)}
    n_gibbs: int
    n_denoise: int
    tau: float
    index_law: str
    noising: str
    late: tuple[float, float]
    eta = 1.0  # share of the noise of DDPM in the moves from s to 0

    def sample(self, problem: InverseProblem, prior: LoadedPrior, rng: RNG) -> Tensor:
        schedule, shape = prior.schedule, prior.event_shape
        schedule.check_steps(self.n_steps)
        # t_0 = 0 < ... < t_{K-1}: integer parts of linspace(0, T - 1)
        levels = torch.linspace(0, schedule.T - 1, self.n_steps, dtype=torch.float64).long().tolist()
        x_t = rng.randn(*shape)
        x_0 = prior.denoise(x_t, levels[-1])
        for i in self.progress(range(self.n_steps - 2, 1, -1)):
            t_next, t, t_prev = levels[i + 1], levels[i], levels[i - 1]
            s = self.draw_index(t, t_prev, i <= int(self.late[1] * self.n_steps), schedule.T, rng.shared)
            x_t_next, x_t = x_t, schedule.sample_bridge(x_0, x_t, 0, t, t_next, rng)
            for _ in range(self.n_gibbs):
                x_0, x_t = self.gibbs_round(problem, prior, rng, x_0, x_t, x_t_next, s, t, t_next, *self.effort(i))
        return x_0

    def gibbs_round(
        self,
        problem: InverseProblem,
        prior: LoadedPrior,
        rng: RNG,
        x_0: Tensor,
        x_t: Tensor,
        x_t_next: Tensor,
        s: int,
        t: int,
        t_next: int,
        *effort: float,
    ) -> tuple[Tensor, Tensor]:
        """One pass over the three conditionals of Algorithm 1: the new x_0 and x_t, each (n, *event)."""
        x_s = self.sample_x_s(problem, prior, rng, x_0, x_t, s, t, *effort)
        x_0 = self.sample_x_0(prior, rng, x_s, s)
        return x_0, self.sample_x_t(prior, rng, x_0, x_s, x_t_next, s, t, t_next)

    def effort(self, i: int) -> tuple:
        """What :meth:`sample_x_s` is given at step ``i``, counted down from K - 2 to 2, beside states and levels."""
        return ()

    def draw_index(self, t: int, t_prev: int, last: bool, T: int, generator: Generator) -> int:
        """Index s of the mixture component, one for the whole run at this step (eq. 21 and 22)."""
        if self.index_law == "near_zero":
            return int(generator.integers(1, max(1, t // 5), endpoint=True))
        lowest = max(1, round(self.tau * T))
        if last or t_prev <= lowest:
            return t_prev
        return int(generator.integers(lowest, t_prev, endpoint=True))

    def sample_x_s(
        self,
        problem: InverseProblem,
        prior: LoadedPrior,
        rng: RNG,
        x_0: Tensor,
        x_t: Tensor,
        s: int,
        t: int,
        *effort: float,
    ) -> Tensor:
        """Draw x_s (n, *event) from ``g_0(y | D_s(x_s)) q(x_s | x_0, x_t)``, or near it; ``0 < s < t``."""
        raise NotImplementedError

    def sample_x_0(self, prior: LoadedPrior, rng: RNG, x_s: Tensor, s: int) -> Tensor:
        """DDPM from s to 0 on ``n_denoise`` points (section 3.2); the last move returns the denoiser's output."""
        n_moves = max(1, min(self.n_denoise, s + 1) - 1)
        levels = [s * move // n_moves for move in range(n_moves, -1, -1)]
        x = x_s
        for k, k_next in pairwise(levels):
            x = prior.schedule.sample_bridge(prior.denoise(x, k), x, 0, k_next, k, rng, self.eta)
        return x

    def sample_x_t(
        self,
        prior: LoadedPrior,
        rng: RNG,
        x_0: Tensor,
        x_s: Tensor,
        x_t_next: Tensor,
        s: int,
        t: int,
        t_next: int,
    ) -> Tensor:
        """The noising, (n, *event): from x_s alone, or between x_s and the state of the step before, at t_next > t."""
        if self.noising == "forward":
            return prior.schedule.sample_forward(x_s, s, t, rng)
        return prior.schedule.sample_bridge(x_s, x_t_next, s, t, t_next, rng)
