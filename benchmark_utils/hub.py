"""Find, check and fetch the files a prior or metric needs; nothing is ever replaced by random weights.

Own files are named by the environment variable ``<NAME>_PATH`` or by ``data_paths`` in config.yml, with the names
of ``USER_PATHS``. Downloads lie in ``~/.cache/benchmark_diffusion_posterior``, or in the folder that the
environment variable ``BENCHMARK_DIFFUSION_POSTERIOR_CACHE`` names.
"""

import contextlib
import hashlib
import os
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from benchopt.benchmark import get_running_benchmark
from benchopt.config import get_data_path
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

ASSETS = Path(__file__).parents[1] / "assets"
CHECKPOINT_STARTS = (b"PK", b"\x80\x02")  # of torch's zip format and of the one before it
USER_PATHS = {
    "ffhq": "folder of FFHQ images",
    "imagenet": "folder of ImageNet validation JPEGs",
    "ffhq256": "checkpoint of the prior ffhq256",
    "imagenet256": "checkpoint of the prior imagenet256",
    "ffhq256_latent": "folder with the two archives of the prior ffhq256_latent, or one converted file",
    "nonlinear_blur": "checkpoint of the nonlinear blur",
    "slakh2100": "folder of Slakh2100 tracks",
    "slakh_msdm": "checkpoint of the prior slakh_msdm",
    "slakh_isdm": "folder of the four checkpoints of the prior slakh_isdm",
}


_files_read = []


@contextlib.contextmanager
def files_read():
    """A list that fills with the paths of the weight files that are read inside the ``with``."""
    start = len(_files_read)
    found = []
    try:
        yield found
    finally:
        found += dict.fromkeys(_files_read[start:])
        del _files_read[start:]


def note_read(path):
    """Say that a weight file was read, for :func:`files_read`."""
    _files_read.append(path)


