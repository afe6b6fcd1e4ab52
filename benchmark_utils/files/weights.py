"""The weights that a prior or an operator needs: find, fetch, check and convert them; never random ones instead."""

import contextlib
import functools
import pickle
import tempfile
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from tqdm import tqdm

from benchmark_utils.files.paths import (
    asset,
    cache_folder,
    data_home,
    how_to_name,
    sha256_of,
    user_path,
    write_atomically,
)

CHECKPOINT_STARTS = (b"PK", b"\x80\x02")  # of torch's zip format and of the one before it
HUB = "https://huggingface.co"


class Weights:
    """The files that a prior or an operator is loaded from; this base class has none, as a closed form needs.

    Subclasses have a ``name`` and a ``remedy``, the part of the error message that says how to get the files.
    """

    shipped = True  # with the benchmark, or made of nothing

    def paths(self):
        """The files that are read, in this order; they are there after :meth:`prepare`."""
        return []

    def sources(self):
        """The files that must be on this machine before :meth:`prepare` can go on without a network."""
        return self.paths()

    def named_paths(self):
        """Paths that a prior's name gives: what lies there belongs in the cache key, beside that of ``USER_PATHS``."""
        return []

    def require(self):
        """Raise FileNotFoundError, saying what to do, if a file is not on this machine."""
        missing = [str(path) for path in self.sources() if not path.is_file()]
        if missing:
            missing = " and ".join(missing)
            raise FileNotFoundError(
                f"the weights of {self.name} are not on this machine, {missing} missing: {self.remedy}"
            )

    def prepare(self):
        """Fetch, check and convert what is not there yet; returns :meth:`paths`.

        Raises ConnectionError if a download fails and ValueError, naming the file, for a wrong or damaged one.
        """
        self.require()
        return self.paths()

    def find(self):
        """The only file, converted if need be; downloads nothing. Raises FileNotFoundError and ValueError as above."""
        self.require()
        (path,) = self.prepare()
        return path


@dataclass(frozen=True)
class Asset(Weights):
    """A shipped file, whose content is compared with ``assets/SHA256SUMS`` before it is used."""

    name: str

    def paths(self):
        return [asset(self.name)]

    def require(self):
        """Does nothing: a missing or damaged asset is a broken checkout, and :meth:`paths` raises an error for it."""


@dataclass(frozen=True)
class UserFiles(Weights):
    """Files that the user has to fetch and to name by a path: one file, or a folder that holds ``files``."""

    shipped = False
    name: str
    content: str  # what they are and where they come from
    files: tuple = ()

    @property
    def remedy(self):
        return f"{self.content}, and name the path by {how_to_name(self.name)}"

    def paths(self):
        path = user_path(self.name) or data_home() / self.name
        return [path / file for file in self.files] or [path]


@dataclass(frozen=True)
class Published(Weights):
    """Checkpoints that their authors publish, converted once to one safetensors file.

    ``name`` is the prior's, one of ``USER_PATHS``. ``converters`` has for each file below ``url`` a function: it takes
    the tensors that ``read(path)`` finds in the file, returns those of the prior's networks, and raises ValueError for
    another network. ``sha256`` (of the only file) and ``size`` in bytes are checked where they are known.

    A path that the user names takes precedence: a folder with the files, the only file, or the converted one. Its
    tensors are checked by name and shape but not by ``sha256``, since it may be another training run.
    """

    shipped = False
    name: str
    url: str
    converters: dict
    read: Callable
    sha256: str | None = None
    size: int | None = None

    @property
    def folder(self):
        """Where the published files lie."""
        return user_path(self.name) or cache_folder() / self.name

    @property
    def remedy(self):
        if user_path(self.name):
            return f"correct {how_to_name(self.name)}, or put the files from {self.url} there"
        size = f" (downloads {self.size / 1e9:.1f} GB)" if self.size else ""
        return (
            f'run `benchopt prepare . --force -d "DATASET[prior={self.name}]"`{size}, or put the files from {self.url} '
            f"there, or name yours by {how_to_name(self.name)}"
        )

    def sources(self):
        own = user_path(self.name)
        if own is not None and not own.is_dir():
            return [own]
        paths = [self.folder / file for file in self.converters]
        return [next((p for p in (path, path.with_suffix(".ckpt")) if p.exists()), path) for path in paths]

    def named_paths(self):
        return [] if self.sha256 and not user_path(self.name) else self.sources()

    def paths(self):
        sources = self.sources()
        if sources[0].suffix == ".safetensors":
            return sources
        published = self.sha256 and not user_path(self.name)
        sums = [self.sha256] if published else [sha256_of(path) for path in sources]
        return [cache_folder() / f"{'-'.join([self.name, *(digest[:16] for digest in sums)])}.safetensors"]

    def is_converted(self):
        """Whether the published file was converted before, so that it itself is not needed."""
        return bool(self.sha256) and not user_path(self.name) and self.paths()[0].exists()

    def require(self):
        if not self.is_converted():
            super().require()

    def prepare(self):
        if not self.is_converted():
            if user_path(self.name) is None:
                self._fetch()
            self.require()
            (path,) = self.paths()
            if not path.exists():
                self._convert(path)
        return self.paths()

    def _fetch(self):
        """Download the published files that are not there, and check the one whose sha256 is known."""
        for path in self.sources():
            if path.exists():
                continue
            with downloads(path.name, self.url, f"put the file at {path}"):
                if self.url.startswith(HUB):
                    from huggingface_hub import hf_hub_download

                    # the branch "main" may move, so the content is checked below
                    hf_hub_download(self.url.removeprefix(f"{HUB}/"), path.name, revision="main", local_dir=self.folder)
                else:
                    download(f"{self.url}/{path.name}", path)
        (path, *_) = self.sources()
        if self.sha256 and (path.stat().st_size != self.size or sha256_of(path) != self.sha256):
            raise ValueError(
                f"{path} is truncated or another file ({path.stat().st_size:,} bytes; the published one has "
                f"{self.size:,} bytes and sha256 {self.sha256}): delete it and run `benchopt prepare . --force` again"
            )

    def _convert(self, path):
        """Write the tensors of the sources to the safetensors file ``path``; raises ValueError, naming the source."""
        tensors, sums = {}, {}
        for source, convert in zip(self.sources(), self.converters.values(), strict=True):
            state = self.read(source)
            try:
                tensors |= convert(state)
            except ValueError as error:
                raise ValueError(f"{source}: {error}") from error
            sums[source.name] = sha256_of(source)
            print(f"{source}: sha256 {sums[source.name]}")
        write_atomically(path, functools.partial(save_file, tensors, metadata=sums))


