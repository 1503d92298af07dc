"""Folders of one run: that they can be written is known before anything is computed."""

import os
from pathlib import Path


def writable(where: str, folder: Path) -> None:
    """Makes the folder if need be; raises OSError if nothing can be written there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".probe-{os.urandom(6).hex()}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise type(error)(
            error.errno, f"{where}: folder must be writable, got {folder} ({error.strerror})"
        ) from None


def enclosed(where: str, folder: Path) -> None:
    """Raises ValueError if a symbolic link in the folder leads out of it."""
    home = folder.resolve()
    for here, folders, files in os.walk(folder):
        for path in (Path(here) / name for name in (*folders, *files)):
            if path.is_symlink() and not path.resolve().is_relative_to(home):
                raise ValueError(
                    f"{where}: folder must hold no symbolic link that leads out of it, got "
                    f"{path} to {path.resolve()}; remove it"
                )


def locked(where: str, folder: Path) -> int:
    """Returns an open lock on the folder, which the system takes back when this process ends."""
    handle = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT, 0o666)
    try:
        import fcntl

        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except ImportError:  # no such locks on Windows
        pass
    except OSError:
        os.close(handle)
        raise ValueError(
            f"{where}: folder must belong to one run at a time, but another process is at work in "
            f"{folder}"
        ) from None
    return handle
