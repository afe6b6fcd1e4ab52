"""Fit the embedded prior ``faces64_mfa`` and write ``assets/faces64/faces64_mfa.safetensors``.

    python -m scripts.train.faces64_mfa --train faces64_train.parquet --heldout faces64_heldout.parquet

Both parquet files have the columns ``name`` and ``webp`` (64-px WebP bytes). The model is a mixture of factor
analysers with isotropic noise, ``sum_k w_k N(mu_k, W_k W_k^T + s_k^2 I)`` (Ghahramani & Hinton 1996, "The EM
algorithm for mixtures of factor analyzers"; Richardson & Weiss 2018, https://arxiv.org/abs/1805.12462), fitted to
the training images and their mirror images: k-means on the images reduced to 16 x 16, probabilistic PCA of each
cluster, then EM steps for the mixture (Tipping & Bishop 1999, "Mixtures of probabilistic principal component
analysers", appendix C), none of which forms a d x d matrix. About 20 s per EM step on one core.
"""

import argparse
import math
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file

from benchmark_utils.priors.mixture import FactorAnalyserMixture
from scripts.train.faces64 import EVALUATED_SIGMAS, load_images, to_range
from scripts.train.loop import print_errors

# a component that settles on near-identical images would otherwise shrink to a spike
ISOTROPIC_FLOOR = 0.02
CHUNK = 1024


def with_mirrors(images):
    """uint8 images in chunks of float rows in [-1, 1], (n, d): first the images, then their mirror images."""
    for chunk in images.split(CHUNK):
        yield to_range(chunk, "cpu").flatten(1)
    for chunk in images.split(CHUNK):
        yield to_range(chunk.flip(-1), "cpu").flatten(1)


def k_means(points, n_clusters, n_steps=30):
    """Cluster number of each point (n, d), by Lloyd's algorithm from a k-means++ start."""
    centres = points[torch.randint(len(points), (1,))]
    while len(centres) < n_clusters:
        squared_distance = torch.cdist(points, centres).min(1).values.square()
        centres = torch.cat([centres, points[torch.multinomial(squared_distance, 1)]])
    for _ in range(n_steps):
        labels = torch.cdist(points, centres).argmin(1)
        centres = torch.stack([points[labels == k].mean(0) for k in range(n_clusters)])
    return labels


def probabilistic_pca(x, rank):
    """Maximum-likelihood (mean, factors (d, rank), isotropic variance) of the rows of ``x``, (n, d)."""
    mean = x.mean(0)
    centred = x - mean
    _, singular, directions = torch.svd_lowrank(centred, q=2 * rank, niter=4)
    eigenvalues = singular[:rank].square() / len(x)
    variance = (centred.square().sum() / len(x) - eigenvalues.sum()) / (x.shape[1] - rank)
    return mean, directions[:, :rank] * (eigenvalues - variance).sqrt(), variance


def expectation(x, weights, means, factors, variances):
    """Quantities of an E-step for rows ``x`` (n, d).

    Returns the log-likelihood (n,), the responsibilities (n, K), ``W_k^T (x - mu_k)`` (n, K, r) and
    ``||x - mu_k||^2`` (n, K).
    """
    K, d, rank = factors.shape
    inner = factors.mT @ factors + variances[:, None, None] * torch.eye(rank)
    projections = (x @ factors.permute(1, 0, 2).flatten(1)).view(-1, K, rank)
    projections = projections - torch.einsum("kdr,kd->kr", factors, means)
    squared_distance = x.square().sum(1, keepdim=True) - 2 * x @ means.T + means.square().sum(1)
    explained = torch.einsum("nkr,krq,nkq->nk", projections, torch.linalg.inv(inner), projections)
    log_determinant = (d - rank) * variances.log() + torch.logdet(inner)
    log_joint = weights.log() - ((squared_distance - explained) / variances + log_determinant) / 2
    log_likelihood = log_joint.logsumexp(1) - d / 2 * math.log(2 * math.pi)
    return log_likelihood, log_joint.softmax(1), projections, squared_distance


