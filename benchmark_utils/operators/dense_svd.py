"""Linear operators on vectors that are given by the matrices of their SVD."""

import torch
import torch.nn.functional as F
from deepinv.physics import DecomposablePhysics


class DenseSVD(DecomposablePhysics):
    """``A(x) = U diag(s) V^T x``: (n, d) -> (n, m) for ``U`` (m, m), ``s`` (m,) and ``V`` (d, d), m <= d.

    The spectrum has d coordinates; those after the first m have singular value 0.
    """

    def __init__(self, left, singular_values, right):
        m, d = len(left), len(right)
        super().__init__(img_size=(d,), mask=F.pad(singular_values, (0, d - m))[None])
        self.register_buffer("left", left)
        self.register_buffer("right", right)

    def V(self, spectrum, **_):
        return spectrum @ self.right.mT

    def V_adjoint(self, x):
        return x @ self.right

    def U(self, spectrum):
        return spectrum[:, : len(self.left)] @ self.left.mT

    def U_adjoint(self, y, **_):
        return F.pad(y @ self.left, (0, len(self.right) - len(self.left)))


def random_svd(m, d, generator):
    """The random operator of MCGDiff (Cardoso et al. 2024, https://arxiv.org/abs/2308.07983, section 5).

    The singular vectors are those of a standard normal (m, d) matrix, the singular values sorted draws of U[0, 1].
    Raises ValueError unless 1 <= m <= d.
    """
    if not 1 <= m <= d:
        raise ValueError(f"the number of measurements must lie in 1..{d}, the dimension, got {m}")
    gaussian = torch.randn(m, d, generator=generator, dtype=torch.float64)
    left, _, right_transposed = torch.linalg.svd(gaussian)
    singular_values = torch.rand(m, generator=generator, dtype=torch.float64).sort(descending=True).values
    return DenseSVD(left, singular_values, right_transposed.mT.contiguous())
