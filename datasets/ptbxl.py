import torch
from benchopt import BaseDataset

from benchmark_utils.files.ptbxl import FOLDS, LEADS, UNITS, choose_cut, read_fold, read_shipped
from benchmark_utils.noise import GaussianNoise
from benchmark_utils.operators.leads import lead_mask
from benchmark_utils.options import check_options
from benchmark_utils.priors import Prior

NOISE_STD = {"lead": 0.05, "random_lead": 0.05, "block": 0.05, "gap": 0.05, "denoise": 0.3}
METRICS = ("crps", "mae", "mae_mean", "rmse_mean", "data_misfit")
RECORDS = ("shipped", *FOLDS)


class Dataset(BaseDataset):
    """Electrocardiograms of PTB-XL from part of their leads or of their time: nine leads at 100 Hz.

    "PTB-XL, a large publicly available electrocardiography dataset", Wagner et al., Scientific Data 7:154, 2020,
    https://doi.org/10.1038/s41597-020-0495-6; ``lead``, ``random_lead`` and ``block`` are tasks of the ECG follow-up
    (Phil. Trans. R. Soc. A 383:20240330) of MGPS (Moufad et al., ICLR 2025, https://arxiv.org/abs/2410.09945), whose
    measurements have no noise. ``task`` is ``lead`` (the leads that ``leads`` names are seen, lead I unless given),
    ``random_lead`` (three of the nine), ``block`` (the second half of all is hidden), ``gap`` (the middle quarter) or
    ``denoise`` (all are seen). The noise has standard deviation 0.3 for ``denoise`` and 0.05 for the others, or
    ``noise_std`` in the units of the leads. ``records`` is ``shipped``, 20 of them, ``test`` or ``validation``: fold 10
    or 9 of the user's PTB-XL, which ``PTBXL_PATH`` names, band-passed from 0.5 to 40 Hz (Butterworth of order 3,
    forwards and backwards). ``units`` are ``z``, each lead of each record with mean 0 and variance 1, or ``mV``, for a
    prior of your own. ``length`` is that of the window in samples.
    """

    name = "ptbxl"
    parameters = {
        "task": ["lead"],
        "leads": [None],
        "prior": ["ecg"],
        "records": ["shipped"],
        "first": [0],
        "n_records": [20],
        "units": ["z"],
        "noise_std": [None],
        "length": [None],
    }
    test_config = {"length": 72, "n_records": 1}

    def get_data(self):
        """One row of the problem per record, whose position among the records is its number."""
        self.check()
        prior = ecg_prior(self.prior, self.length)
        if self.units == "mV" and prior.weights.shipped:
            raise ValueError(f"prior={self.prior} is of leads of variance 1: units=mV needs a prior of your own")
        numbers = tuple(range(self.first, self.first + self.n_records))
        try:
            prior.weights.require()
            if self.records in FOLDS:
                ids, records = read_fold(FOLDS[self.records], self.first, self.n_records, self.units)
            else:
                ids, records = (part[self.first : self.first + self.n_records] for part in read_shipped())
        except FileNotFoundError as error:
            return {"missing": str(error)}
        if len(ids) < self.n_records:
            raise ValueError(
                f"20 records are shipped, counted from 0: first={self.first}, n_records={self.n_records} go beyond "
                "them; take fewer, or records=test for PTB-XL's own"
            )
        files = tuple(f"ECG {ecg_id}" for ecg_id in ids)
        cut = choose_cut(prior)
        return {
            "x_true": torch.stack([cut(x, name=file) for x, file in zip(records, files, strict=True)]),
            "operator": lead_mask(self.task, prior.signal_shape, numbers, self.seen_leads(), self.units),
            "noise": GaussianNoise(self.noise_std or NOISE_STD[self.task]),
            "task": self.task,
            "prior": prior,
            "metrics": METRICS,
            "images": numbers,
            "files": files,
            "n_samples": 10,
            "unit": "records",
        }

    def check(self):
        """Raise ValueError, with what is allowed, for an unknown task, records or units and a bad number."""
        check_options(self)
        for name, known in ("task", NOISE_STD), ("records", RECORDS), ("units", UNITS):
            if getattr(self, name) not in tuple(known):
                raise ValueError(f"{name} must be one of {', '.join(known)}, got {getattr(self, name)!r}")
        if self.leads is not None and self.task != "lead":
            raise ValueError(f"leads={self.leads} is for task=lead: task={self.task} does not choose leads")
        if self.units == "mV" and self.records == "shipped":
            raise ValueError("the shipped records have lost their scales: units=mV needs records=test and PTBXL_PATH")
        if self.units == "mV" and self.noise_std is None:
            raise ValueError("units=mV needs noise_std, in mV: those of the tasks are for leads of variance 1")

    def seen_leads(self):
        """Positions in ``LEADS`` of the leads that ``leads`` names, one or several; raises ValueError."""
        leads = "I" if self.leads is None else self.leads
        names = list(leads) if isinstance(leads, (list, tuple)) else [leads]
        unknown = [name for name in names if name not in LEADS]
        if unknown or not 0 < len(set(names)) < len(LEADS):
            raise ValueError(f"leads must name some of {', '.join(LEADS)}, not all, got {self.leads!r}")
        return [LEADS.index(name) for name in names]


def ecg_prior(name, length):
    """Handle of a prior of nine leads; raises ValueError for another one."""
    prior = Prior.of(name)
    if length is not None:
        prior = Prior(prior.name, (*prior.options, ("length", length)))
    if len(prior.signal_shape) != 2 or prior.signal_shape[0] != len(LEADS):
        raise ValueError(
            f"prior={name} has signals of shape {prior.signal_shape}; a prior of {len(LEADS)} leads is needed: ecg, "
            "ecg_stationary, ecg_beats or your own"
        )
    return prior
