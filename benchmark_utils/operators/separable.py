"""Linear operators that act on the rows and on the columns of an image, with an exact SVD from two small ones."""

import torch
import torch.nn.functional as F
from deepinv.physics import DecomposablePhysics


def orthonormal_dct(size):
    """Matrix (size, size) of the orthonormal DCT-II in float64; row k is the k-th frequency."""
    k = torch.arange(size, dtype=torch.float64)
    dct = torch.cos(torch.pi / size * (k + 0.5) * k[:, None]) * (2 / size) ** 0.5
    dct[0] /= 2**0.5
    return dct


class Separable(DecomposablePhysics):
    """``A(x) = R x C^T`` on every channel: (n, channels, H, W) -> (n, channels, h, w), R (h, H), C (w, W).

    With ``R = U_R S_R V_R^T`` and ``C = U_C S_C V_C^T`` the spectrum is ``V_R^T x V_C``, of the shape of the
    image, and its coordinate (i, j) has singular value ``S_R[i] S_C[j]``; they are not sorted.
    Products below 1e-12, the rounding of the two factors, are set to 0 and count as null space.
    """

    def __init__(self, rows, columns, img_size):
        (h, height), (w, width) = rows.shape, columns.shape
        u_rows, s_rows, vt_rows = torch.linalg.svd(rows.double())
        u_columns, s_columns, vt_columns = torch.linalg.svd(columns.double())
        singular_values = torch.zeros(1, 1, height, width, dtype=torch.float64)
        singular_values[..., :h, :w] = torch.outer(s_rows, s_columns)
        singular_values[singular_values < 1e-12] = 0
        super().__init__(img_size=tuple(img_size), mask=singular_values)
        self.register_buffer("u_rows", u_rows)
        self.register_buffer("u_columns", u_columns)
        self.register_buffer("vt_rows", vt_rows)
        self.register_buffer("vt_columns", vt_columns)

    def V_adjoint(self, x):
        return self.vt_rows @ x @ self.vt_columns.mT

    def V(self, spectrum, **_):
        return self.vt_rows.mT @ spectrum @ self.vt_columns

    def U(self, spectrum):
        h, w = len(self.u_rows), len(self.u_columns)
        return self.u_rows @ spectrum[..., :h, :w] @ self.u_columns.mT

    def U_adjoint(self, y, **_):
        height, width = self.mask.shape[-2:]
        spectrum = self.u_rows.mT @ y @ self.u_columns
        return F.pad(spectrum, (0, width - y.shape[-1], 0, height - y.shape[-2]))
