"""Any unconditional diffusers pipeline as a prior: ``prior=<organisation>/<name>`` of the hub, or a folder's path.

``LDMPipeline`` (a ``UNet2DModel`` on the latents of a ``VQModel`` or ``AutoencoderKL``) and ``DDPMPipeline`` or
``DDIMPipeline`` (a ``UNet2DModel`` on images). The scheduler says what the network was trained for: the labels and the
alphas of a DDPM schedule, or noise levels (EDM, VE, consistency) or flow matching, see ``preconditioned``. Solvers take
the presets of FFHQ.
"""

import json
import re
import warnings
from dataclasses import dataclass
from pathlib import Path

from benchmark_utils.files.paths import cache_folder
from benchmark_utils.files.weights import HUB, Weights, downloads
from benchmark_utils.priors.networks import PREDICTIONS, Autoencoder, Network
from benchmark_utils.priors.preconditioned import PreconditionedNetwork, from_scheduler
from benchmark_utils.schedule import NoiseSchedule

COMPLETE = ".complete"  # in the folder of a download that was not interrupted
AUTOENCODERS = "VQModel", "AutoencoderKL"


def is_folder(name):
    return Path(name).expanduser().is_dir()


def is_pipeline(name):
    """Whether a prior's name is a folder or looks like an id of the hub, ``<organisation>/<name>``."""
    return is_folder(name) or bool(re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", name))


@dataclass(frozen=True)
class Pipeline(Weights):
    """A pipeline's folder as a PriorSpec whose shapes are read from its configuration files.

    The attributes raise FileNotFoundError if the pipeline is not on this machine, and ValueError, naming the part, if
    it is damaged or not an unconditional one.
    """

    name: str
    force_not_quantize: bool = False
    checkpoint: bool = False

    shipped = closed_form = labelled = tilted_denoiser = False
    signal_range = 1.0
    weights = property(lambda self: self)
    is_latent = property(lambda self: len(self.networks) == 2)
    family = property(lambda self: "ffhq_latent" if self.is_latent else "ffhq")

    @property
    def folder(self):
        return Path(self.name).expanduser() if is_folder(self.name) else cache_folder() / self.name.replace("/", "--")

    @property
    def remedy(self):
        if is_folder(self.name):
            return "give the folder of a whole pipeline, as `pipeline.save_pretrained(folder)` writes it"
        return (
            f'delete {self.folder} if it is there and run `benchopt prepare . --force -d "DATASET[prior={self.name}]"` '
            f"to fetch {HUB}/{self.name}, or correct the name: there is no folder {self.name} either"
        )

    def sources(self):
        return [self.folder / ("model_index.json" if is_folder(self.name) else COMPLETE)]

    def paths(self):
        return [path for part in self.networks for path in self.weight_files(part)[1]]

    def named_paths(self):
        return [self.folder]

    def prepare(self):
        if not is_folder(self.name) and not self.sources()[0].exists():
            from huggingface_hub import snapshot_download

            with downloads(f"the pipeline {self.name}", f"{HUB}/{self.name}", "correct its name"):
                snapshot_download(self.name, local_dir=self.folder, allow_patterns=["*.json", "*.bin", "*.safetensors"])
            (self.folder / COMPLETE).touch()
        return super().prepare()

    @property
    def parts(self):
        """``{component: class}`` of the pipeline, checked."""
        self.require()
        index = self.read_json("model_index.json")
        pipeline = index.get("_class_name")
        parts = {name: value[1] for name, value in index.items() if isinstance(value, list) and value[1]}
        autoencoders = [name for name, kind in parts.items() if kind in AUTOENCODERS]
        others = parts.keys() - {"unet", "scheduler", *autoencoders}
        if parts.get("unet") != "UNet2DModel" or others - {"vae", "vqvae"}:
            raise ValueError(
                f"{self.folder} is a {pipeline} with {', '.join(parts)}: its denoiser is conditional. A prior is an "
                "unconditional pipeline: LDMPipeline, DDPMPipeline or DDIMPipeline with a UNet2DModel"
            )
        if others or len(autoencoders) != (pipeline == "LDMPipeline" or bool(autoencoders)):
            raise ValueError(
                f"{self.folder} is a {pipeline} without its autoencoder: one part, `vqvae` or `vae`, has to be a "
                f"{' or '.join(AUTOENCODERS)}, found {parts}"
            )
        if "scheduler" not in parts:
            raise ValueError(
                f"{self.folder / 'model_index.json'} names no scheduler: name the one that the denoiser was trained "
                'with, as ["diffusers", "DDPMScheduler"], and put its scheduler_config.json in the folder scheduler'
            )
        unet = self.read_json("unet/config.json")
        if unet.get("class_embed_type") or unet.get("num_class_embeds"):
            raise ValueError(f"{self.folder}: the denoiser is conditional on a class; a prior is unconditional")
        return parts

    @property
    def networks(self):
        """Names of the denoiser and of the autoencoder, if there is one."""
        return ["unet", *(name for name, kind in self.parts.items() if kind in AUTOENCODERS)]

    def read_json(self, file):
        """Content of a JSON file of the folder; raises ValueError, naming it, if it is missing or damaged."""
        path = self.folder / file
        try:
            return json.loads(path.read_text())
        except (OSError, json.JSONDecodeError) as error:
            raise ValueError(f"{path} is missing or damaged: {self.remedy} ({error})") from error

    @property
    def event_shape(self):
        self.require()
        unet = self.read_json("unet/config.json")
        size = unet.get("sample_size")
        if size is None:
            raise ValueError(f"{self.folder / 'unet' / 'config.json'} has no sample_size: add it")
        return (unet["in_channels"], *((size, size) if isinstance(size, int) else size))

    @property
    def signal_shape(self):
        if not self.is_latent:
            return self.event_shape
        autoencoder = self.read_json(f"{self.networks[1]}/config.json")
        factor = 2 ** (len(autoencoder["block_out_channels"]) - 1)
        return (autoencoder["in_channels"], *(factor * side for side in self.event_shape[1:]))

    def load(self, device):
        scheduler = self.load_scheduler()
        unet, *autoencoders = (self.load_network(part) for part in self.networks)
        if not autoencoders and self.force_not_quantize:
            raise ValueError(f"{self.folder} has no autoencoder: leave force_not_quantize out")
        autoencoder = None
        if autoencoders:
            (model,) = autoencoders
            if model.config.get("shift_factor"):
                raise ValueError(f"{self.folder}: autoencoders with a shift_factor are not implemented")
            # files older than this key were made for latents as they are; diffusers would assume Stable Diffusion's
            scale = self.read_json(f"{self.networks[1]}/config.json").get("scaling_factor", 1.0)
            autoencoder = Autoencoder(model, scale=scale, force_not_quantize=self.force_not_quantize)
        shapes = {"event_shape": self.event_shape, "signal_shape": self.signal_shape}
        options = shapes | {"autoencoder": autoencoder, "checkpoint": self.checkpoint}
        if sigma_form := from_scheduler(scheduler):
            if self.parts["scheduler"] == "CMStochasticIterativeScheduler":
                warnings.warn(f"{self.folder}: a consistency model stands for the mean E[x_0 | x]", stacklevel=2)
            return PreconditionedNetwork(unet, *sigma_form, device, **options)
        prediction = scheduler.config.get("prediction_type", "epsilon")
        return Network(unet, self.schedule_of(scheduler), device, prediction=prediction, **options)

    def load_scheduler(self):
        """The pipeline's scheduler; raises ValueError for one that is unknown, or with an unknown prediction."""
        import diffusers  # seconds to import, so only when loaded

        kind, config = self.parts["scheduler"], self.read_json("scheduler/scheduler_config.json")
        scheduler_class = getattr(diffusers, kind, None)
        scheduler = scheduler_class and scheduler_class.from_config(config)
        try:
            if scheduler and from_scheduler(scheduler):
                return scheduler
        except ValueError as error:
            raise ValueError(f"{self.folder}: scheduler {error}") from error
        prediction = config.get("prediction_type", "epsilon")
        if not hasattr(scheduler, "alphas_cumprod") or prediction not in PREDICTIONS:
            raise ValueError(
                f"{self.folder}: scheduler {kind} with prediction {prediction}; EDM, ScoreSdeVe, FlowMatch or "
                f"CMStochasticIterative, or a class of diffusers with `alphas_cumprod` and one of "
                f"{', '.join(PREDICTIONS)} is needed"
            )
        return scheduler

    def schedule_of(self, scheduler):
        """The noise levels of a scheduler with betas."""
        abar = (1 - scheduler.betas.double()).cumprod(0)
        if abar[-1] == 0:
            warnings.warn(f"{self.folder}: the last level, noise alone (zero terminal SNR), is left out", stacklevel=2)
            abar = abar[:-1]
        try:
            return NoiseSchedule(abar)
        except ValueError as error:
            raise ValueError(f"{self.folder / 'scheduler' / 'scheduler_config.json'}: {error}") from error

    def weight_files(self, part):
        """The variant, None or "fp16", and the files of a network's weights: of those there are, diffusers' choice."""
        for variant in (None, "fp16"):
            stem = "diffusion_pytorch_model" + (f".{variant}" if variant else "")
            for suffix in ("safetensors", "bin"):
                folder = self.folder / part
                files = [*folder.glob(f"{stem}.{suffix}")] or sorted(folder.glob(f"{stem}-*.{suffix}"))
                if files:
                    return variant, files
        raise ValueError(f"the weights of {part} in {self.folder} are missing: {self.remedy}")

    def load_network(self, part):
        """A network with its weights in float32; raises ValueError, naming the part, if any is missing."""
        import diffusers

        variant, _ = self.weight_files(part)
        if variant:
            warnings.warn(f"{self.folder / part} has weights in half precision only: they are used", stacklevel=2)
        try:
            network, found = getattr(diffusers, self.parts[part]).from_pretrained(
                self.folder / part,
                variant=variant,
                local_files_only=True,
                output_loading_info=True,
                low_cpu_mem_usage=False,
            )
        except (OSError, RuntimeError, ValueError) as error:
            raise ValueError(f"the weights of {part} in {self.folder} are damaged: {self.remedy} ({error})") from error
        if found["missing_keys"]:  # diffusers would go on with random numbers
            raise ValueError(f"the weights of {part} in {self.folder} lack {', '.join(found['missing_keys'][:3])}")
        return network.float()
