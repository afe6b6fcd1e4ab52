"""The variance-preserving noise schedule and the Gaussian transitions between its levels."""

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

from benchmark_utils.rng import RNG


def karras_levels(first: float, last: float, n: int, rho: float = 7) -> list[float]:
    """List of ``n`` noise levels from ``first`` to ``last``, uniform in ``sigma^(1 / rho)``; ``[first]`` for n = 1.

    The grid of EDM (Karras et al. 2022, https://arxiv.org/abs/2206.00364, eq. 5).
    """
    start, end = first ** (1 / rho), last ** (1 / rho)
    return [(start + i / max(1, n - 1) * (end - start)) ** rho for i in range(n)]


def time_travel(levels: Sequence[int], length: int, n_passes: int, lowest: int = 0) -> list[tuple[int, int]]:
    """List of moves (t, s) down ``levels`` that pass each stretch of ``length`` moves ``n_passes`` times.

    Between two passes stands a move up, s > t, from the end of the stretch to its start. Passed once are the first
    stretch, as in RePaint and DDNM (Lugmayr et al. 2022, Wang et al. 2023), and those that only reach levels below
    ``lowest``.
    """
    moves = []
    for first in range(0, len(levels) - 1, length):
        stretch = levels[first : first + length + 1]
        down, up = list(pairwise(stretch)), (stretch[-1], stretch[0])
        again = n_passes - 1 if first and stretch[1] >= lowest else 0
        moves += down + again * [up, *down]
    return moves


class NoiseSchedule:
    """Table ``abar_t``, ``t = 0..T``, ``abar_0 = 1``, of ``x_t = sqrt(abar_t) x_0 + sqrt(1 - abar_t) eps``.

    ``abar`` holds ``abar_1..abar_T`` (strictly decreasing, in (0, 1)); the table is kept in float64.
    A network trained with labels 0..T-1 has label ``t - 1`` at level ``t``.
    """

    def __init__(self, abar: Tensor | Sequence[float]) -> None:
        abar = torch.as_tensor(abar, dtype=torch.float64).cpu()
        if not (len(abar) and 0 < abar[-1] and abar[0] < 1 and (abar.diff() < 0).all()):
            raise ValueError("abar must decrease strictly inside (0, 1)")
        self.table = torch.cat([torch.ones(1, dtype=torch.float64), abar])
        self.T = len(abar)
        self._abar = self.table.tolist()
        self._tables: dict[torch.device, Tensor] = {}  # copies on the devices that levels came from

    @classmethod
    def linear(cls, beta_start: float = 1e-4, beta_end: float = 0.02, T: int = 1000) -> "NoiseSchedule":
        """Linear betas of DDPM (Ho et al. 2020, https://arxiv.org/abs/2006.11239, section 4)."""
        betas = torch.linspace(beta_start, beta_end, T, dtype=torch.float64)
        return cls((1 - betas).cumprod(0))

    @classmethod
    def karras(cls, sigma_min: float, sigma_max: float, rho: float, T: int = 1000) -> "NoiseSchedule":
        """``abar_t = 1 / (1 + sigma_t^2)`` for sigma_1..sigma_T of :func:`karras_levels`."""
        return cls([1 / (1 + sigma**2) for sigma in karras_levels(sigma_min, sigma_max, T, rho)])

    def abar(self, t: int | Tensor) -> float | Tensor:
        """``abar_t``: a float for an int ``t``, a float64 tensor for an (n,) tensor of levels."""
        if not torch.is_tensor(t):
            return self._abar[t]
        if t.device not in self._tables:
            self._tables[t.device] = self.table.to(t.device)
        return self._tables[t.device][t]

    def sigma(self, t: int | Tensor) -> float | Tensor:
        """Variance-exploding view: the noise level ``sqrt((1 - abar_t) / abar_t)`` of ``x_t / sqrt(abar_t)``."""
        abar = self.abar(t)
        return ((1 - abar) / abar) ** 0.5

    def check_steps(self, n_steps: int) -> None:
        """Raise ValueError unless ``n_steps`` different levels exist."""
        if not 1 <= n_steps <= self.T:
            raise ValueError(f"n_steps must lie in 1..{self.T}, the levels of the prior, got {n_steps}")

    def grid(self, n_steps: int) -> list[int]:
        """``n_steps`` levels from T down to 1, uniform in t (``1 + round(linspace(0, T - 1))``), then 0."""
        self.check_steps(n_steps)
        levels = 1 + torch.linspace(0, self.T - 1, n_steps, dtype=torch.float64).round().long()
        return [*levels.flip(0).tolist(), 0] if n_steps > 1 else [self.T, 0]

    def bridge(self, l: int, s: int, t: int, eta: float = 1.0) -> tuple[float, float, float]:
        """Coefficients of ``x_s | x_l, x_t ~ N(c_l x_l + c_t x_t, std^2 I)`` for levels ``l < s < t``.

        ``eta = 1`` is the exact conditional of the forward process (MGDM, https://arxiv.org/abs/2502.03332,
        eq. 3); with ``l = 0`` and ``x_l`` the denoised image it is the DDIM(eta) step (Song et al. 2021,
        https://arxiv.org/abs/2010.02502, eq. 12 and 16), ``eta = 1`` being DDPM's. ``s = l`` returns x_l.
        """
        if not l <= s < t:
            raise ValueError(f"a bridge needs l <= s < t, got l={l}, s={s}, t={t}")
        r_st = self._abar[t] / self._abar[s]
        r_ls = self._abar[s] / self._abar[l]
        r_lt = self._abar[t] / self._abar[l]
        variance = eta**2 * (1 - r_st) * (1 - r_ls) / (1 - r_lt)
        c_t = math.sqrt(max(0.0, 1 - r_ls - variance) / (1 - r_lt))
        c_l = math.sqrt(r_ls) - c_t * math.sqrt(r_lt)
        return c_l, c_t, math.sqrt(variance)

    def sample_bridge(self, x_l: Tensor, x_t: Tensor, l: int, s: int, t: int, rng: RNG, eta: float = 1.0) -> Tensor:
        """Draw ``x_s`` from :meth:`bridge`; ``x_l`` and ``x_t`` have shape (n, *event)."""
        c_l, c_t, std = self.bridge(l, s, t, eta)
        mean = c_l * x_l + c_t * x_t
        return mean + std * rng.randn_like(x_t) if std > 0 else mean

    def sample_forward(self, x_s: Tensor, s: int, t: int, rng: RNG) -> Tensor:
        """Draw ``x_t ~ q(x_t | x_s) = N(sqrt(abar_t / abar_s) x_s, (1 - abar_t / abar_s) I)`` for ``s <= t``."""
        ratio = self._abar[t] / self._abar[s]
        return math.sqrt(ratio) * x_s + math.sqrt(1 - ratio) * rng.randn_like(x_s)