def sha256_of(path):
    """Hex sha256 of a file, read in chunks."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def asset(name):
    """Path of a shipped file, checked against ``assets/SHA256SUMS``.

    Raises FileNotFoundError if it is missing and ValueError if its content is not the shipped one.
    """
    path = ASSETS / name
    sums = dict(line.split()[::-1] for line in (ASSETS / "SHA256SUMS").read_text().splitlines())
    if name not in sums:
        raise ValueError(f"{name} is not listed in {ASSETS / 'SHA256SUMS'}; known: {', '.join(sorted(sums))}")
    if not path.exists():
        raise FileNotFoundError(f"the shipped file {path} is missing: restore it with `git checkout -- assets`")
    if sha256_of(path) != sums[name]:
        raise ValueError(
            f"the shipped file {path} is truncated or altered (its sha256 is not the one in SHA256SUMS): "
            "restore it with `git checkout -- assets`"
        )
    note_read(path)
    return path


def asset_tensors(name):
    """Tensors of a shipped safetensors file, checked like :func:`asset`."""
    return load_file(asset(name))


def data_home():
    """The folder where a user's files are looked for when no path is given: benchopt's ``data_home``."""
    return get_data_path() if get_running_benchmark() else ASSETS.parent / "data"


def user_path(name):
    """The path that the user gave for a name of ``USER_PATHS``, or None."""
    if name not in USER_PATHS:
        raise ValueError(f"{name!r} is not in USER_PATHS; known: {', '.join(USER_PATHS)}")
    from_environment = os.environ.get(f"{name.upper()}_PATH")
    if from_environment:
        return Path(from_environment).expanduser().resolve()
    path = get_data_path(name) if get_running_benchmark() else data_home() / name
    return path if path != data_home() / name else None


def how_to_name(name):
    """How the user names a path, for error messages."""
    return f"the environment variable {name.upper()}_PATH or `data_paths: {{{name}: PATH}}` in config.yml"


def user_files_state():
    """What the user's files are, for the cache key: path and time of change, of a folder also of the folders in it.

    The time of a folder changes when a file in it comes, goes or is replaced, not when one is overwritten in place.
    """
    state = {}
    for name in USER_PATHS:
        path = user_path(name) or data_home() / name
        parts = sorted(folder for folder, *_ in os.walk(path)) if path.is_dir() else [str(path)]
        state[name] = [(part, os.stat(part).st_mtime_ns if os.path.exists(part) else None) for part in parts]
    return state


def cache_folder():
    """The folder of downloaded and converted files."""
    folder = os.environ.get("BENCHMARK_DIFFUSION_POSTERIOR_CACHE") or "~/.cache/benchmark_diffusion_posterior"
    return Path(folder).expanduser()


def load_checkpoint(path, **options):
    """What a torch checkpoint holds, read without running code from it; ``options`` go to ``torch.load``.

    Raises ValueError, naming the file, if it is truncated, is no checkpoint or holds more than tensors and numbers.
    """
    try:
        note_read(path)
        with open(path, "rb") as file:
            if file.read(2) not in CHECKPOINT_STARTS:
                raise pickle.UnpicklingError("neither a zip file nor a pickle")
        return torch.load(path, map_location="cpu", weights_only=True, **options)
    except (RuntimeError, EOFError, OSError, pickle.UnpicklingError) as error:
        raise ValueError(
            f"{path} cannot be read as a torch checkpoint: it is truncated or another kind of file. "
            f"Fetch it again. ({type(error).__name__}: {error})"
        ) from error


def read_checkpoint(path):
    """The tensors of a torch checkpoint that holds nothing else; raises ValueError, naming the file."""
    state = load_checkpoint(path)
    if not (isinstance(state, dict) and all(torch.is_tensor(value) for value in state.values())):
        raise ValueError(f"{path} is not a dictionary of tensors: give the file with the bare network weights")
    return state


def read_safetensors(path):
    """The tensors of a safetensors file; raises ValueError, naming the file, if it is damaged."""
    try:
        note_read(path)
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise ValueError(
            f"{path} cannot be read as safetensors: delete it, then run `benchopt prepare --force` again ({error})"
        ) from error


@dataclass(frozen=True)
class Checkpoint:
    """A published checkpoint on the Hugging Face hub, checked by its sha256 and converted once.

    ``name`` is the prior's, one of ``USER_PATHS``; ``convert`` maps the file's tensors to those of the prior's
    network and raises ValueError if they are not of this network. A path that the user gave takes precedence and
    is not compared with ``sha256``, since it may be another training run: its tensors are checked by name and
    shape. It may also be a converted safetensors file.
    """

    name: str
    repo: str
    file: str
    size: int
    sha256: str
    convert: Callable

    @property
    def original(self):
        """Where the published file is kept."""
        return cache_folder() / self.file

    def converted(self, sha256):
        """Where the converted form of the file with this sha256 is kept."""
        return cache_folder() / f"{self.name}-{sha256[:16]}.safetensors"

    def require(self):
        """Raise FileNotFoundError, saying what to do, if the weights are not on this machine."""
        path = user_path(self.name)
        if path is not None and not path.is_file():
            raise FileNotFoundError(f"there is no file {path}: correct {how_to_name(self.name)}")
        if path is None and not (self.converted(self.sha256).exists() or self.original.exists()):
            raise FileNotFoundError(
                f"the weights of {self.name} are not on this machine: run `benchopt prepare . --force -d "
                f'"DATASET[prior={self.name}]"` (downloads {self.size / 1e9:.1f} GB), or put {self.file} from '
                f"https://huggingface.co/{self.repo} at {self.original}, or name your copy by {how_to_name(self.name)}"
            )

    def prepare(self):
        """Fetch, check and convert what is not there yet; returns the path of the converted weights.

        Raises ValueError for a wrong or truncated file and ConnectionError if the download fails.
        """
        source = user_path(self.name)
        if source is None and self.converted(self.sha256).exists():
            return self.converted(self.sha256)
        if source is None:
            sha256 = self._fetch()
            source = self.original
        else:
            self.require()
            if source.suffix == ".safetensors":
                return source
            sha256 = sha256_of(source)
        path = self.converted(sha256)
        if not path.exists():
            convert_file(source, self.convert, path)
        return path

    def load_into(self, network):
        """Give a network (on the meta device) the weights found on this machine.

        Raises FileNotFoundError if there are none and ValueError if they are not of this network.
        """
        self.require()
        path = self.prepare()
        try:
            network.load_state_dict(read_safetensors(path), assign=True)
        except RuntimeError as error:
            raise ValueError(f"{path} does not hold the weights of {self.name}: {error}") from error

    def _fetch(self):
        """Download the published file unless it is there, and check it; returns its sha256."""
        if not self.original.exists():
            from huggingface_hub import hf_hub_download

            try:
                # "main" may move, the content may not: the sha256 is checked below
                hf_hub_download(self.repo, self.file, revision="main", local_dir=cache_folder())
            except OSError as error:
                raise ConnectionError(
                    f"{self.file} could not be downloaded from https://huggingface.co/{self.repo}: run "
                    f"`benchopt prepare . --force` again with a network (it resumes), or put the file at "
                    f"{self.original}. ({error})"
                ) from error
        size = self.original.stat().st_size
        if size != self.size or sha256_of(self.original) != self.sha256:
            raise ValueError(
                f"{self.original} is truncated or another file ({size:,} bytes; the published one has {self.size:,} "
                f"bytes and sha256 {self.sha256}): delete it and run `benchopt prepare . --force` again"
            )
        return self.sha256


def convert_file(source, convert, path):
    """Write the tensors of checkpoint ``source``, passed through ``convert``, to the safetensors file ``path``.

    The file appears under its name only when it is complete. Raises ValueError, naming ``source``.
    """
    state = read_checkpoint(source)
    try:
        tensors = convert(state)
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from error
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    save_file(tensors, partial)
    partial.replace(path)
