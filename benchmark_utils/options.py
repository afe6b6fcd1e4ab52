"""The numbers that parameters of the datasets and of the objective take, checked in one place."""

import math
from numbers import Integral, Real

WHOLE = {  # the smallest of each
    "first": 0,
    "n_images": 1,
    "n_records": 1,
    "length": 1,
    "n_samples": 1,
    "batch_size": 1,
    "n_problems": 1,
    "dim": 1,
    "signal_dim": 1,
    "dim_y": 1,
    "seed": 0,
    "chunk_length": 1,
}
POSITIVE = (
    *("noise_std", "poisson_rate", "sigma_max"),
    *("factor", "hidden", "blur_std", "quality", "angles", "acceleration", "fraction"),  # whose ranges their tasks know
)
NOT_NEGATIVE = ("weight",)
FLAGS = ("convert", "fid", "compile")


def check_options(owner):
    """Raise ValueError, naming the parameter and what it may be, for one of ``owner`` that is no such number.

    A default is allowed, and so are the words that ``owner.choices`` has for the parameter.
    """
    choices = getattr(owner, "choices", {})
    for name, value in owner._parameters.items():
        words = choices.get(name, ())
        if value is None and None in type(owner).parameters[name] or value in words:
            continue
        number = isinstance(value, Real) and not isinstance(value, bool)
        if name in WHOLE and not (number and isinstance(value, Integral) and value >= WHOLE[name]):
            kind = f"a whole number of {WHOLE[name]} or more"
        elif name in POSITIVE and not (number and 0 < value < math.inf):
            kind = "a number above 0"
        elif name in NOT_NEGATIVE and not (number and 0 <= value < math.inf):
            kind = "a number of 0 or more"
        elif name in FLAGS and not isinstance(value, bool):
            kind = "True or False"
        else:
            continue
        raise ValueError(f"{owner.name}: {name} must be {' or '.join([kind, *words])}, got {value!r}")
