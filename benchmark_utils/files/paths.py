"""Where files lie: shipped assets, files that the user names, and downloads.

Own files are named by the environment variable ``<NAME>_PATH`` or by ``data_paths`` in config.yml, with the names
of ``USER_PATHS``. Downloads lie in ``~/.cache/benchmark_diffusion_posterior``, or in the folder that the
environment variable ``BENCHMARK_DIFFUSION_POSTERIOR_CACHE`` names.
"""

import contextlib
import functools
import hashlib
import os
from pathlib import Path

from benchopt.benchmark import get_running_benchmark
from benchopt.config import get_data_path

ASSETS = Path(__file__).parents[2] / "assets"
USER_PATHS = {
    "ffhq": "folder of FFHQ images",
    "imagenet": "folder of ImageNet validation JPEGs",
    "ffhq256": "checkpoint of the prior ffhq256",
    "imagenet256": "checkpoint of the prior imagenet256",
    "ffhq256_latent": "folder with the two archives of the prior ffhq256_latent, or one converted file",
    "nonlinear_blur": "checkpoint of the nonlinear blur",
    "slakh2100": "folder of Slakh2100 tracks",
    "ptbxl": "folder of PTB-XL",
    "slakh_msdm": "checkpoint of the prior slakh_msdm",
    "slakh_isdm": "folder of the four checkpoints of the prior slakh_isdm",
}


def sha256_of(path):
    """Hex sha256 of a file, kept while its size and its time of change stay."""
    state = os.stat(path)
    return _sha256(path, state.st_size, state.st_mtime_ns)


@functools.cache
def _sha256(path, size, changed):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_atomically(path, write):
    """Write a file by ``write(partial)``; it appears at ``path`` only when it is complete.

    Raises ValueError if ``path`` is there and no regular file.
    """
    if path.exists() and not path.is_file():
        raise ValueError(f"{path} is not a regular file: give another path to write to")
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        write(partial)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


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
    return path


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


def files_state(path):
    """What lies at a path, for the cache key: a digest of size and time of change of the file, or of all files below.

    Links are followed, each folder is read once; names that begin with a dot are left out.
    """
    files, visited = [] if os.path.isdir(path) else [str(path)], set()
    for parent, folders, names in os.walk(path, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith(".")]
        if (real := os.path.realpath(parent)) in visited:
            folders.clear()
            continue
        visited.add(real)
        files += [os.path.join(parent, name) for name in names if not name.startswith(".")]
    digest = hashlib.sha256()
    for file in sorted(files):
        with contextlib.suppress(FileNotFoundError):  # a link to nowhere, or no path
            found = os.stat(file)
            digest.update(f"{file} {found.st_size} {found.st_mtime_ns}\n".encode(errors="surrogateescape"))
    return digest.hexdigest()


def user_files_state():
    """:func:`files_state` of the path of each name of ``USER_PATHS``."""
    return {name: files_state(user_path(name) or data_home() / name) for name in USER_PATHS}


def own_path(text):
    """The file or folder that a parameter names; raises ValueError, with the quoting of paths, if it does not exist."""
    path = Path(str(text)).expanduser()
    if not path.exists():
        raise ValueError(
            f"{path.absolute()} does not exist. On the command line, a path that begins with a dot, a tilde or a "
            "digit, or has spaces or accents, needs quotes, as in \"image_folder[path='./photos']\"; one with an "
            "equals sign needs a run config"
        )
    return path


def cache_folder():
    """The folder of downloaded and converted files."""
    folder = os.environ.get("BENCHMARK_DIFFUSION_POSTERIOR_CACHE") or "~/.cache/benchmark_diffusion_posterior"
    return Path(folder).expanduser()
