"""Writing result files: all of them or none."""

import os
import tempfile
from pathlib import Path

from .errors import UserError

__all__ = ["check_files", "write_files"]


def check_files(paths):
    """Raise ``UserError`` unless every path names a file that can be written; writes nothing.

    Folders that do not exist yet are allowed, if they can be made.
    """
    seen = set()
    for path in paths:
        if path.is_dir():
            raise UserError(f"{path} is a folder; give the name of a file.")
        if path.resolve() in seen:
            raise UserError(f"{path} is given for two files; choose two names.")
        seen.add(path.resolve())
        place = path.parent
        while not os.path.lexists(place) and place != place.parent:
            place = place.parent
        try:
            # Tried, not asked: permissions, read-only mounts and full disks all answer this way.
            os.rmdir(tempfile.mkdtemp(prefix=".eftrain-", dir=place))
        except OSError as error:
            raise _refused(path, error) from None


def write_files(contents):
    """Write ``{path: text or bytes}``; earlier files stay as they were unless all can be written.

    Raises
    ------
    UserError
        If one cannot be written.
    """
    staged = {}
    try:
        for path, content in contents.items():
            path = Path(path)
            data = content.encode() if isinstance(content, str) else content
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                descriptor, name = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
                staged[path] = name
                with os.fdopen(descriptor, "wb") as file:
                    file.write(data)
                os.chmod(name, 0o666 & ~_umask())
            except OSError as error:
                raise _refused(path, error) from error
        while staged:
            path, name = next(iter(staged.items()))
            try:
                os.replace(name, path)
            except OSError as error:
                raise _refused(path, error) from error
            del staged[path]
    finally:
        for name in staged.values():
            os.unlink(name)


def _umask():
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _refused(path, error):
    reason = (error.strerror or str(error)).lower()
    return UserError(f"{path} cannot be written ({reason}); choose another place.")
