from benchmark_utils.sampler import PosteriorSampler


class Solver(PosteriorSampler):
    """Baseline: the mixture itself for every stem. Its improvement over the mixture is 0 dB."""

    name = "unseparated"
    test_config = {"dataset": {"name": "slakh2100"}}
    needs = {"separation"}

    def sample(self, problem, prior, rng):
        return problem.y.expand(-1, *prior.event_shape)
