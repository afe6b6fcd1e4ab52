"""Every forward operator against its definition: adjoint, SVD, proximal map, gradient, one row alone and in a batch."""

import copy
import io

import cloudpickle
import numpy as np
import pytest
import scipy.fft
import scipy.ndimage
import scipy.stats
import torch
from deepinv.physics import MRI as DeepinvMRI
from deepinv.physics import BlurFFT, CompressedSensing, DecomposablePhysics, SinglePixelCamera, Tomography
from helpers import read_thumbnails
from PIL import Image

from benchmark_utils.noise import GaussianNoise, PoissonNoise
from benchmark_utils.operators import channelwise
from benchmark_utils.operators import jpeg as jpeg_module
from benchmark_utils.operators.blur import GaussianBlur, MotionBlur, blur, gaussian_blur, motion_blur, n_taps
from benchmark_utils.operators.channelwise import decompose
from benchmark_utils.operators.colorization import Colorization
from benchmark_utils.operators.compressed_sensing import Projections, compressed_sensing, gaussian_matrix
from benchmark_utils.operators.denoising import denoising
from benchmark_utils.operators.hdr import HDR
from benchmark_utils.operators.inpainting import inpainting
from benchmark_utils.operators.jpeg import jpeg
from benchmark_utils.operators.mri import MRI, mri, random_columns
from benchmark_utils.operators.nonlinear_blur import KernelWizard, load_kernel_wizard, nonlinear_blur, published_name
from benchmark_utils.operators.phase_retrieval import PhaseRetrieval
from benchmark_utils.operators.single_pixel import single_pixel
from benchmark_utils.operators.super_resolution import super_resolution
from benchmark_utils.operators.tomography import ParallelBeam, projection_matrix, tomography
from benchmark_utils.priors import Prior
from benchmark_utils.priors.mixture import FactorAnalyserMixture
from benchmark_utils.problem import InverseProblem, capabilities, count_observed, has_svd
from benchmark_utils.rng import RNG, stream_seed
from objective import Objective

IMAGES = (0, 5, 7)


