"""The mixture of four stems: the measurement of music source separation."""

import torch
from deepinv.physics import DecomposablePhysics


class StemSum(DecomposablePhysics):
    """``A(x) = x_1 + x_2 + x_3 + x_4``: (n, 4, L) -> (n, 1, L).

    ``V`` is the symmetric 4 x 4 Hadamard matrix over 2 on the stem axis, whose entries are +-1/2: its first row gives
    ``A`` with singular value 2, the other rows are the null space. The spectrum has the shape of x.
    """

    separation = True

    def __init__(self):
        super().__init__(mask=torch.tensor([2.0, 0.0, 0.0, 0.0], dtype=torch.float64)[None, :, None])
        pair = torch.tensor([[1.0, 1.0], [1.0, -1.0]], dtype=torch.float64)
        self.register_buffer("basis", torch.kron(pair, pair) / 2)

    def A(self, x, **_):
        return x.sum(1, keepdim=True)

    def A_adjoint(self, y, **_):
        return y.expand(-1, 4, -1)

    def A_dagger(self, y, **_):
        return self.A_adjoint(y) / 4

    def prox_l2(self, z, y, gamma, **_):
        """``argmin_x gamma / 2 ||A x - y||^2 + 1/2 ||x - z||^2``, as a correction of z.

        The form ``(A^T A + I / gamma)^{-1} (A^T y + z / gamma)`` loses z to rounding in float32 for a large gamma.
        """
        return z + self.A_adjoint(y - self.A(z)) / (4 + 1 / gamma)

    def U(self, spectrum):
        return spectrum[:, :1]

    def U_adjoint(self, y, **_):
        return torch.cat([y, y.new_zeros(len(y), 3, y.shape[2])], 1)

    def V(self, spectrum, **_):
        return self.basis @ spectrum

    def V_adjoint(self, x):
        return self.basis @ x
