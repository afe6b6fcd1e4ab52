"""Fit the embedded priors ``haar_laplace`` and ``haar_student`` and write ``assets/faces64/faces64_haar.safetensors``.

    python -m scripts.train.faces64_haar --train faces64_train.parquet

The parquet file has the columns ``name`` and ``webp`` (64-px WebP bytes). The first images and their mirror images are
transformed; the coarsest averages have the mean of each as their location, and every band and colour has the scale of
largest likelihood: the mean absolute value for Laplace's law, the fixed point of EM for Student's.
"""

import argparse
from pathlib import Path

import torch
from safetensors.torch import save_file

from benchmark_utils.priors.haar import DEGREES, Haar
from scripts.train.faces64 import load_images, to_range


def student_scale(c, n_steps=50):
    """Scale of largest likelihood of Student's law for coefficients (k,), by EM."""
    squared, variance = c.square(), c.square().mean()
    for _ in range(n_steps):
        variance = ((DEGREES + 1) * squared / (DEGREES + squared / variance)).mean()
    return variance.sqrt()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--train", type=Path, required=True)
    parser.add_argument("--n-images", type=int, default=1000)
    parser.add_argument("--out", type=Path, default=Path("assets/faces64/faces64_haar.safetensors"))
    args = parser.parse_args()
    x = to_range(load_images(args.train)[: args.n_images], "cpu").double().view(-1, 3, 64, 64)
    transform = Haar((3, 64, 64))
    coefficients = transform.coefficients(torch.cat([x, x.flip(-1)]))
    n_averages = int((transform.bands == 0).sum())
    location = coefficients[..., :n_averages].mean(0)
    coefficients[..., :n_averages] -= location
    bands = [coefficients[..., transform.bands == number] for number in range(len(transform.sides))]
    laplace = torch.stack([band.abs().mean((0, 2)) for band in bands], 1)
    student = torch.stack([torch.stack([student_scale(c.flatten()) for c in band.unbind(1)]) for band in bands], 1)
    for law, scales in (("laplace", laplace), ("student", student)):
        print(law, "scales of the luminance, coarse to fine:", " ".join(f"{scale:.4f}" for scale in scales[0]))
    save_file({"laplace": laplace, "student": student, "location": location}, args.out)


if __name__ == "__main__":
    main()
