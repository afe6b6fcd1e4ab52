"""Run azula's guided denoisers: ours as its denoiser and schedule, flat measurements, and our DDIM steps."""

import importlib.util

from benchmark_utils.sampler import PosteriorSampler


class AzulaSampler(PosteriorSampler):
    """DDIM(eta) with the guided denoiser of :meth:`guide`, one of the classes of ``azula.guidance``.

    The steps are ours, since azula draws their noise from torch's global generator, over the batch.
    """

    needs = {"linear", "gaussian"}
    ranges = {"eta": (0, 1)}

    def skip(self, problem, prior, **_):
        skipped, reason = super().skip(problem, prior)
        if not skipped and importlib.util.find_spec("azula") is None:
            return True, f'{self.name} needs the package azula: pip install ".[azula]" -c constraints.txt'
        return skipped, reason

    def guide(self, denoiser, y, A, variance):
        """azula's guided denoiser, a module of (x_t, t), for y (n, m), A from (n, *event) to (n, m), noise variance."""
        raise NotImplementedError

    def sample(self, problem, prior, rng):
        # azula's solvers of linear systems take inner products over the last axis
        guided = self.guide(
            adapt_prior(prior), problem.y.flatten(1), lambda x: problem.A(x).flatten(1), problem.noise.std**2
        )
        schedule = prior.schedule
        x = rng.randn(*prior.event_shape)
        for t, s in self.steps(schedule.grid(self.n_steps)):
            x = schedule.sample_bridge(guided(x, t).mean, x, 0, s, t, rng, self.eta)
        return x


def adapt_prior(prior):
    """A loaded prior as azula's denoiser, whose time is our level t = 1..T."""
    from azula.denoise import Denoiser, DiracPosterior  # optional
    from azula.noise import Schedule

    class Levels(Schedule):
        def __call__(self, t):
            abar = prior.schedule.abar(t)
            return abar**0.5, (1 - abar) ** 0.5

    class PriorDenoiser(Denoiser):
        schedule = Levels()

        def forward(self, x_t, t):
            # a copy: azula differentiates by the mean too, which is no backward pass through the network
            return DiracPosterior(prior.denoise(x_t, t).clone())

    return PriorDenoiser()