def motion_5_taps(shape):
    kernels = torch.rand(len(IMAGES), 1, 5, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return MotionBlur(kernels, shape)


def motion_61_taps(shape):
    return MotionBlur(motion_blur((3, 256, 256), IMAGES).kernels, shape)


# name: (function of the shape, needs of the size)
WITH_SVD = {
    "box": lambda shape: inpainting("box", shape),
    "half": lambda shape: inpainting("half", shape),
    "random": lambda shape: inpainting("random", shape, IMAGES),
    "denoising": denoising,
    "colorization": Colorization,
}
FACTORS = {
    "average4": lambda shape: super_resolution("average", 4, shape),
    "bicubic4": lambda shape: super_resolution("bicubic", 4, shape),
}
FACTORS_3 = {
    "average3": lambda shape: super_resolution("average", 3, shape),
    "bicubic3": lambda shape: super_resolution("bicubic", 3, shape),
}
FACTORS_16 = {
    "average16": lambda shape: super_resolution("average", 16, shape),
    "bicubic16": lambda shape: super_resolution("bicubic", 16, shape),
}
GAUSSIANS_5 = {
    "gaussian_zero5": lambda shape: GaussianBlur(1.0, 5, shape, "zero"),
    "gaussian_reflect5": lambda shape: GaussianBlur(1.0, 5, shape, "reflect"),
}
GAUSSIANS = {
    "gaussian": gaussian_blur,
    "gaussian_reflect": lambda shape: gaussian_blur(shape, "reflect"),
}
GAUSSIANS_61 = {
    "gaussian_zero61": lambda shape: GaussianBlur(3.0, 61, shape, "zero"),
    "gaussian_reflect61": lambda shape: GaussianBlur(3.0, 61, shape, "reflect"),
}
MATRICES_8 = {  # more measurements than pixels, and fewer, which leaves a null space
    "ct30": lambda shape: tomography(30, shape),
    "ct3": lambda shape: tomography(3, shape),
    "projections": lambda shape: compressed_sensing(0.25, shape),
}
PATTERNS = {"single_pixel": lambda shape: single_pixel(0.25, shape)}
FOURIER = {"mri2": lambda shape: mri(2, shape)}
ITERATIVE_CT = {"beams": lambda shape: ParallelBeam(7, shape)}
ITERATIVE = {"projection_matrix": lambda shape: Projections(gaussian_matrix(20, shape[1] * shape[2]), shape)}
MOTIONS = {"motion": lambda shape: motion_blur(shape, IMAGES)}
NONLINEAR = {
    "jpeg": lambda shape: jpeg(2),
    "phase_retrieval": lambda shape: PhaseRetrieval(),
    "hdr": lambda shape: HDR(),
}
SOFT_JPEG = {"soft_jpeg": lambda shape: jpeg(2, "soft")}

SVD_CASES = [
    *(
        ((3, 8, 8), name, make)
        for name, make in ((WITH_SVD | FACTORS | GAUSSIANS_5 | MATRICES_8 | PATTERNS | FOURIER).items())
    ),
    *(((3, 9, 6), name, make) for name, make in (WITH_SVD | FACTORS_3 | GAUSSIANS_5 | FOURIER).items()),
]
LINEAR_CASES = [
    *SVD_CASES,
    *(((3, 16, 16), name, make) for name, make in (WITH_SVD | FACTORS | FACTORS_16 | GAUSSIANS_5).items()),
    *(((3, size, width), "motion5", motion_5_taps) for size, width in ((8, 8), (16, 16), (17, 15))),
    *(
        ((3, 64, 64), name, make)
        for name, make in (WITH_SVD | FACTORS | FACTORS_16 | GAUSSIANS | GAUSSIANS_61 | MOTIONS).items()
    ),
    ((3, 64, 64), "motion61", motion_61_taps),
    *(((3, 16, 16), name, make) for name, make in (ITERATIVE_CT | ITERATIVE | MATRICES_8 | PATTERNS).items()),
    *(((3, 64, 64), name, make) for name, make in (ITERATIVE_CT | PATTERNS | FOURIER).items()),
    *(((3, 33, 47), name, make) for name, make in (ITERATIVE | FOURIER).items()),
    *(((3, 33, 47), name, make) for name, make in (WITH_SVD | GAUSSIANS | MOTIONS).items()),
]
ALL_CASES = [
    *LINEAR_CASES,
    *(((3, 16, 16), name, make) for name, make in (NONLINEAR | SOFT_JPEG).items()),
    *(((3, 64, 64), name, make) for name, make in (NONLINEAR | SOFT_JPEG).items()),
    *(((3, 33, 47), name, make) for name, make in NONLINEAR.items()),
]


def grid(cases):
    ids = [f"{name}-{shape[1]}x{shape[2]}" for shape, name, _ in cases]
    return pytest.mark.parametrize("shape, name, make", cases, ids=ids)


def random_images(shape, n=3, seed=0):
    return 2 * torch.rand(n, *shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) - 1


def repeated(operator, n):
    """The operator of the first image for n rows."""
    return operator.take([0] * n) if hasattr(operator, "take") else operator


def dense_matrix(operator, shape):
    """The matrix (m, d) of the operator of the first image."""
    d = int(np.prod(shape))
    columns = repeated(operator, d).A(torch.eye(d, dtype=torch.float64).view(d, *shape))
    return columns.flatten(1).mT


@grid(LINEAR_CASES)
def test_adjoint(shape, name, make):
    operator = make(shape).double()
    x = random_images(shape)
    y = operator.A(x)
    u = random_images(y.shape[1:], seed=1)
    left, right = (y * u).flatten(1).sum(1), (x * operator.A_adjoint(u)).flatten(1).sum(1)
    torch.testing.assert_close(left, right, rtol=0, atol=1e-10)


@grid(SVD_CASES)
def test_svd_is_that_of_the_dense_matrix(shape, name, make):
    operator = repeated(make(shape).double(), 1)
    matrix = dense_matrix(operator, shape)
    d = matrix.shape[1]
    basis = torch.eye(d, dtype=torch.float64).view(d, *shape)
    spectral = operator.V_adjoint(basis[:1]).shape[1:]
    v = repeated(operator, d).V(basis.view(d, *spectral)).flatten(1).mT
    torch.testing.assert_close(v.mT @ v, torch.eye(d, dtype=torch.float64), rtol=0, atol=1e-10)
    vt = repeated(operator, d).V_adjoint(basis).flatten(1).mT
    torch.testing.assert_close(vt, v.mT, rtol=0, atol=1e-10)
    singular = operator.mask.expand(1, *spectral).flatten()
    assert (singular >= 0).all()
    # A v_i has norm s_i, and different A v_i are orthogonal: the columns of U are orthonormal
    gram = (matrix @ v).mT @ (matrix @ v)
    torch.testing.assert_close(gram, singular.square().diag(), rtol=0, atol=1e-10)
    sorted_values = singular.sort(descending=True).values
    torch.testing.assert_close(
        sorted_values[: len(matrix)], torch.linalg.svdvals(matrix)[: len(singular)], rtol=0, atol=1e-10
    )
    x = random_images(shape, 1)
    y, spectrum = operator.A(x), operator.mask * operator.V_adjoint(x)
    torch.testing.assert_close(operator.U(spectrum), y, rtol=0, atol=1e-10)
    torch.testing.assert_close(operator.U_adjoint(y), spectrum, rtol=0, atol=1e-10)


@grid(SVD_CASES)
def test_prox_and_pseudo_inverse_against_the_dense_matrix(shape, name, make):
    operator = repeated(make(shape).double(), 1)
    matrix = dense_matrix(operator, shape)
    z = random_images(shape, 1)
    y = operator.A(random_images(shape, 1, seed=2))
    gamma = 7.0
    flat_y, flat_z = y.flatten(), z.flatten()
    system = gamma * matrix.mT @ matrix + torch.eye(len(flat_z), dtype=torch.float64)
    prox = torch.linalg.solve(system, gamma * matrix.mT @ flat_y + flat_z)
    torch.testing.assert_close(operator.prox_l2(z, y, gamma).flatten(), prox, rtol=0, atol=1e-10)
    # deepinv counts singular values below 1e-5 as 0
    pseudo_inverse = torch.linalg.pinv(matrix, atol=1e-5, rtol=0) @ flat_y
    torch.testing.assert_close(operator.A_dagger(y).flatten(), pseudo_inverse, rtol=0, atol=1e-10)


def test_iterative_prox_and_pseudo_inverse_of_motion_blur():
    """Conjugate gradients: the prox, of condition 8, converges; of the pseudo-inverse the normal equation is tested."""
    shape = (3, 8, 8)
    operator = motion_5_taps(shape).double()
    z, x = random_images(shape), random_images(shape, seed=2)
    y = operator.A(x)
    prox, pseudo_inverse = operator.prox_l2(z, y, 7.0), operator.A_dagger(y)
    matrix = dense_matrix(operator, shape)
    system = 7.0 * matrix.mT @ matrix + torch.eye(z[0].numel(), dtype=torch.float64)
    expected = torch.linalg.solve(system, 7.0 * matrix.mT @ y[0].flatten() + z[0].flatten())
    torch.testing.assert_close(prox[0].flatten(), expected, rtol=0, atol=1e-8)
    normal_equation = operator.A_adjoint(operator.A(pseudo_inverse) - y)
    assert normal_equation.norm() < 1e-3 * operator.A_adjoint(y).norm()
    alone = operator.take([1])
    torch.testing.assert_close(alone.prox_l2(z[1:2], y[1:2], 7.0), prox[1:2], rtol=0, atol=1e-8)


GRADIENT_CASES = [case for case in ALL_CASES if max(case[0]) <= 17]


@grid(GRADIENT_CASES)
def test_gradient(shape, name, make):
    operator = repeated(make(shape).double(), 1)
    x = random_images(shape, 1).requires_grad_()
    assert torch.autograd.gradcheck(operator.A, (x,), fast_mode=True, atol=1e-6)


def test_gradients_are_finite_where_the_modulus_is_zero():
    x = -torch.ones(1, 3, 16, 16, dtype=torch.float64, requires_grad=True)
    y = PhaseRetrieval().A(x)
    assert (y == 0).all()
    (gradient,) = torch.autograd.grad(y.sum(), x)
    assert (gradient == 0).all()


@grid(ALL_CASES)
def test_same_result_again_alone_and_after_a_copy(shape, name, make):
    operator = make(shape).double()
    x = random_images(shape)
    y = operator.A(x)
    assert torch.equal(make(shape).double().A(x), y)
    for row in range(len(IMAGES)):
        alone = operator.take([row]) if hasattr(operator, "take") else operator
        torch.testing.assert_close(alone.A(x[row : row + 1]), y[row : row + 1], rtol=0, atol=1e-12)
    for other in (copy.deepcopy(operator), cloudpickle.loads(cloudpickle.dumps(operator))):
        assert torch.equal(other.A(x), y)
    single = operator.float().A(x.float())
    assert single.dtype == torch.float32
    torch.testing.assert_close(single, y.float(), rtol=0, atol=1e-4)


@pytest.mark.parametrize("make", [WITH_SVD["random"], MOTIONS["motion"]], ids=["random", "motion"])
def test_per_image_operators_follow_their_image(make):
    """The same map whichever images it comes with, in problems of picked and repeated rows, and another per image."""
    shape = (3, 16, 16)
    operator = make(shape).double()
    x = random_images(shape)
    problem = InverseProblem(operator, GaussianNoise(0.05), operator.A(x), "random", 768, IMAGES)
    picked = problem.rows([2, 0], n_draws=2)
    assert picked.images == (7, 7, 0, 0)
    assert picked.residual(x[[2, 2, 0, 0]]).abs().max() < 1e-12
    assert picked.with_draws(3).residual(x[[2] * 3 + [0] * 3]).abs().max() < 1e-12
    same = x[:1].expand(len(IMAGES), -1, -1, -1)
    assert (operator.A(same)[0] - operator.A(same)[1]).abs().max() > 0.1


def test_masks_and_kernels_belong_to_the_image_number():
    shape = (3, 16, 16)
    assert torch.equal(inpainting("random", shape, (5,)).mask, inpainting("random", shape, IMAGES).mask[1:2])
    assert torch.equal(motion_blur(shape, (5,)).kernels, motion_blur(shape, IMAGES).kernels[1:2])


@pytest.mark.parametrize("size", [16, 33])
@pytest.mark.parametrize("hidden", [0.7, 0.92])
def test_random_masks_hide_the_same_number_of_pixels(size, hidden):
    operator = inpainting("random", (3, size, size), range(6), hidden)
    n_hidden = (operator.mask == 0).flatten(1).sum(1)
    assert (n_hidden == round(hidden * size**2)).all()
    assert count_observed(operator, torch.zeros(6, 3, size, size)) == 3 * (size**2 - round(hidden * size**2))


def test_random_masks_are_uniform():
    """Each of 64 pixels is hidden in 0.7 of 400 masks, within 5 standard deviations."""
    frequency = 1 - inpainting("random", (3, 8, 8), range(400)).mask.mean(0)
    p = round(0.7 * 64) / 64
    assert (frequency - p).abs().max() < 5 * (p * (1 - p) / 400) ** 0.5


@pytest.mark.parametrize("shape, sigma, taps", [((3, 16, 16), 1.0, 5), ((3, 64, 64), 3.0, 61), ((3, 33, 47), 0.4, 9)])
@pytest.mark.parametrize("padding, mode", [("zero", "constant"), ("reflect", "mirror")])
def test_gaussian_blur_is_the_direct_convolution(shape, sigma, taps, padding, mode):
    x = random_images(shape, 1)
    y = GaussianBlur(sigma, taps, shape, padding).A(x)
    direct = scipy.ndimage.gaussian_filter(x[0].numpy(), (0, sigma, sigma), mode=mode, radius=(0, taps // 2, taps // 2))
    np.testing.assert_allclose(y[0], direct, rtol=0, atol=1e-10)


@pytest.mark.parametrize("shape, make", [((3, 17, 15), motion_5_taps), ((3, 64, 64), MOTIONS["motion"])])
def test_motion_blur_is_the_direct_convolution(shape, make):
    operator = make(shape).double()
    x = random_images(shape)
    y = operator.A(x)
    for i in range(len(x)):
        direct = scipy.ndimage.convolve(x[i].numpy(), operator.kernels[i].numpy(), mode="mirror")
        np.testing.assert_allclose(y[i], direct, rtol=0, atol=1e-10)


def test_blur_sizes_scale_with_the_resolution():
    assert [n_taps(height) for height in (256, 128, 64, 512)] == [61, 31, 15, 121]
    point = torch.zeros(1, 1, 256, 256, dtype=torch.float64)
    point[..., 128, 128] = 1
    reference = scipy.stats.norm.pdf(np.arange(-30, 31), scale=3)
    y = gaussian_blur((1, 256, 256)).A(point)
    np.testing.assert_allclose(y[0, 0, 98:159, 98:159], np.outer(reference, reference), rtol=0, atol=1e-8)
    assert motion_blur((3, 64, 64), (0,)).kernels.shape == (1, 1, 15, 15)


@pytest.mark.parametrize("factor", [2, 4, 16])
def test_bicubic_is_pillow_s(factor):
    """To the float32 arithmetic of Pillow."""
    x = random_images((3, 64, 32), 1)
    y = super_resolution("bicubic", factor, (3, 64, 32)).A(x)
    channel = Image.fromarray(x[0, 1].numpy().astype(np.float32))
    resized = np.array(channel.resize((32 // factor, 64 // factor), Image.Resampling.BICUBIC))
    np.testing.assert_allclose(y[0, 1], resized, rtol=0, atol=1e-5)


def test_block_average_and_colorization_are_means():
    x = random_images((3, 12, 9), 1)
    average = x.numpy().reshape(1, 3, 4, 3, 3, 3).mean((3, 5))
    np.testing.assert_allclose(super_resolution("average", 3, (3, 12, 9)).A(x), average, atol=1e-12)
    np.testing.assert_allclose(Colorization((3, 12, 9)).A(x)[:, 0], x.mean(1), atol=1e-12)


@pytest.mark.parametrize("shape", [(3, 64, 64), (3, 33, 47)])
def test_jpeg_measurement_is_pillow_s_decode(shape):
    pixels = np.random.default_rng(0).integers(0, 256, (2, *shape), dtype=np.uint8)
    y = jpeg(2).measure(torch.from_numpy(pixels).double() / 127.5 - 1)
    for i in range(2):
        file = io.BytesIO()
        Image.fromarray(pixels[i].transpose(1, 2, 0)).save(file, "JPEG", quality=2)
        decoded = np.array(Image.open(file), dtype=float).transpose(2, 0, 1) / 127.5 - 1
        assert np.array_equal(y[i].numpy(), decoded)


def test_differentiable_jpeg_is_near_the_real_one():
    """Mean distance 0.024 on these four faces; a wrong range, quality or chroma makes it several times as large."""
    x = read_thumbnails(4).double()
    assert (jpeg(2).A(x) - jpeg(2).measure(x)).abs().mean() < 0.04


def test_soft_jpeg_quantises_block_dcts():
    """On grey images: the luminance alone, against scipy's DCT."""
    grey = np.random.default_rng(0).uniform(-1, 1, (16, 32))
    y = jpeg(30, "soft").A(torch.from_numpy(grey).expand(1, 3, 16, 32).clone())
    table = np.array(jpeg_module.LUMINANCE) * 50 / 30
    expected = np.empty_like(grey)
    for i in range(0, 16, 8):
        for j in range(0, 32, 8):
            u = scipy.fft.dctn((grey[i : i + 8, j : j + 8] + 1) * 127.5 - 128, norm="ortho") / table
            soft = np.round(u) + (u - np.round(u)) ** 3
            expected[i : i + 8, j : j + 8] = scipy.fft.idctn(soft * table, norm="ortho") + 128
    expected = expected.clip(0, 255) / 127.5 - 1
    np.testing.assert_allclose(y[0].numpy(), np.broadcast_to(expected, (3, 16, 32)), rtol=0, atol=1e-3)


def test_soft_jpeg_tables_are_those_of_a_file_of_quality_50():
    file = io.BytesIO()
    Image.new("RGB", (16, 16)).save(file, "JPEG", quality=50)
    tables = Image.open(file).quantization
    assert list(tables[0]) == list(np.ravel(jpeg_module.LUMINANCE))
    assert list(tables[1]) == list(np.ravel(jpeg_module.CHROMINANCE))


def test_soft_jpeg_keeps_colours_at_quality_100():
    """Steps of at least 1 change a pixel of a smooth picture by less than a grey level or two."""
    x = (
        torch.linspace(-0.9, 0.9, 32, dtype=torch.float64).expand(1, 3, 32, 32)
        * torch.tensor([1.0, -0.5, 0.3])[:, None, None]
    )
    assert (jpeg(100, "soft").A(x) - x).abs().max() < 4 / 127.5


def test_the_data_are_measured_and_the_likelihood_is_not():
    """The objective's y is the decoded file plus the noise of its stream."""
    x = read_thumbnails(2)
    objective = Objective.get_instance()
    objective.get_seed = lambda **_: 0
    prior = Prior("faces64")
    objective.set_data(jpeg(2), GaussianNoise(0.05), "jpeg2", prior, ("lpips",), (0, 1), ("a", "b"), 1, x_true=x)
    stream = RNG(0, "measurement", "jpeg2", (0, 1), dtype=torch.float64)
    y = jpeg(2).measure(x.double()) + 0.05 * stream.randn(3, 64, 64)
    assert torch.equal(objective.problem.y, y)
    assert torch.equal(objective.problem.A(x.double()), jpeg(2).A(x.double()))


@pytest.mark.parametrize("height, width", [(16, 16), (64, 64), (33, 47)])
def test_phase_retrieval_is_the_centred_orthonormal_fft(height, width):
    x = random_images((3, height, width), 1)
    y = PhaseRetrieval().A(x)
    h, w = height // 4, width // 4
    padded = np.pad((x.numpy() + 1) / 2, ((0, 0), (0, 0), (h, h), (w, w)))
    spectrum = np.fft.fftshift(np.fft.fft2(np.fft.ifftshift(padded, axes=(2, 3)), norm="ortho"), axes=(2, 3))
    np.testing.assert_allclose(y, np.abs(spectrum), rtol=0, atol=1e-12)


def test_hdr_saturates():
    x = torch.tensor([[-1.0, -0.5, -0.2, 0.0, 0.3, 0.5, 0.9]])
    torch.testing.assert_close(HDR().A(x), torch.tensor([[-1.0, -1.0, -0.4, 0.0, 0.6, 1.0, 1.0]]))


@pytest.mark.parametrize("angles", [3, 30])
def test_tomography_is_deepinv_s(angles):
    x = random_images((3, 8, 8))
    degrees = 180 / angles * torch.arange(angles, dtype=torch.float64)  # deepinv makes them in float32
    theirs = Tomography(degrees, 8, circle=False, normalize=False, dtype=torch.float64)
    expected = theirs.A(x) / 8
    for ours in (tomography(angles, (3, 8, 8)), ParallelBeam(angles, (3, 8, 8))):
        torch.testing.assert_close(ours.A(x), expected, rtol=0, atol=1e-10)
        torch.testing.assert_close(ours.A_adjoint(expected), theirs.A_adjoint(expected) / 8, rtol=0, atol=1e-10)
    torch.testing.assert_close(ours.A(torch.ones(1, 1, 8, 8).double())[0, 0, :, 0].sum(), torch.tensor(8.0).double())


def test_tomography_of_large_images_has_no_matrix():
    """256 px: linear, with the exact adjoint, without a table of the pixels' squared number."""
    shape = (3, 256, 256)
    operator = tomography(2, shape)
    assert capabilities(operator, GaussianNoise(0.05), Prior("ffhq256")) >= {"linear"}
    assert "svd" not in capabilities(operator, GaussianNoise(0.05), Prior("ffhq256"))
    assert max(buffer.numel() for buffer in operator.buffers()) < 256**2 * 20
    x = random_images(shape, 1)
    y = operator.A(x)
    u = random_images(y.shape[1:], 1, seed=1)
    torch.testing.assert_close((y * u).sum(), (x * operator.A_adjoint(u)).sum(), rtol=1e-10, atol=0)


@pytest.mark.parametrize("height, width", [(8, 8), (9, 6), (64, 64)])
def test_mri_is_deepinv_s(height, width):
    """Of real images: deepinv has the first pixel and frequency 0 in the middle, and zeros where nothing is seen."""
    x = random_images((3, height, width))
    ours = mri(2, (3, height, width))
    mask = torch.zeros(width, dtype=torch.float64)
    mask[ours.columns] = 1
    assert torch.equal(mask, ours.mask.flatten())
    theirs = DeepinvMRI(mask=torch.fft.fftshift(mask).expand(1, 1, height, width))
    real, imaginary = ours.A(x).chunk(2, 1)
    for c in range(3):
        slices = torch.fft.fftshift(torch.stack([x[:, c], torch.zeros_like(x[:, c])], 1), dim=(-2, -1))
        kspace = torch.fft.ifftshift(theirs.A(slices), dim=(-2, -1))[..., ours.columns]
        torch.testing.assert_close(torch.stack([real[:, c], imaginary[:, c]], 1), kspace, rtol=0, atol=1e-10)


@pytest.mark.parametrize("width, acceleration", [(64, 4), (64, 8), (256, 4), (256, 8), (9, 2), (8, 8)])
def test_columns_of_mri(width, acceleration):
    columns = random_columns(width, acceleration)
    assert len(columns) == len(columns.unique()) <= width / acceleration and columns.max() < width
    assert {(-int(k)) % width for k in columns} == {int(k) for k in columns}
    assert width / acceleration - len(columns) < 2
    centre = min(int(0.08 * width) // 2, len(columns) // 2)
    assert {k % width for k in range(-centre, centre + 1)} <= {int(k) for k in columns}


@pytest.mark.parametrize("size, fraction", [(8, 0.25), (64, 0.25), (64, 0.01)])
def test_single_pixel_is_deepinv_s(size, fraction):
    x, ours = random_images((3, size, size)), single_pixel(fraction, (3, size, size))
    m = round(fraction * size**2)
    theirs = SinglePixelCamera(m, (3, size, size), ordering="zig_zag", dtype=torch.float64)
    expected = theirs.A(x).flatten(2)
    assert ours.A(x).shape == (3, 3, m)
    torch.testing.assert_close(ours.A(x), expected[..., ours.seen], rtol=0, atol=1e-10)
    assert expected.count_nonzero() == 9 * m


@pytest.mark.parametrize("make", [lambda m: compressed_sensing(m / 64, (3, 8, 8)), None], ids=["svd", "matrix"])
def test_compressed_sensing_is_deepinv_s(make):
    x, m = random_images((3, 8, 8)), 16
    generator = torch.Generator().manual_seed(stream_seed(0, "operator", "compressed_sensing", m))
    theirs = CompressedSensing(m, (3, 8, 8), channelwise=True, dtype=torch.float64, rng=generator)
    ours = make(m) if make else Projections(gaussian_matrix(m, 64), (3, 8, 8))
    torch.testing.assert_close(ours.A(x), theirs.A(x), rtol=0, atol=1e-10)


def test_compressed_sensing_of_large_images_has_its_matrix_only():
    operator = compressed_sensing(0.001, (3, 256, 256))
    assert isinstance(operator, Projections) and operator.matrix.shape == (66, 65536)


@pytest.mark.parametrize("angles, width", [(3, 8), (30, 8), (5, 16)])
def test_the_basis_of_equal_singular_values_depends_on_the_matrix_alone(angles, width):
    """A^T A and not the order of its rows, for which LAPACK finds another basis: the turns by 90 degrees are pairs."""
    matrix = projection_matrix(angles, width)
    order = torch.randperm(len(matrix), generator=torch.Generator().manual_seed(1))
    left, singular, right = decompose(matrix)
    permuted, _, same = decompose(matrix[order])
    assert (singular.diff().abs() < 1e-12).any() or angles != 30
    torch.testing.assert_close(same, right, rtol=0, atol=1e-6)
    torch.testing.assert_close(permuted, left[order], rtol=0, atol=1e-6)


def test_a_decomposition_is_kept_on_disk(tmp_path, monkeypatch):
    monkeypatch.setenv("BENCHMARK_DIFFUSION_POSTERIOR_CACHE", str(tmp_path))
    first = tomography(4, (3, 8, 8))
    (path,) = tmp_path.rglob("*.safetensors")
    monkeypatch.setattr(channelwise, "decompose", None)
    x = random_images((3, 8, 8))
    assert torch.equal(tomography(4, (3, 8, 8)).A(x), first.A(x))
    with pytest.raises(TypeError):  # another number of angles is another file
        tomography(5, (3, 8, 8))
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ValueError, match="cannot be read as safetensors: delete it"):
        tomography(4, (3, 8, 8))


def test_projections_that_were_drawn_otherwise_are_another_file(tmp_path, monkeypatch):
    monkeypatch.setenv("BENCHMARK_DIFFUSION_POSTERIOR_CACHE", str(tmp_path))
    x, operators = random_images((3, 8, 8)), [compressed_sensing(0.25, (3, 8, 8))]
    # not by name: benchopt executes benchmark_utils anew for each cell
    monkeypatch.setitem(compressed_sensing.__globals__, "stream_seed", lambda *_: 1)
    operators += [compressed_sensing(0.25, (3, 8, 8)), compressed_sensing(0.25, (3, 8, 8))]
    first, other, same = (operator.A(x) for operator in operators)
    expected = x.flatten(2) @ gaussian_matrix(16, 64).mT
    torch.testing.assert_close(other, expected, rtol=0, atol=1e-10)
    assert torch.equal(other, same) and not torch.allclose(first, other)
    assert len(list(tmp_path.rglob("*.safetensors"))) == 2


@pytest.mark.parametrize("make", [tomography, compressed_sensing])
def test_the_first_guess_of_a_large_image_is_near_it(make):
    """Nearer than grey, to faces that are seen with noise; the operator's own number of steps stays."""
    operator = make(8 if make is tomography else 0.1, (3, 72, 72))
    assert not isinstance(operator, DecomposablePhysics)
    small = read_thumbnails(2)
    x = torch.nn.functional.interpolate(small.double(), size=(72, 72), mode="bilinear")
    y = operator.A(x)
    y = y + 0.05 * random_images(y.shape[1:], 2)
    assert (operator.first_guess(y) - x).norm() < 0.97 * x.norm() and operator.max_iter == 200


def test_one_matrix_serves_all_channels():
    """Its memory does not grow with the channels, nor does it copy the matrices of an operator in a product."""
    grey, colour = (tomography(4, (channels, 8, 8)) for channels in (1, 3))
    assert [buffer.shape for buffer in grey.buffers()] == [buffer.shape for buffer in colour.buffers()]
    x = random_images((3, 8, 8))
    for c in range(3):
        torch.testing.assert_close(colour.A(x)[:, c : c + 1], grey.A(x[:, c : c + 1]), rtol=0, atol=1e-12)


@pytest.mark.parametrize("name, make", [*MATRICES_8.items(), *PATTERNS.items(), *FOURIER.items()])
def test_exact_posterior_is_the_dense_solve(name, make):
    """A Gaussian prior with correlated pixels and channels: ``C A^T (A C A^T + sigma^2 I)^{-1}``, moments and draws."""
    shape, std = (3, 8, 8), 0.1
    operator, generator = make(shape).double(), torch.Generator().manual_seed(0)
    factors = torch.randn(1, 192, 5, generator=generator, dtype=torch.float64)
    mean = torch.randn(1, 192, generator=generator, dtype=torch.float64)
    prior = FactorAnalyserMixture(torch.ones(1), mean, factors, torch.tensor([0.3]), shape)
    matrix, y = dense_matrix(operator, shape), operator.A(random_images(shape, 1)) + 0.1
    found = frozenset({"svd", "gaussian", "linear"})
    problem = InverseProblem(operator, GaussianNoise(std), y, name, y.numel(), (0,), capabilities=found)
    posterior = prior.posterior(problem)
    covariance = factors[0] @ factors[0].mT + prior.s2 * torch.eye(192, dtype=torch.float64)
    y_covariance = matrix @ covariance @ matrix.mT + std**2 * torch.eye(len(matrix), dtype=torch.float64)
    gain = torch.linalg.solve(y_covariance, matrix @ covariance).mT
    expected = mean[0] + gain @ (y.flatten() - matrix @ mean[0])
    torch.testing.assert_close(posterior.mean.flatten(), expected, rtol=0, atol=1e-9)
    posterior_covariance = covariance - gain @ matrix @ covariance
    torch.testing.assert_close(posterior.trace_cov[0], posterior_covariance.trace(), rtol=1e-9, atol=0)
    n = 4000
    draws = posterior.sample(RNG(0, "sampler", name, [0] * n, range(n), dtype=torch.float64, block=1)).flatten(1)
    standard_errors = (posterior_covariance.diagonal() / n).sqrt()
    assert ((draws.mean(0) - expected) / standard_errors).abs().max() < 5
    directions = torch.randn(192, 20, generator=generator, dtype=torch.float64)
    variances = (directions * (posterior_covariance @ directions)).sum(0)
    torch.testing.assert_close((draws @ directions).var(0), variances, rtol=5 * (2 / n) ** 0.5, atol=0)


@pytest.mark.parametrize("shape, name, make", [case for case in LINEAR_CASES if case[1] in ("mri2", "single_pixel")])
def test_hidden_measurements_do_not_exist(shape, name, make):
    """Each value of y is seen: none is 0 for every image."""
    assert (make(shape).A(random_images(shape)).abs().amax((0, 1)) > 0).double().mean() > 0.9


# capabilities


@pytest.mark.parametrize(
    "name, make, expected",
    [
        *(
            (name, make, {"linear", "svd"})
            for name, make in (WITH_SVD | FACTORS | GAUSSIANS_5 | PATTERNS | FOURIER).items()
        ),
        ("motion5", motion_5_taps, {"linear"}),
        *((name, make, {"linear"}) for name, make in (ITERATIVE_CT | ITERATIVE).items()),
        *((name, make, set()) for name, make in (NONLINEAR | SOFT_JPEG).items() if "jpeg" not in name),
        ("jpeg", lambda shape: jpeg(2), {"idempotent"}),
        ("soft_jpeg", lambda shape: jpeg(10, "soft"), {"idempotent"}),
    ],
)
def test_capabilities(name, make, expected):
    expected = expected | {"differentiable", "likelihood", "gaussian", "image"}
    if name in ("box", "half", "random"):
        expected |= {"mask"}
    found = capabilities(make((3, 64, 64)), GaussianNoise(0.05), Prior("faces64"))
    assert found == expected


def test_a_half_spectrum_is_no_svd():
    kernel = torch.rand(1, 1, 5, 5)
    operator = BlurFFT(img_size=(3, 64, 64), filter=kernel / kernel.sum())
    assert "svd" not in capabilities(operator, GaussianNoise(0.05), Prior("faces64"))


class TwoChannels(DecomposablePhysics):
    """Real and imaginary parts of the Fourier transform of one channel: V has orthonormal rows, twice as many."""

    def __init__(self):
        super().__init__(mask=torch.ones(1))

    def V_adjoint(self, x):
        spectrum = torch.fft.fft2(x, norm="ortho")
        return torch.cat([spectrum.real, spectrum.imag], 1)

    def V(self, spectrum, **_):
        return torch.fft.ifft2(torch.complex(*spectrum.chunk(2, 1)), norm="ortho").real


@pytest.mark.parametrize("operator", [TwoChannels(), DeepinvMRI(img_size=(2, 64, 64))], ids=["tall", "complex"])
def test_two_channel_spectra_are_no_svd(operator):
    """One whose V is not square, and one that takes images of two channels only."""
    assert "svd" not in capabilities(operator, GaussianNoise(0.05), Prior("faces64"))
    assert has_svd(DeepinvMRI(img_size=(2, 8, 8)), (2, 8, 8))


def test_poisson_noise_is_not_gaussian():
    found = capabilities(denoising((3, 64, 64)), PoissonNoise(), Prior("faces64"))
    assert "svd" in found and not found & {"gaussian", "closed_form"}


# Poisson noise


def poisson_stream(images, task="denoising"):
    return RNG(0, "measurement", task, images, dtype=torch.float64)


def test_poisson_log_likelihood_is_scipy_s():
    noise, clean = PoissonNoise(0.05), 1.3 * random_images((3, 8, 8))
    y = noise.sample(clean, poisson_stream(IMAGES))
    mu = 255 * 0.05 * np.clip((clean.numpy() + 1) / 2, 1e-3, 1)
    k = (y.numpy() + 1) / 2 * 255 * 0.05
    np.testing.assert_allclose(k, k.round(), atol=1e-12)
    assert k.min() == 0 and k.max() > 12.75
    expected = scipy.stats.poisson.logpmf(k.round(), mu).sum((1, 2, 3))
    np.testing.assert_allclose(noise.log_likelihood(y, clean), expected, rtol=1e-10)
    np.testing.assert_allclose(noise.misfit(y, clean, 192), ((k - mu) ** 2 / mu).mean((1, 2, 3)), rtol=1e-10)


def test_poisson_counts_have_their_mean_and_variance():
    """Over 50,000 draws per level, within 5 standard errors: sqrt(mu / n) and sqrt((mu + 2 mu^2) / n)."""
    noise, n = PoissonNoise(0.05), 50_000
    for level in (-1.0, -0.5, 0.3, 1.0):
        clean = torch.full((1, n), level, dtype=torch.float64)
        k = noise.counts(noise.sample(clean, poisson_stream((0,))))
        mu = float(noise.intensity(clean)[0, 0])
        assert abs(float(k.mean()) - mu) < 5 * (mu / n) ** 0.5
        assert abs(float((k - mu).square().mean()) - mu) < 5 * ((mu + 2 * mu**2) / n) ** 0.5


def test_poisson_draws_belong_to_the_image():
    noise, clean = PoissonNoise(0.05), random_images((3, 8, 8))
    together = noise.sample(clean, poisson_stream(IMAGES))
    assert torch.equal(noise.sample(clean[1:2], poisson_stream((5,))), together[1:2])


def test_poisson_gradient():
    noise, clean = PoissonNoise(0.05), 0.9 * random_images((3, 4, 4))
    y = noise.sample(clean, poisson_stream(IMAGES))
    assert torch.autograd.gradcheck(lambda a: noise.log_likelihood(y, a), (clean.requires_grad_(),))


def test_hidden_pixels_have_no_part_in_a_poisson_problem():
    """They add a constant to the log-likelihood and nothing to the misfit, its gradient and its mean."""
    operator, noise = inpainting("half", (3, 8, 8)).double(), PoissonNoise(0.05)
    x, other = random_images((3, 8, 8)), random_images((3, 8, 8), seed=1)
    y = noise.sample(operator.A(x), poisson_stream(IMAGES, "half")) * operator.mask
    problem = InverseProblem(operator, noise, y, "half", count_observed(operator, y), IMAGES)
    left = (y[..., :4], x[..., :4])
    torch.testing.assert_close(problem.misfit(x), noise.misfit(*left, 96))
    difference = problem.log_likelihood(x) - problem.log_likelihood(other)
    expected = noise.log_likelihood(*left) - noise.log_likelihood(y[..., :4], other[..., :4])
    torch.testing.assert_close(difference, expected)


# nonlinear blur


def published_layout(width):
    """Names and shapes of the published checkpoint's blurring part, written out, for features of this width."""
    shapes = {}

    def conv(name, n_in, n_out, size, bias=True):
        shapes[f"{name}.weight"] = (n_out, n_in, size, size)
        if bias:
            shapes[f"{name}.bias"] = (n_out,)

    def residual_blocks(name, numbers):
        for number in numbers:
            conv(f"{name}.{number}.conv1", width, width, 3)
            conv(f"{name}.{number}.conv2", width, width, 3)

    conv("feature_extractor.0", 3, width, 3)
    conv("feature_extractor.2", width, width, 3)
    conv("feature_extractor.4", width, width, 3)
    residual_blocks("feature_extractor", range(6, 16))
    level = "adapter.model"
    for depth, (outer, inner) in enumerate([(1, 1), (1, 2), (2, 4), (4, 8), (8, 8)]):
        conv(f"{level}.down.{int(depth > 0)}", outer * width, inner * width, 4, bias=False)
        conv(f"{level}.up.1.double_conv.0", 2 * inner * width, outer * width, 5)
        conv(f"{level}.up.1.double_conv.2", outer * width, outer * width, 5)
        level += ".submodule"
    residual_blocks("recon_trunk", range(20))
    conv("recon_trunk.20", width, 4 * width, 3)
    conv("recon_trunk.23", width, 4 * width, 3)
    conv("recon_trunk.26", width, width, 3)
    conv("recon_trunk.28", width, 3, 3)
    return shapes


@pytest.fixture
def checkpoint(tmp_path, monkeypatch):
    """A narrow network with random weights, in a file of the published layout; its path and its tensors."""
    generator = torch.Generator().manual_seed(0)
    state = {}
    for name, shape in published_layout(2).items():
        scale = (2 / np.prod(shape[1:])) ** 0.5 if len(shape) == 4 else 0.1
        scale *= 0.1 if ".conv2." in name else 1.0  # thirty residual blocks in a row
        state[name] = scale * torch.randn(shape, generator=generator)
    state["kernel_extractor.model.1.weight"] = torch.zeros(1)
    path = tmp_path / "GOPRO_wVAE.pth"
    torch.save(state, path)
    monkeypatch.setenv("NONLINEAR_BLUR_PATH", str(path))
    return path, state


def reference_blur(state, x, code):
    """The published network, level inside level, straight from the named tensors; x in [0, 1]."""
    F = torch.nn.functional

    def conv(name, h, **options):
        return F.conv2d(
            h, state[f"{name}.weight"].double(), state.get(f"{name}.bias", torch.zeros(0)).double(), **options
        )

    def residual(name, h):
        return h + conv(f"{name}.conv2", conv(f"{name}.conv1", h, padding=1).relu(), padding=1)

    def adapter(level, h):
        name = "adapter.model" + ".submodule" * level
        activated = F.leaky_relu(h, 0.2) if level else h
        weight = state[f"{name}.down.{int(level > 0)}.weight"].double()
        low = F.conv2d(activated, weight, stride=2, padding=1)
        low = torch.cat([low, code], 1) if level == 4 else adapter(level + 1, low)
        for number in (0, 2):
            low = conv(f"{name}.up.1.double_conv.{number}", low.relu(), padding=2)
        low = F.interpolate(low.relu(), scale_factor=2, mode="bilinear", align_corners=True)
        return torch.cat([low, activated], 1) if level else low.tanh()

    h = x
    for number, stride in ((0, 1), (2, 2), (4, 2)):
        h = F.leaky_relu(conv(f"feature_extractor.{number}", h, stride=stride, padding=1), 0.1)
    for number in range(6, 16):
        h = residual(f"feature_extractor.{number}", h)
    h = adapter(0, h)
    for number in range(20):
        h = residual(f"recon_trunk.{number}", h)
    for number in (20, 23):
        h = F.leaky_relu(F.pixel_shuffle(conv(f"recon_trunk.{number}", h, padding=1), 2), 0.1)
    h = F.leaky_relu(conv("recon_trunk.26", h, padding=1), 0.1)
    return x + conv("recon_trunk.28", h, padding=1)


def test_nonlinear_blur_is_the_published_network(checkpoint):
    operator = nonlinear_blur((3, 128, 256), IMAGES).double()
    assert operator.codes.shape == (3, 16, 1, 2)
    x = random_images((3, 128, 256))
    blurred = reference_blur(checkpoint[1], (x + 1) / 2, operator.codes)
    y = operator.A(x)
    assert 0.1 < (y.abs() < 1).double().mean() and (y - x).abs().max() > 0.1
    torch.testing.assert_close(y, (2 * blurred - 1).clamp(-1, 1), rtol=0, atol=1e-10)
    other = operator.take([2, 0])
    torch.testing.assert_close(other.A(x[[2, 0]]), y[[2, 0]], rtol=0, atol=1e-12)
    same = x[:1].expand(3, -1, -1, -1)
    assert (operator.A(same)[0] - operator.A(same)[1]).abs().max() > 1e-3


def test_nonlinear_blur_has_one_code_per_image_and_gradients(checkpoint):
    codes = nonlinear_blur((3, 256, 256), range(100)).codes
    assert torch.equal(nonlinear_blur((3, 256, 256), (5,)).codes, codes[5:6])
    n = codes.numel()  # 6400: within 5 standard errors of N(0, 1.2^2)
    assert abs(float(codes.mean())) < 5 * 1.2 / n**0.5
    assert abs(float(codes.square().mean()) - 1.44) < 5 * 1.44 * (2 / n) ** 0.5
    operator = nonlinear_blur((3, 128, 128), (0,)).double()
    x = 0.5 * random_images((3, 128, 128), 1)
    assert torch.autograd.gradcheck(operator.A, (x.requires_grad_(),), fast_mode=True, atol=1e-5)
    assert not any(parameter.requires_grad for parameter in operator.parameters())
    copied = cloudpickle.loads(cloudpickle.dumps(operator))
    assert torch.equal(copied.A(x), operator.A(x))


def test_nonlinear_blur_at_full_width_has_the_published_shapes():
    with torch.device("meta"):
        network = KernelWizard()
    shapes = {published_name(name): tuple(value.shape) for name, value in network.state_dict().items()}
    assert shapes == published_layout(64)


def test_nonlinear_blur_says_what_is_wrong(checkpoint, monkeypatch):
    path, state = checkpoint
    with pytest.raises(ValueError, match="multiples of 128, got 64x64"):
        nonlinear_blur((3, 64, 64), (0,))
    for wrong in (
        {name: value for name, value in state.items() if name != "recon_trunk.28.bias"},
        state | {"recon_trunk.29.bias": torch.zeros(3)},
        state | {"recon_trunk.28.bias": torch.zeros(4)},
    ):
        torch.save(wrong, path)
        with pytest.raises(ValueError, match=r"GOPRO_wVAE.pth is not the network .* first recon_trunk.2[89].bias"):
            load_kernel_wizard()
    path.unlink()
    with pytest.raises(FileNotFoundError, match="NONLINEAR_BLUR_PATH"):
        blur("nonlinear", (3, 128, 128), (0,))
    monkeypatch.delenv("NONLINEAR_BLUR_PATH")
    with pytest.raises(FileNotFoundError, match="nonlinear_blur missing: download GOPRO_wVAE.pth.*config.yml"):
        load_kernel_wizard()


@pytest.mark.parametrize(
    "build, message",
    [
        (lambda: inpainting("boxes", (3, 16, 16)), "unknown mask 'boxes'; known masks: box"),
        (lambda: inpainting("random", (3, 16, 16)), "pass the image numbers"),
        (lambda: inpainting("random", (3, 16, 16), (0,), hidden=1.0), "hidden must lie in"),
        (lambda: inpainting("random", (3, 16, 16), (0,), hidden=0.999), "hidden must lie in"),
        (lambda: inpainting("box", (3, 16, 16), hidden=0.5), "hidden=0.5 is for mask=random"),
        (lambda: blur("motion", (3, 16, 16), IMAGES, 2), "blur_std=2 is for the Gaussian blurs"),
        (lambda: blur("gaussian", (3, 16, 16), IMAGES, 0), "blur_std must be positive, got 0"),
        (lambda: jpeg(10.5), "quality must lie in 1..100, got 10.5"),
        (lambda: super_resolution("lanczos", 4, (3, 16, 16)), "unknown downsampling 'lanczos'"),
        (lambda: super_resolution("average", 3, (3, 16, 16)), "factor=3, size 16x16"),
        (lambda: super_resolution("bicubic", 0, (3, 16, 16)), "factor=0"),
        (lambda: super_resolution("bicubic", 2.5, (3, 20, 20)), "factor=2.5"),
        (lambda: blur("median", (3, 16, 16), IMAGES), "unknown blur 'median'"),
        (lambda: GaussianBlur(1.0, 4, (3, 16, 16)), "odd number of taps"),
        (lambda: GaussianBlur(1.0, 33, (3, 16, 16)), "below 32, got 33"),
        (lambda: GaussianBlur(1.0, 5, (3, 16, 16), "wrap"), "unknown padding 'wrap'"),
        (lambda: MotionBlur(torch.ones(1, 1, 4, 4), (3, 16, 16)), "odd number of taps"),
        (lambda: jpeg(2, "webp"), "unknown codec 'webp'"),
        (lambda: jpeg(0), "quality must lie in 1..100, got 0"),
        (lambda: jpeg(2, "soft").A(torch.zeros(1, 3, 24, 16)), "multiples of 16, got 24x16"),
        (lambda: tomography(0, (3, 8, 8)), "angles must be a whole number of 1 or more, got 0"),
        (lambda: tomography(2.5, (3, 8, 8)), "angles must be a whole number of 1 or more, got 2.5"),
        (lambda: tomography(3, (3, 8, 6)), "square images, got 8x6"),
        (lambda: mri(1, (3, 8, 8)), "acceleration must lie above 1 and be at most 8, the image's width, got 1"),
        (lambda: mri(9, (3, 8, 8)), "at most 8, the image's width, got 9"),
        (lambda: MRI(torch.tensor([0, 1]), (3, 8, 8)), r"must have -k with k, got \[0, 1\] of 8"),
        (lambda: single_pixel(0.25, (3, 8, 6)), "powers of 2, got 8x6"),
        (lambda: single_pixel(0, (3, 8, 8)), r"fraction must lie in \(0, 1\] .* of 64 pixels, got 0"),
        (lambda: compressed_sensing(1.5, (3, 8, 8)), "fraction must lie in .* got 1.5"),
        (lambda: compressed_sensing(0.25, (3, 256, 256)), "needs a matrix of 8.6 GB: take a fraction of at most 0.12"),
        (lambda: PoissonNoise(0), "rate must be positive, got 0"),
    ],
)
def test_bad_input(build, message):
    with pytest.raises(ValueError, match=message):
        build()