def load_networks(path, networks):
    """Give networks the tensors of a safetensors file, in float32; returns all that the file holds.

    ``networks`` is ``{start of the tensors' names: network}``. Raises ValueError, naming the file, if it is damaged or
    of other networks.
    """
    tensors = read_safetensors(path)
    for start, network in networks.items():
        own = {name.removeprefix(start): value.float() for name, value in tensors.items() if name.startswith(start)}
        try:
            network.load_state_dict(own, assign=True)
        except RuntimeError as error:
            raise ValueError(f"{path} does not hold the weights of this network: {error}") from error
    return tensors


def read_safetensors(path):
    """The tensors of a safetensors file; raises ValueError, naming the file, if it is damaged."""
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise ValueError(
            f"{path} cannot be read as safetensors: delete it, then run `benchopt prepare --force` again ({error})"
        ) from error


def load_checkpoint(path, **options):
    """The content of a torch checkpoint, read without running code from it; ``options`` go to ``torch.load``.

    Raises ValueError, naming the file, if it is truncated, is no checkpoint or holds more than tensors and numbers.
    """
    try:
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


class Inert:
    """Stands for any class that a checkpoint names beside its tensors: keeps nothing and runs nothing."""

    def __init__(self, *args, **kwargs):
        pass

    def __setstate__(self, state):
        pass


def read_training_checkpoint(path):
    """The tensors ``state_dict`` of a checkpoint of a training run, whose other content is neither kept nor run.

    Raises ValueError, naming the file, if it cannot be read or has no ``state_dict``.
    """
    try:
        named = torch.serialization.get_unsafe_globals_in_checkpoint(path)
    except (ValueError, RuntimeError, OSError):
        named = []  # not torch's zip format: the reader below says what is wrong, or reads the older format
    with torch.serialization.safe_globals([(Inert, name) for name in named]):
        checkpoint = load_checkpoint(path)
    if not (isinstance(checkpoint, dict) and isinstance(checkpoint.get("state_dict"), dict)):
        raise ValueError(f"{path} has no `state_dict`: give the checkpoint of the training run, model.ckpt")
    return {name: value for name, value in checkpoint["state_dict"].items() if torch.is_tensor(value)}


def read_archive(path):
    """``state_dict`` of the ``model.ckpt`` in a zip file, or of a .ckpt file; raises ValueError, naming the file."""
    if not zipfile.is_zipfile(path) or path.suffix == ".ckpt":  # torch's own checkpoints are zip files too
        return read_training_checkpoint(path)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        try:
            with zipfile.ZipFile(path) as archive:
                inside = [name for name in archive.namelist() if name.endswith("model.ckpt")]
                if len(inside) != 1:
                    content = ", ".join(archive.namelist()[:3])
                    raise ValueError(f"{path} is another archive: it holds {content}, and not one model.ckpt")
                extracted = Path(archive.extract(inside[0], folder))  # compares the content with its checksum
        except (zipfile.BadZipFile, EOFError, OSError) as error:
            raise ValueError(f"{path} is truncated or damaged: delete it and fetch it again ({error})") from error
        return read_training_checkpoint(extracted)


@contextlib.contextmanager
def downloads(what, url, otherwise):
    """Turn what a download fails with inside the ``with`` into a ConnectionError that says what to do."""
    try:
        yield
    except (OSError, ValueError) as error:  # the hub's client raises either
        raise ConnectionError(
            f"{what} could not be downloaded from {url}: run `benchopt prepare . --force` again with a network (it "
            f"resumes), or {otherwise} ({error})"
        ) from error


def download(url, path):
    """Download a file, going on where an earlier try broke off; it appears under its name only when it is complete.

    Raises OSError if the server is not reached or sends less than it says.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.partial")
    done = partial.stat().st_size if partial.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={done}-"} if done else {})
    try:
        response = urllib.request.urlopen(request, timeout=60)
    except urllib.error.HTTPError as error:
        if error.code != 416:  # nothing is left of the file, or it has changed: from its start
            raise
        partial.unlink()
        return download(url, path)
    with response:
        resumed = response.status == 206
        size = int(response.headers.get("Content-Length", 0)) + done * resumed
        with (
            open(partial, "ab" if resumed else "wb") as file,
            tqdm(desc=path.name, total=size, initial=done * resumed, unit="B", unit_scale=True) as bar,
        ):
            while block := response.read(2**20):
                file.write(block)
                bar.update(len(block))
    if "Content-Length" in response.headers and partial.stat().st_size != size:
        raise OSError(f"{partial.stat().st_size:,} of {size:,} bytes came")
    partial.replace(path)
