"""The weights that a prior needs: read, fetch, check and convert them; never replaced by random ones."""

import os
import pickle
from collections.abc import Callable
from dataclasses import dataclass

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from benchmark_utils.files.paths import cache_folder, how_to_name, note_read, sha256_of, user_path

CHECKPOINT_STARTS = (b"PK", b"\x80\x02")  # of torch's zip format and of the one before it


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
