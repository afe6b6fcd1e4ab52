"""Adam's normalisation of the guidance along the trajectory of a sampler."""


class AdamMoments:
    """Moments of the gradients of one run, value by value, so that rows never meet.

    Belardi, Lovelace, Weinberger and Gomes, ICLR 2026, https://arxiv.org/abs/2603.16797; Adam with its bias correction
    and epsilon = 1e-8. ``beta1`` and ``beta2`` in [0, 1) are the decays of the mean and of the squares.
    """

    def __init__(self, beta1, beta2):
        self.beta1, self.beta2 = beta1, beta2
        self.mean = self.square = 0.0
        self.n_calls = 0

    def __call__(self, gradient):
        """The normalised gradient, whose values have size about 1; (n, *event) -> (n, *event)."""
        self.n_calls += 1
        self.mean = self.beta1 * self.mean + (1 - self.beta1) * gradient
        self.square = self.beta2 * self.square + (1 - self.beta2) * gradient**2
        mean, square = self.mean / (1 - self.beta1**self.n_calls), self.square / (1 - self.beta2**self.n_calls)
        return mean / (square.sqrt() + 1e-8)
