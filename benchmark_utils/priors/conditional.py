"""Conditional diffusers pipelines as priors: ``class_conditional`` and ``text``, by a hub id or a folder.

``DiTPipeline`` (Peebles & Xie 2023, https://arxiv.org/abs/2212.09748) takes classes, of which the last embedding stands
for none. ``StableDiffusionPipeline`` (Rombach et al. 2022, https://arxiv.org/abs/2112.10752) and ``AudioLDM2Pipeline``
(Liu et al. 2023, https://arxiv.org/abs/2308.05734) take embeddings of texts, computed once; no text is the empty one.
The signal of the last is a mel spectrogram: its vocoder is not run.
"""

import hashlib
from dataclasses import dataclass

import torch
from safetensors.torch import save_file

from benchmark_utils.files.paths import cache_folder, files_state, write_atomically
from benchmark_utils.files.weights import read_safetensors
from benchmark_utils.priors.networks import Autoencoder, Network
from benchmark_utils.priors.pipeline import Pipeline

DENOISERS = {"DiTPipeline": "transformer", "StableDiffusionPipeline": "unet", "AudioLDM2Pipeline": "unet"}
AUDIO_SECONDS = 10  # of the CFGiG paper's clips


class ConditionalNetwork(Network):
    """A latent :class:`Network`; ``condition(label, n)`` are its arguments for the labels of n rows, or for none."""

    def __init__(self, *arguments, condition, **options):
        super().__init__(*arguments, **options)
        self.condition = condition

    def denoise(self, x_t, t, label=None):
        return super().denoise(x_t, t, **self.condition(label, len(x_t)))

    def denoise_sigma(self, x, sigma, label=None):
        return super().denoise_sigma(x, sigma, **self.condition(label, len(x)))


class ClassCondition:
    """Arguments of a DiT for classes (n,); of none they are its null class."""

    def __init__(self, n_classes, device):
        self.n_classes, self.device = n_classes, device

    def __call__(self, label, n):
        return {"class_labels": torch.full((n,), self.n_classes, device=self.device) if label is None else label}


class TextCondition:
    """Arguments of a U-Net for embeddings (n, size) as :meth:`TextPipeline.encode` makes them.

    ``width`` is the size of a token; for AudioLDM 2 an embedding is the states of GPT-2, ``n_generated`` numbers, then
    those of T5 and the mask of its tokens.
    """

    def __init__(self, null, width, n_generated=0):
        self.null, self.width, self.n_generated = null, width, n_generated

    def __call__(self, label, n):
        label = self.null.expand(n, -1) if label is None else label
        if not self.n_generated:
            return {"encoder_hidden_states": label.view(n, -1, self.width[0])}
        n_tokens = (label.shape[1] - self.n_generated) // (self.width[1] + 1)
        generated, states, mask = label.split([self.n_generated, n_tokens * self.width[1], n_tokens], 1)
        return {
            "encoder_hidden_states": generated.reshape(n, -1, self.width[0]),
            "encoder_hidden_states_1": states.reshape(n, n_tokens, self.width[1]),
            "encoder_attention_mask_1": mask,
        }


