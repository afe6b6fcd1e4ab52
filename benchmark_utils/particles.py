"""Resampling for particle methods: one filter per image or per sample, never across images."""

import torch


class Particles:
    """``n_filters`` filters of N particles each; rows are filter-major (filter, particle).

    Parameters
    ----------
    rng : RNG with ``n_filters * N`` rows; each particle draws its own resampling number from its row.

    ``ess`` (n_filters,) is the smallest effective sample size met so far, divided by N.
    """

    def __init__(self, rng, n_filters):
        self.rng, self.n_filters = rng, n_filters
        self.n_particles = len(rng.images) // n_filters
        self.ess = torch.ones(n_filters, dtype=torch.float64, device=rng.device)

    def _uniform(self):
        return self.rng.rand(1).double().view(self.n_filters, self.n_particles)

    def _rows(self, log_weights, positions):
        """Rows of the particles at positions in [0, 1) of their filter's cumulative weights; updates ``ess``."""
        weights = log_weights.view(self.n_filters, self.n_particles).softmax(1)
        self.ess = torch.minimum(self.ess, 1 / (self.n_particles * weights.square().sum(1)))
        cumulative = weights.cumsum(1)
        index = torch.searchsorted(cumulative, positions * cumulative[:, -1:], right=True)
        index = index.clamp(max=self.n_particles - 1)
        first = torch.arange(self.n_filters, device=index.device)[:, None] * self.n_particles
        return (first + index).flatten()

    def multinomial(self, log_weights):
        """Rows of N independent draws per filter by the weights; ``log_weights`` (n_filters * N,) in float64."""
        return self._rows(log_weights, self._uniform())

    def systematic(self, log_weights, n_draws=None):
        """Rows of N (or ``n_draws``) draws per filter at equal spacing of the cumulative weights."""
        n_draws = n_draws or self.n_particles
        spacing = torch.arange(n_draws, dtype=torch.float64, device=self.ess.device)
        return self._rows(log_weights, (spacing + self._uniform()[:, :1]) / n_draws)

    def ess_per_image(self, n_images):
        """Mean of ``ess`` over the filters of each image: (n_images,)."""
        return self.ess.view(n_images, -1).mean(1)
