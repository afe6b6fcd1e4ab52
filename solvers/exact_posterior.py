from benchmark_utils.sampler import PosteriorSampler


class Solver(PosteriorSampler):
    """Reference: exact draws from p(x | y), where the prior and the linear-Gaussian problem have a closed form.

    A mixture of factor analysers stays one under y = A x + sigma eps (see ``benchmark_utils.priors.mixture``).
    """

    name = "exact_posterior"
    needs = {"closed_form"}

    def sample(self, problem, prior, rng):
        return prior.posterior(problem.with_draws(1)).sample(rng)
