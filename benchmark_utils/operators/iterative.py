"""Linear operators whose proximal map and pseudo-inverse come from conjugate gradients."""

import copy

from deepinv.physics import LinearPhysics

FIRST_STEPS = 10


class Iterative(LinearPhysics):
    """A linear operator of (n, *img_size) without an SVD: subclasses define ``A`` and its exact ``A_adjoint``.

    ``prox_l2`` and ``A_dagger`` are 200 of deepinv's conjugate gradient steps, always all of them (a tolerance is
    tested over the whole batch, which would couple its images).
    """

    def __init__(self, img_size):
        super().__init__(img_size=tuple(img_size), max_iter=200, tol=0.0)

    # deepinv's eps, 1e-8, is added to squared norms: conjugate gradients would stall at an error of about 1e-5
    def prox_l2(self, z, y, gamma, **_):
        return super().prox_l2(z, y, gamma, eps=1e-30)

    def A_dagger(self, y, **_):
        return super().A_dagger(y, eps=1e-30)

    def first_guess(self, y):
        """``A_dagger`` after ten steps, too few for the noise to grow."""
        short = copy.copy(self)
        short.max_iter = FIRST_STEPS
        return short.A_dagger(y)
