"""The linear-Gaussian update that several methods share."""


def draw_conditional(operator, y, y_std, center, std, rng):
    """Draw ``x ~ N(y; A x, y_std^2 I) N(x; center, std^2 I)``, exactly, with the SVD ``A = U diag(s) V^T``.

    The coordinates ``V^T x`` are independent Gaussians. ``center`` has shape (n, *event), ``std = 0`` returns it.
    """
    spectrum = operator.V_adjoint(center)
    predicted_variance = operator.mask**2 * std**2 + y_std**2
    innovation = operator.U_adjoint(y) - operator.mask * spectrum
    mean = spectrum + operator.mask * std**2 / predicted_variance * innovation
    conditional_std = std * y_std / predicted_variance**0.5
    return operator.V(mean + conditional_std * rng.randn(*spectrum.shape[1:]))
