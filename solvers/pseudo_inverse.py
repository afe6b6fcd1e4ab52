from benchmark_utils.sampler import PosteriorSampler


class Solver(PosteriorSampler):
    """Baseline without a prior: the Moore-Penrose pseudo-inverse ``A^+ y`` of deepinv's operator.

    It inverts every singular value above 1e-5, so a blur turns into amplified noise.
    """

    name = "pseudo_inverse"
    needs = {"linear"}

    def sample(self, problem, prior, rng):
        return problem.operator.A_dagger(problem.y)
