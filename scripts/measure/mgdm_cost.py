"""Quality against cost of MGDM over its number of steps K, denoising points M, gradient steps G and Gibbs rounds R.

    python -m scripts.measure.mgdm_cost --images 8 --results mgdm_cost.csv --plot mgdm_cost.png

Runs what ``--results`` does not hold yet, four images at a time: every configuration on the faces of two tasks of the
embedded prior, and on the problems of ``gaussian``, whose posterior is known. Then it prints the table and draws the
Pareto front. The cost is in forward passes of the network for one sample: a gradient counts as two (``docs/speed.md``).
"""

import argparse
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch

from benchmark_utils.evaluate import objective_of, score
from benchmark_utils.metrics import mean_and_ci
from datasets.ffhq_inpainting import Dataset as Inpainting
from datasets.ffhq_super_resolution import Dataset as SuperResolution
from datasets.gaussian import Dataset as Gaussian
from scripts.measure.common import interval, markdown
from solvers.mgdm import Solver as MGDM

FULL = "K=100 M=20 G=5/20 R=1"
CONFIGURATIONS = (  # K, M, G first and then, R
    (100, 20, (5, 20), 1),
    (25, 5, (5, 5), 1),
    (25, 5, (5, 20), 1),
    (50, 2, (5, 5), 1),
    (50, 5, (5, 5), 1),
    (25, 5, (5, 5), 2),
    (50, 5, (5, 20), 1),
    (100, 5, (5, 20), 1),
)
CHUNK = 4
TASKS = {"half": (Inpainting, {"mask": "half"}), "sr4": (SuperResolution, {"factor": 4})}
GAUSSIAN_DRAWS = 200


def label_of(K, M, G, R):
    return f"K={K} M={M} G={G[0]}/{G[1]} R={R}"


def rows_of(dataset, K, M, G, R, n_samples=None):
    """The objective's rows for one configuration of MGDM on a dataset."""
    solver = MGDM.get_instance(n_steps=K, n_denoise=M, gradient_steps=G, n_gibbs=R)
    return score(solver, objective_of(dataset, n_samples=n_samples))


def cells(n_images):
    """(task, first image, function of the configuration) of everything to run, closed forms first."""
    yield "gaussian", 0, lambda *setting: rows_of(Gaussian.get_instance(), *setting, n_samples=GAUSSIAN_DRAWS)
    for first in range(0, n_images, CHUNK):
        for task, (Dataset, parameters) in TASKS.items():
            dataset = Dataset.get_instance(first=first, n_images=min(CHUNK, n_images - first), **parameters)
            yield task, first, lambda *setting, dataset=dataset: rows_of(dataset, *setting)


def complete(path, n_images):
    """Run the cells that the file lacks, adding each to it; returns all rows."""
    found = pd.read_csv(path) if path.exists() else pd.DataFrame(columns=["configuration", "task", "first"])
    for task, first, run in cells(n_images):
        for setting in CONFIGURATIONS:
            label = label_of(*setting)
            if ((found.configuration == label) & (found.task == task) & (found["first"] == first)).any():
                continue
            rows = run(*setting).assign(configuration=label, task=task, first=first)
            rows["cost"] = rows.nfe + rows.vjp
            found = pd.concat([found, rows])
            found.to_csv(path, index=False)
            print(f"{label}, {task}, images from {first}: done", flush=True)
    return found


def summary(rows):
    """One row per configuration: cost, scores with 95 % intervals, paired LPIPS difference to the full setting."""
    faces = rows[rows.task.isin(TASKS)].set_index(["task", "image"]).sort_index()
    full = faces[faces.configuration == FULL].lpips
    table = []
    for label, own in faces.groupby("configuration"):
        known = rows[(rows.configuration == label) & (rows.task == "gaussian")]
        scores = {f"LPIPS {task}": interval(own.loc[task].lpips) for task in TASKS}
        scores |= {f"misfit {task}": interval(own.loc[task].data_misfit) for task in TASKS}
        scores["LPIPS minus full's"] = interval((own.lpips - full).dropna())
        scores |= {name: interval(known[name.replace(" ", "_")]) for name in ("mean error", "variance ratio")}
        table.append({"setting": label, "forwards": round(own.cost.mean()), "images": len(own)} | scores)
    return pd.DataFrame(table).sort_values("forwards")


def draw(rows, path):
    """Each task's score against cost, a bar being the 95 % interval, and the Pareto front of the means."""
    panels = [(task, "lpips", f"{task}: LPIPS") for task in TASKS] + [
        ("gaussian", "mean_error", "gaussian: mean error")
    ]
    figure, axes = plt.subplots(1, len(panels), figsize=(14, 4.2), layout="constrained")
    for axis, (task, column, title) in zip(axes, panels, strict=True):
        groups = rows[rows.task == task].groupby("configuration")
        table = pd.DataFrame({"cost": groups.cost.mean(), "mean": groups[column].mean()}).sort_values("cost")
        table["half_width"] = groups[column].agg(lambda values: mean_and_ci(values)[1])
        for label, point in table.iterrows():
            axis.errorbar(point.cost, point["mean"], point.half_width, fmt="o", capsize=3, label=label)
        front = table[table["mean"] <= np.minimum.accumulate(table["mean"])]
        axis.step(front.cost, front["mean"], where="post", color="grey", zorder=0)
        axis.set(title=f"{title} (lower is better)", xlabel="cost of a sample, forward passes", xscale="log")
        axis.set_xticks([300, 500, 1000, 2000, 3500], labels=["300", "500", "1000", "2000", "3500"])
        axis.minorticks_off()
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    figure.savefig(path, dpi=100)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=8)
    parser.add_argument("--results", type=Path, default=Path("mgdm_cost.csv"))
    parser.add_argument("--plot", type=Path, default=Path("mgdm_cost.png"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows = complete(arguments.results, arguments.images)
    print(markdown(summary(rows)))
    draw(rows, arguments.plot)


if __name__ == "__main__":
    main()