def em_step(images, weights, means, factors, variances):
    """One EM step on the images and their mirrors: (mean log-likelihood per dimension before it, new parameters)."""
    K, d, rank = factors.shape
    count, scatter_trace, log_likelihood = torch.zeros(K), torch.zeros(K), 0.0
    total, projected_total, scatter_factors = torch.zeros(K, d), torch.zeros(K, rank), torch.zeros(d, K * rank)
    for x in with_mirrors(images):
        log_likelihoods, responsibilities, projections, squared_distance = expectation(
            x, weights, means, factors, variances
        )
        weighted = responsibilities[..., None] * projections
        log_likelihood += log_likelihoods.double().sum().item()
        count += responsibilities.sum(0)
        total += responsibilities.T @ x
        projected_total += weighted.sum(0)
        scatter_factors += x.T @ weighted.flatten(1)
        scatter_trace += (responsibilities * squared_distance).sum(0)
    new_means = total / count[:, None]
    # S W and tr S for the covariances S about the new means
    scatter_factors = scatter_factors.view(d, K, rank).permute(1, 0, 2)
    scatter_factors = scatter_factors - new_means[..., None] * projected_total[:, None]
    scatter_factors = scatter_factors / count[:, None, None]
    scatter_trace = scatter_trace / count - (new_means - means).square().sum(1)
    noise = variances[:, None, None] * torch.eye(rank)
    inverse = torch.linalg.inv(factors.mT @ factors + noise)
    new_factors = scatter_factors @ torch.linalg.inv(noise + inverse @ factors.mT @ scatter_factors)
    explained = ((scatter_factors @ inverse) * new_factors).sum((1, 2))
    new_variances = ((scatter_trace - explained) / d).clamp(min=ISOTROPIC_FLOOR**2)
    return log_likelihood / (2 * len(images) * d), (count / count.sum(), new_means, new_factors, new_variances)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--train", type=Path, required=True)
    parser.add_argument("--heldout", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("assets/faces64/faces64_mfa.safetensors"))
    parser.add_argument("--components", type=int, default=8)
    parser.add_argument("--rank", type=int, default=48)
    parser.add_argument("--em-steps", type=int, default=12)
    args = parser.parse_args()
    torch.manual_seed(0)
    train, heldout = load_images(args.train), load_images(args.heldout)
    d = train[0].numel()
    start = time.perf_counter()

    small = torch.cat([F.avg_pool2d(x.view(-1, 3, 64, 64), 4).flatten(1) for x in with_mirrors(train)])
    labels = k_means(small, args.components)
    clusters = []
    for k in range(args.components):
        direct, mirrored = ((part == k).nonzero().squeeze(1) for part in labels.split(len(train)))
        x = to_range(torch.cat([train[direct], train[mirrored].flip(-1)]), "cpu").flatten(1)
        clusters.append(probabilistic_pca(x, args.rank))
    means, factors, variances = map(torch.stack, zip(*clusters, strict=True))
    mixture = labels.bincount() / len(labels), means, factors, variances

    for step in range(args.em_steps + 1):
        log_likelihood, updated = em_step(train, *mixture)
        unseen = torch.cat([expectation(x, *mixture)[0] for x in with_mirrors(heldout)]).mean() / d
        print(
            f"{time.perf_counter() - start:5.0f} s  after {step:2d} EM steps: mean log-likelihood per dimension "
            f"{log_likelihood:.5f} (training), {unseen:.5f} (held out)",
            flush=True,
        )
        if step < args.em_steps:
            mixture = updated

    weights, means, factors, variances = mixture
    isotropic = variances.sqrt()
    print(
        f"weights {weights.min():.4f} to {weights.max():.4f}, isotropic {isotropic.min():.4f} to {isotropic.max():.4f}"
    )
    tensors = {"weights": weights, "means": means.half(), "factors": factors.half(), "isotropic": isotropic}
    args.out.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, args.out)
    stored = {name: value.double() for name, value in load_file(args.out).items()}
    prior = FactorAnalyserMixture(**stored, event_shape=(3, 64, 64))
    print_errors(
        lambda x, sigma: prior.denoise_sigma(x.double(), sigma.double()).float(),
        {"held-out": to_range(heldout, "cpu")},
        EVALUATED_SIGMAS,
    )


if __name__ == "__main__":
    main()
