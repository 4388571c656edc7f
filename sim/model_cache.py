"""The folder that simulation models are kept in, shared by any number of processes.

Files are put in place by renaming complete ones, and a lock makes the second of two builds of one
model wait for the first.
"""

import contextlib
import fcntl
import hashlib
import importlib.metadata
import os
import shutil
import tempfile
import time
from pathlib import Path

__all__ = [
    "cache_folder",
    "delete_oldest",
    "digest",
    "locked",
    "mark_used",
    "version_of",
    "write_atomically",
]

_HERE = Path(__file__).resolve().parent
_KEPT = 24
"""Models (and Verilog texts) beyond this number, those used least recently, are deleted."""


def cache_folder():
    """Folder that built models are kept in.

    ``EFTRAIN_CACHE`` if that is set; else ``build/models`` of the checkout this file is in; else a
    folder in the user's cache directory.

    Returns
    -------
    :class:`pathlib.Path`
    """
    chosen = os.environ.get("EFTRAIN_CACHE")
    if chosen:
        return Path(chosen).expanduser().absolute()
    project = _HERE.parent
    if (project / "pyproject.toml").is_file() or (project / ".git").exists():
        return project / "build" / "models"
    user = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(user) / "eftrain" / "models"


def version_of(package):
    """Name and version of an installed package."""
    try:
        return f"{package} {importlib.metadata.version(package)}"
    except importlib.metadata.PackageNotFoundError:
        return f"{package} unknown"


def digest(*texts):
    """Hash of texts, as a name for what is made from them."""
    digest = hashlib.sha256()
    for text in texts:
        encoded = text.encode()
        # With their lengths, so that no two lists of texts look alike.
        digest.update(f"{len(encoded)}:".encode())
        digest.update(encoded)
    return digest.hexdigest()[:32]


def write_atomically(path, text):
    """Write a file that nobody ever sees half of."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent)
    with os.fdopen(handle, "w") as file:
        file.write(text)
    os.replace(name, path)


@contextlib.contextmanager
def locked(cache, name, on_status):
    """Context that only one process (or thread) at a time enters for this name."""
    folder = cache / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    # Never deleted: another process may be waiting for it. The system lifts the lock of a process
    # that dies.
    with open(folder / name, "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if on_status is not None:
                on_status("Waiting for another build of the same model.")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def mark_used(path):
    """Whether the file is there; if so, it becomes the one used last."""
    try:
        os.utime(path)
    except FileNotFoundError:
        return False
    except OSError:
        return path.is_file()  # Somebody else's cache: usable, if not ours to change.
    return True


def delete_oldest(cache):
    """Keep the folder from growing with every change of the gateware."""
    for folder in cache.glob("building-*"):
        # Of a build that was killed; no build takes a day.
        with contextlib.suppress(OSError):
            if folder.stat().st_mtime < time.time() - 86400:
                shutil.rmtree(folder, ignore_errors=True)
    for pattern, folder in (("*.so", cache), ("*.v", cache / "verilog"), ("*", cache / "sources")):
        found = []
        for path in folder.glob(pattern):
            with contextlib.suppress(OSError):
                found.append((path.stat().st_mtime, path))
        for _, path in sorted(found, reverse=True)[_KEPT:]:
            path.unlink(missing_ok=True)