@dataclass(frozen=True)
class ConditionalPipeline(Pipeline):
    """A conditional pipeline's folder as a PriorSpec; its attributes raise errors as those of the base class."""

    labelled = is_latent = True

    @property
    def kind(self):
        self.require()
        kind = self.read_json("model_index.json").get("_class_name")
        if kind not in self.known_kinds:
            raise ValueError(f"{self.folder} is a {kind}; this prior is made of a {' or '.join(self.known_kinds)}")
        return kind

    @property
    def parts(self):
        index = self.read_json("model_index.json")
        parts = {name: value[1] for name, value in index.items() if isinstance(value, list) and value[1]}
        if missing := {DENOISERS[self.kind], "vae", "scheduler"} - parts.keys():
            raise ValueError(f"{self.folder / 'model_index.json'} names no {' and no '.join(sorted(missing))}")
        return parts

    @property
    def networks(self):
        return [DENOISERS[self.kind], "vae"]

    @property
    def config(self):
        """Configuration of the denoiser."""
        return self.read_json(f"{self.networks[0]}/config.json")

    @property
    def event_shape(self):
        if self.kind != "AudioLDM2Pipeline":
            return (self.config["in_channels"], self.config["sample_size"], self.config["sample_size"])
        vocoder, factor = self.read_json("vocoder/config.json"), self.autoencoder_factor
        hop = torch.tensor(vocoder["upsample_rates"]).prod().item()
        frames = AUDIO_SECONDS * vocoder["sampling_rate"] // hop
        return (self.config["in_channels"], -(-frames // factor), vocoder["model_in_dim"] // factor)

    @property
    def autoencoder_factor(self):
        return 2 ** (len(self.read_json("vae/config.json")["block_out_channels"]) - 1)

    @property
    def signal_shape(self):
        channels = self.read_json("vae/config.json")["in_channels"]
        return (channels, *(self.autoencoder_factor * side for side in self.event_shape[1:]))

    def load(self, device):
        condition, scheduler = self.condition(device), self.load_scheduler()
        network, model = (self.load_network(part) for part in self.networks)
        # files older than this key were made for diffusers' own default, Stable Diffusion's
        autoencoder = Autoencoder(model, scale=model.config.scaling_factor)
        return ConditionalNetwork(
            network,
            self.schedule_of(scheduler),
            device,
            self.event_shape,
            self.signal_shape,
            prediction=scheduler.config.get("prediction_type", "epsilon"),
            autoencoder=autoencoder,
            condition=condition,
        )


@dataclass(frozen=True)
class ClassPipeline(ConditionalPipeline):
    """A ``DiTPipeline``."""

    known_kinds = ("DiTPipeline",)
    family = "imagenet"
    n_classes = property(lambda self: self.config["num_embeds_ada_norm"])

    def condition(self, device):
        return ClassCondition(self.n_classes, device)


@dataclass(frozen=True)
class TextPipeline(ConditionalPipeline):
    """A ``StableDiffusionPipeline`` or an ``AudioLDM2Pipeline``."""

    known_kinds = ("StableDiffusionPipeline", "AudioLDM2Pipeline")
    family = "text"

    def condition(self, device):
        width = self.config["cross_attention_dim"]
        if self.kind == "StableDiffusionPipeline":
            return TextCondition(self.encode([""]).to(device), [width])
        widths = [size for size in width[0] if size]  # of GPT-2's states and of T5's
        n_generated = self.read_json("language_model/config.json").get("max_new_tokens", 8) * widths[0]
        return TextCondition(self.encode([""]).to(device), widths, n_generated)

    def encode(self, texts):
        """Embeddings of texts, (n, size) in float32, computed once and kept in the cache folder.

        Raises ImportError, naming it, without the package ``transformers``.
        """
        key = hashlib.sha256(repr((files_state(self.folder.resolve()), *texts)).encode()).hexdigest()[:16]
        path = cache_folder() / f"texts-{key}.safetensors"
        if not path.exists():
            write_atomically(path, lambda target: save_file({"texts": self._encode(texts)}, target))
        return read_safetensors(path)["texts"]

    def _encode(self, texts):
        try:
            import transformers  # noqa: F401
        except ImportError as error:
            raise ImportError(
                "text priors need the package transformers, which is optional: pip install '.[text]' -c constraints.txt"
            ) from error
        import diffusers

        pipeline = getattr(diffusers, self.kind).from_pretrained(self.folder, local_files_only=True)
        with torch.no_grad():
            if self.kind == "StableDiffusionPipeline":
                return pipeline.encode_prompt(texts, "cpu", 1, False)[0].flatten(1).float()
            states, mask, generated = pipeline.encode_prompt(texts, "cpu", 1, False)
        return torch.cat([generated.flatten(1), states.flatten(1), mask.to(states)], 1).float()


PRIORS = {
    "class_conditional": lambda pipeline="facebook/DiT-XL-2-256": ClassPipeline(pipeline),
    "text": lambda pipeline="cvssp/audioldm2": TextPipeline(pipeline),
}
