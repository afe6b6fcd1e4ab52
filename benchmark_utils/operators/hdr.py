"""High dynamic range: the sensor saturates."""

from deepinv.physics import Physics


class HDR(Physics):
    """``A(x) = clip(2 x, -1, 1)`` on [-1, 1] signals of any shape; its gradient is 0 where it saturates.

    RED-diff (Mardani et al. 2024, https://arxiv.org/abs/2305.04391, section 5.2).
    """

    def A(self, x, **_):
        return (2 * x).clamp(-1, 1)

    def first_guess(self, y):
        return y / 2
