"""The view of flow methods: ``x_tau = tau x_0 + (1 - tau) eps``, noise alone at tau = 0 and data at tau = 1.

``x_tau / tau = x_0 + sigma eps`` with ``sigma = (1 - tau) / tau``: every prior is one of these methods' too.
What their authors train is the velocity ``E[x_0 - eps | x_tau]``.
"""


def flow_sigma(prior, tau):
    """Noise level ``(1 - tau) / tau`` of time ``tau`` in [0, 1), at most the largest that the prior was trained on."""
    largest = prior.schedule.sigma(prior.schedule.T)
    return min((1 - tau) / tau, largest) if tau > 0 else largest


def denoise_flow(prior, x, tau):
    """``E[x_0 | x_tau = x]``, (n, *event) -> (n, *event), differentiable.

    At times before that of the largest trained level x is noise almost alone, which is scaled to that level.
    """
    sigma = flow_sigma(prior, tau)
    return prior.denoise_sigma(sigma / (1 - tau) * x, sigma)


def flow_velocity(x, x_hat, tau):
    """``E[x_0 - eps | x_tau = x]`` of x and its denoised image, both (n, *event)."""
    return (x_hat - x) / (1 - tau)


def flow_variance(tau):
    """Variance of x_0 given x_tau under x_0 ~ N(0, I), the ``r^2`` of flow methods."""
    return (1 - tau) ** 2 / (tau**2 + (1 - tau) ** 2)
