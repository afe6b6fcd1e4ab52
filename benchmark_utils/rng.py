"""Random numbers that belong to an image and a draw, never to a batch."""

import hashlib
import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

PURPOSES = ("truth", "operator", "measurement", "sampler", "reference")
BLOCK = 4096


def stream_seed(seed: int, purpose: str, task: str, *numbers: int) -> int:
    """64-bit seed of one stream: a hash of the run's seed, the purpose, the task and the (image, draw) numbers."""
    if purpose not in PURPOSES:
        raise ValueError(f"unknown purpose {purpose!r}; known: {', '.join(PURPOSES)}")
    key = repr((int(seed), purpose, str(task), *map(int, numbers)))
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "little") >> 1


class RNG:
    """One generator per row: row i depends on (seed, purpose, task, image_i, draw_i) and on the calls made, only.

    Parameters
    ----------
    seed : int
        Seed of the run (base seed and repetition).
    purpose, task : str
        Two purposes never share a stream; see ``PURPOSES``.
    images, draws : sequence of int
        Image number and draw number of each row.
    block : int
        How many numbers are drawn ahead in each row; the numbers depend on it.

    ``shared`` is a ``numpy.random.Generator`` for choices that all rows make together (MGDM's index s): it
    depends on neither images nor draws, so not on the batch.
    """

    def __init__(
        self,
        seed: int,
        purpose: str,
        task: str,
        images: Sequence[int],
        draws: Sequence[int] | None = None,
        device: str | torch.device = "cpu",
        dtype: torch.dtype = torch.float32,
        block: int = BLOCK,
    ) -> None:
        draws = [0] * len(images) if draws is None else draws
        self._key = seed, purpose, task
        self.images, self.draws = list(images), list(draws)
        self.device, self.dtype, self.block = torch.device(device), dtype, block
        self._generators = [
            torch.Generator(self.device).manual_seed(stream_seed(seed, purpose, task, image, draw))
            for image, draw in zip(self.images, self.draws, strict=True)
        ]
        self._blocks: dict[Callable, tuple[Tensor, int]] = {}
        self.shared = np.random.default_rng(stream_seed(seed, purpose, task))

    def _serve(self, sampler: Callable[..., Tensor], shape: Sequence[int]) -> Tensor:
        size = math.prod(shape)
        block, used = self._blocks.get(sampler, (None, 0))
        if block is None or used + size > block.shape[1]:
            options = {"device": self.device, "dtype": self.dtype}
            block = torch.stack([sampler(max(self.block, size), generator=g, **options) for g in self._generators])
            used = 0
        self._blocks[sampler] = block, used + size
        return block[:, used : used + size].reshape(-1, *shape)

    def randn(self, *shape: int) -> Tensor:
        """Standard normal numbers, (n, *shape)."""
        return self._serve(torch.randn, shape)

    def randn_like(self, x: Tensor) -> Tensor:
        """Standard normal numbers of the shape of ``x`` (n, *shape)."""
        return self.randn(*x.shape[1:])

    def rand(self, *shape: int) -> Tensor:
        """Uniform numbers in [0, 1), (n, *shape)."""
        return self._serve(torch.rand, shape)

    def particles(self, n_particles: int) -> "RNG":
        """A stream with ``n_particles`` rows for every image (image-major), seeded by (image, particle)."""
        images = [image for image in dict.fromkeys(self.images) for _ in range(n_particles)]
        draws = list(range(n_particles)) * (len(images) // n_particles)
        return type(self)(*self._key, images, draws, self.device, self.dtype)
