"""One matrix on every colour channel alike, given by its SVD, which is computed once and kept on disk."""

import functools
import hashlib
import inspect
from importlib.metadata import version
from pathlib import Path

import torch
import torch.nn.functional as F
from deepinv.physics import DecomposablePhysics
from safetensors.torch import save_file

from benchmark_utils.files.paths import cache_folder, write_atomically
from benchmark_utils.files.weights import read_safetensors

MAX_PIXELS = 64**2  # V has the square of this many entries: 134 MB in float64


class ShownByAdjoint:
    """Mixin of an operator whose measurement is no picture: ``A^T y`` is shown in its place."""

    def picture(self, y, noise):
        return self.A_adjoint(y)


class ChannelwiseSVD(DecomposablePhysics):
    """``A(x) = U diag(s) V^T x`` on each channel: (n, C, H, W) -> (n, C, *measured), the same matrices for all.

    ``left`` U has orthonormal columns (m, r), ``singular_values`` are the r that are not 0, ``right`` is V (H W, H W).
    The spectrum has shape (n, C, H W); its coordinates after the first r are the null space.
    """

    def __init__(self, left, singular_values, right, img_size, measured):
        self.rank = len(singular_values)
        super().__init__(img_size=tuple(img_size), mask=F.pad(singular_values, (0, len(right) - self.rank))[None, None])
        self.measured = tuple(measured)
        self.register_buffer("left", left)
        self.register_buffer("right", right)

    def V(self, spectrum, **_):
        return (spectrum @ self.right.mT).unflatten(2, self.img_size[1:])

    def V_adjoint(self, x):
        return x.flatten(2) @ self.right

    def U(self, spectrum):
        return (spectrum[..., : self.rank] @ self.left.mT).unflatten(2, self.measured)

    def U_adjoint(self, y, **_):
        return F.pad(y.flatten(2) @ self.left, (0, len(self.right) - self.rank))

    # without the null space, which costs as much as the rest
    def A(self, x, **_):
        return self.U(self.mask[..., : self.rank] * (x.flatten(2) @ self.right[:, : self.rank]))

    def A_adjoint(self, y, **_):
        spectrum = self.mask[..., : self.rank] * (y.flatten(2) @ self.left)
        return (spectrum @ self.right[:, : self.rank].mT).unflatten(2, self.img_size[1:])


def stored_svd(make_matrix, name, **parameters):
    """:func:`decompose` of ``make_matrix(**parameters)``, from the cache folder if it was computed before.

    The file's name has a hash of what it depends on: the parameters, deepinv's version and the sources. Of a matrix
    that is drawn, a parameter has the digest.
    """
    key = hashlib.sha256(repr((parameters, version("deepinv"))).encode())
    for source in (__file__, inspect.getfile(make_matrix)):
        key.update(Path(source).read_bytes())
    path = cache_folder() / "operators" / f"{name}-{key.hexdigest()[:16]}.safetensors"
    if not path.exists():
        tensors = dict(zip(("left", "singular_values", "right"), decompose(make_matrix(**parameters)), strict=True))
        write_atomically(path, functools.partial(save_file, tensors))
    return read_safetensors(path)


def decompose(matrix):
    """SVD of a matrix (m, d): U (m, r), the r singular values that are not 0, descending, and the square V (d, d).

    From one eigendecomposition of the smaller of ``A A^T`` and ``A^T A``; a QR makes the other factor orthonormal to
    rounding and completes V. Singular values below 1e-6 of the largest count as 0. The basis of equal singular
    values, which is the library's choice, is turned into one that depends on the matrix alone, so that draws in
    these coordinates are the same on every machine.
    """
    m, d = matrix.shape
    eigenvalues, vectors = torch.linalg.eigh(matrix.mT @ matrix if m > d else matrix @ matrix.mT)
    eigenvalues, vectors = eigenvalues.flip(0), vectors.flip(1)
    rank = int((eigenvalues > 1e-12 * eigenvalues[0]).sum())
    vectors = vectors[:, :rank]
    images = vectors.clone() if m > d else matrix.mT @ vectors  # the right vectors, up to their lengths
    orient(eigenvalues[:rank], images, vectors)
    right, triangle = torch.linalg.qr(images, mode="complete")
    right[:, :rank] *= triangle.diagonal().sign()
    if m > d:
        vectors, triangle = torch.linalg.qr(matrix @ right[:, :rank])
        vectors = vectors * triangle.diagonal().sign()
    return vectors.contiguous(), eigenvalues[:rank].sqrt(), right.contiguous()


def orient(eigenvalues, right, other):
    """Turn the columns of equal eigenvalues, in place, so that those of ``right`` meet fixed directions in a triangle.

    ``other`` is turned alike. A single column gets its sign.
    """
    starts = 1 + (-eigenvalues.diff() > 1e-12 * eigenvalues[0]).nonzero()[:, 0]
    groups = torch.arange(len(eigenvalues)).tensor_split(starts)
    generator = torch.Generator().manual_seed(0)
    fixed = torch.randn(max(map(len, groups)), len(right), generator=generator, dtype=right.dtype)
    for columns in groups:
        turn, triangle = torch.linalg.qr(right[:, columns].mT @ fixed[: len(columns)].mT)
        turn *= triangle.diagonal().sign()
        for basis in (right, other):
            basis[:, columns] = basis[:, columns] @ turn
