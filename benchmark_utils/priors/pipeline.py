"""Any unconditional diffusers pipeline as a prior: ``prior=<organisation>/<name>`` of the hub, or a folder's path.

``LDMPipeline`` (a ``UNet2DModel`` on the latents of a ``VQModel`` or ``AutoencoderKL``) and ``DDPMPipeline`` or
``DDIMPipeline`` (a ``UNet2DModel`` on images), trained with the labels and the alphas of a DDPM schedule. Solvers
take the presets of FFHQ.
"""

import json
from dataclasses import dataclass
from pathlib import Path

from benchmark_utils.files.paths import cache_folder, note_read
from benchmark_utils.priors.latent import Autoencoder, DiffusersPrior
from benchmark_utils.schedule import NoiseSchedule

COMPLETE = ".complete"  # in the folder of a download that was not interrupted
AUTOENCODERS = "VQModel", "AutoencoderKL"
PREDICTIONS = "epsilon", "v_prediction", "sample"


@dataclass(frozen=True)
class Pipeline:
    """A pipeline's folder as a PriorSpec whose shapes are read from its configuration files.

    The attributes raise FileNotFoundError if the pipeline is not on this machine, and ValueError, naming the part, if
    it is damaged or not an unconditional one.
    """

    name: str
    force_not_quantize: bool = False
    checkpoint: bool = False

    closed_form = False
    weights = property(lambda self: self)
    is_latent = property(lambda self: "vqvae" in self.parts)
    family = property(lambda self: "ffhq_latent" if self.is_latent else "ffhq")

    @property
    def folder(self):
        return Path(self.name).expanduser() if is_folder(self.name) else cache_folder() / self.name.replace("/", "--")

    def is_here(self):
        """Whether all files are: a download is finished, or the folder is the user's."""
        return (self.folder / ("model_index.json" if is_folder(self.name) else COMPLETE)).exists()

    def require(self):
        """Raise FileNotFoundError, saying what to do, if the pipeline is not on this machine."""
        if not self.is_here():
            raise FileNotFoundError(
                f"there is no complete pipeline in {self.folder}: run `benchopt prepare . --force -d "
                f'"DATASET[prior={self.name}]"` to fetch https://huggingface.co/{self.name}, or give the path of a '
                "folder with model_index.json as prior"
            )

    def prepare(self):
        """Fetch what is not there yet; raises ConnectionError if that fails."""
        if is_folder(self.name) or self.is_here():
            return
        from huggingface_hub import snapshot_download

        try:
            snapshot_download(self.name, local_dir=self.folder, allow_patterns=["*.json", "*.bin", "*.safetensors"])
        except (OSError, ValueError) as error:
            raise ConnectionError(
                f"the pipeline {self.name} could not be downloaded from https://huggingface.co/{self.name}: check its "
                f"name and run `benchopt prepare . --force` again with a network ({error})"
            ) from error
        (self.folder / COMPLETE).touch()

    @property
    def parts(self):
        """``{component: class}`` of the pipeline, checked."""
        self.require()
        index = read_json(self.folder / "model_index.json")
        pipeline = index.get("_class_name")
        parts = {name: value[1] for name, value in index.items() if isinstance(value, list) and value[1]}
        if "bert" in parts or parts.get("unet") != "UNet2DModel":
            raise ValueError(
                f"{self.folder} is a {pipeline} with {', '.join(parts)}: its denoiser is conditional. A prior is an "
                "unconditional pipeline: LDMPipeline, DDPMPipeline or DDIMPipeline with a UNet2DModel"
            )
        if pipeline == "LDMPipeline" and parts.get("vqvae") not in AUTOENCODERS:
            raise ValueError(
                f"{self.folder} is an LDMPipeline without its autoencoder: the part `vqvae` has to be a "
                f"{' or '.join(AUTOENCODERS)}, found {parts.get('vqvae')}"
            )
        if self.config("unet").get("class_embed_type") or self.config("unet").get("num_class_embeds"):
            raise ValueError(f"{self.folder}: the denoiser is conditional on a class; a prior is unconditional")
        return parts

    def config(self, part):
        name = "scheduler_config.json" if part == "scheduler" else "config.json"
        return read_json(self.folder / part / name)

    @property
    def event_shape(self):
        unet = self.config("unet")
        size = unet.get("sample_size")
        if size is None:
            raise ValueError(f"{self.folder / 'unet' / 'config.json'} has no sample_size: add it")
        return (unet["in_channels"], *((size, size) if isinstance(size, int) else size))

    @property
    def signal_shape(self):
        if not self.is_latent:
            return self.event_shape
        autoencoder = self.config("vqvae")
        factor = 2 ** (len(autoencoder["block_out_channels"]) - 1)
        return (autoencoder["in_channels"], *(factor * side for side in self.event_shape[1:]))

    def load(self, device):
        import diffusers  # seconds to import, so only when loaded

        parts = self.parts
        scheduler = getattr(diffusers, parts["scheduler"]).from_pretrained(self.folder / "scheduler")
        prediction = scheduler.config.get("prediction_type", "epsilon")
        if not hasattr(scheduler, "alphas_cumprod") or prediction not in PREDICTIONS:
            raise ValueError(
                f"{self.folder}: scheduler {parts['scheduler']} with prediction {prediction}; a schedule with "
                f"`alphas_cumprod` and one of {', '.join(PREDICTIONS)} is needed"
            )
        schedule = NoiseSchedule((1 - scheduler.betas.double()).cumprod(0))
        unet, autoencoder = self.network("unet"), None
        if not self.is_latent and self.force_not_quantize:
            raise ValueError(f"{self.folder} has no autoencoder: leave force_not_quantize out")
        if self.is_latent:
            model = self.network("vqvae")
            if model.config.get("shift_factor"):
                raise ValueError(f"{self.folder}: autoencoders with a shift_factor are not implemented")
            # files older than this key were made for latents as they are; diffusers would assume Stable Diffusion's
            scale = self.config("vqvae").get("scaling_factor", 1.0)
            autoencoder = Autoencoder(model, scale=scale, force_not_quantize=self.force_not_quantize)
        shapes = self.event_shape, self.signal_shape
        return DiffusersPrior(unet, schedule, prediction, *shapes, device, autoencoder, self.checkpoint)

    def network(self, part):
        """A network with its weights in float32; raises ValueError, naming the part, if any is missing."""
        import diffusers

        network_class = getattr(diffusers, self.parts[part])
        try:
            network, found = network_class.from_pretrained(
                self.folder / part, local_files_only=True, output_loading_info=True, low_cpu_mem_usage=False
            )
        except (OSError, RuntimeError, ValueError) as error:
            raise ValueError(
                f"the weights of {part} in {self.folder} are missing or damaged: delete the folder and fetch it again "
                f"({error})"
            ) from error
        if found["missing_keys"]:  # diffusers would go on with random numbers
            raise ValueError(f"the weights of {part} in {self.folder} lack {', '.join(found['missing_keys'][:3])}")
        for path in weight_files(self.folder / part):
            note_read(path)
        return network


def weight_files(folder):
    """The files of weights that diffusers reads: safetensors, and without them its older format."""
    return sorted(folder.glob("*.safetensors")) or sorted(folder.glob("*.bin"))


def is_folder(name):
    return Path(name).expanduser().is_dir()


def read_json(path):
    """Content of a JSON file; raises ValueError, naming it, if it is missing or damaged."""
    try:
        return json.loads(path.read_text())
    except (OSError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} is missing or damaged: delete the folder and fetch it again ({error})") from error
