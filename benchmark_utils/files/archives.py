"""The two published archives of a latent prior: find or fetch them, check them, convert them once."""

import hashlib
import os
import tempfile
import urllib.request
import zipfile
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file
from tqdm import tqdm

from benchmark_utils.files.paths import cache_folder, how_to_name, sha256_of, user_path
from benchmark_utils.files.weights import load_checkpoint, read_safetensors


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


@dataclass(frozen=True)
class Archives:
    """The published archives of a latent prior: one with the denoiser, one with the autoencoder.

    ``name`` is the prior's, one of ``hub.USER_PATHS``; the user's path is a folder with both files, or the
    safetensors file that ``scripts/convert_checkpoint.py`` makes of them. ``converters`` are two functions, each from
    the state dictionary of a file to tensors named ``unet.*`` or ``autoencoder.*``, which raise ValueError for
    another network. The authors publish no checksums: a zip file is compared with the one inside it, and the tensors
    are checked by name and shape.
    """

    name: str
    url: str
    files: tuple
    converters: tuple

    @property
    def folder(self):
        """Where the archives are looked for, and fetched to unless the user gave a path."""
        return user_path(self.name) or cache_folder() / self.name

    def archives(self):
        """Paths of the archives in the folder: the zip file, or a .ckpt file of the same name."""
        found = []
        for file in self.files:
            zipped = self.folder / file
            found.append(zipped if zipped.exists() else zipped.with_suffix(".ckpt"))
        return found

    def converted(self):
        """Where the converted form of these archives is kept: another name when a file changed."""
        stats = [path.stat() for path in self.archives()]
        key = repr([(path.resolve(), s.st_size, s.st_mtime_ns) for path, s in zip(self.archives(), stats, strict=True)])
        return cache_folder() / f"{self.name}-{hashlib.sha256(key.encode()).hexdigest()[:16]}.safetensors"

    def require(self):
        """Raise FileNotFoundError, saying what to do, if the weights are not on this machine."""
        if self.folder.is_file():
            return
        missing = [file for file, path in zip(self.files, self.archives(), strict=True) if not path.exists()]
        if missing:
            raise FileNotFoundError(
                f"the weights of {self.name} are not on this machine, {' and '.join(missing)} missing in "
                f'{self.folder}: run `benchopt prepare . --force -d "DATASET[prior={self.name}]"`, or put the files '
                f"from {self.url} there, or name your folder with both by {how_to_name(self.name)}"
            )

    def prepare(self):
        """Fetch and convert what is not there yet; returns the path of the converted weights.

        Raises ValueError for a wrong or damaged file and ConnectionError if the download fails.
        """
        if self.folder.is_file():
            return self.folder
        if user_path(self.name) is None:
            for file, path in zip(self.files, self.archives(), strict=True):
                if not path.exists():
                    fetch(f"{self.url}/{file}", self.folder / file)
        self.require()
        path = self.converted()
        if not path.exists():
            convert_archives(self.archives(), self.converters, path)
        return path

    def load_into(self, **networks):
        """Give networks (on the meta device) the weights found on this machine.

        Raises FileNotFoundError if there are none and ValueError if they are not of these networks.
        """
        self.require()
        path = self.prepare()
        load_parts(read_safetensors(path), networks, path)


def load_parts(tensors, networks, source):
    """Give each network ``name`` its tensors ``name.*``, in float32; raises ValueError if they are not its own."""
    for prefix, network in networks.items():
        start = f"{prefix}."
        own = {name.removeprefix(start): value.float() for name, value in tensors.items() if name.startswith(start)}
        try:
            network.load_state_dict(own, assign=True)
        except RuntimeError as error:
            raise ValueError(f"{source} does not hold the weights of the {prefix}: {error}") from error


def convert_archives(sources, converters, path):
    """Write the networks of the archives to the safetensors file ``path``; returns ``{archive: its sha256}``.

    The file appears under its name only when it is complete. Raises ValueError, naming the archive.
    """
    tensors, sums = {}, {}
    for source, convert in zip(sources, converters, strict=True):
        state = read_archive(source)
        try:
            tensors |= convert(state)
        except ValueError as error:
            raise ValueError(f"{source}: {error}") from error
        sums[source.name] = sha256_of(source)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    save_file(tensors, partial, metadata=sums)
    partial.replace(path)
    return sums


def fetch(url, path):
    """Download a file, going on where an earlier try broke off; it appears under its name only when it is complete.

    Raises ConnectionError if the server is not reached or sends less than it says.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.partial")
    done = partial.stat().st_size if partial.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={done}-"} if done else {})
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            resumed = response.status == 206
            size = int(response.headers["Content-Length"]) + done * resumed
            with (
                open(partial, "ab" if resumed else "wb") as file,
                tqdm(desc=path.name, total=size, initial=done * resumed, unit="B", unit_scale=True) as bar,
            ):
                while block := response.read(2**20):
                    file.write(block)
                    bar.update(len(block))
        if partial.stat().st_size != size:
            raise OSError(f"{partial.stat().st_size:,} of {size:,} bytes came")
    except OSError as error:
        raise ConnectionError(
            f"{url} could not be downloaded: run `benchopt prepare . --force` again with a network (it resumes), or "
            f"put the file at {path} ({error})"
        ) from error
    partial.replace(path)
