"""Files that appear under their name whole or not at all, whatever kills the writer."""

import errno
import fcntl
import glob
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

TEMPORARY = ".tmp-"
BAD = ".bad-"
_NO_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EACCES}
_NO_LOCKS = {errno.EOPNOTSUPP, errno.ENOSYS, errno.ENOLCK, errno.EINVAL}


def publish(path: Path, write: Callable[[BinaryIO], None]) -> bool:
    """Writes a file that is complete from the moment it has its name; the first writer wins.

    A temporary file in the same folder is written and synced, then linked to the name (renamed where the file system
    has no links) and the folder synced. No lock is needed, on network file systems either.

    Args:
        path: The file's name; its folder must exist.
        write: Writes the content to the open file.

    Returns:
        True when the file is this call's, False when there was one already, which is left as it is.
    """
    return _written(path, write, _give_name)


def replace(path: Path, content: bytes) -> None:
    """Writes a small file in place of any that is there: readers see the old one or the new one, never a part.

    Temporary files of earlier writers of it that were killed are removed.
    """
    _written(path, lambda file: file.write(content), _put_in_place)
    sweep(path.parent, glob.escape(path.name))


def sweep(folder: Path, name: str = "*") -> int:
    """Removes temporary files of that name whose writers are gone, and returns how many.

    A living writer holds a lock on its file; where locks are missing nothing is removed.
    """
    removed = 0
    for path in folder.glob(f"{TEMPORARY}{name}-*"):
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            continue
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink(missing_ok=True)
            removed += 1
        except OSError:
            pass
        finally:
            os.close(descriptor)
    return removed


def set_aside(path: Path) -> Path:
    """Moves a damaged file out of the way, under a name starting with `.bad-`, and returns that name."""
    aside = path.with_name(f"{BAD}{path.name}-{secrets.token_hex(4)}")
    os.rename(path, aside)
    _sync(path.parent)
    return aside


def _written(path: Path, write: Callable[[BinaryIO], None], give_name: Callable[[Path, Path], bool]) -> bool:
    """Writes a temporary file and gives it its name; what `give_name` returns."""
    while True:
        try:
            with _temporary(path, write) as temporary:
                return give_name(temporary, path)
        except FileNotFoundError:
            if not path.parent.is_dir():
                raise
            # A sweep took the temporary file in the moment before it was locked: write it again.


@contextmanager
def _temporary(path: Path, write: Callable[[BinaryIO], None]) -> Iterator[Path]:
    """A written and synced file beside `path`, locked against sweeps until it has its name, then gone."""
    temporary = path.with_name(f"{TEMPORARY}{path.name}-{secrets.token_hex(8)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
    try:
        with open(descriptor, "wb") as file:
            _lock(descriptor)
            write(file)
            file.flush()
            os.fsync(descriptor)
            yield temporary
    finally:
        temporary.unlink(missing_ok=True)


def _give_name(temporary: Path, path: Path) -> bool:
    try:
        os.link(temporary, path, follow_symlinks=False)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        if os.path.lexists(path):
            return False
        os.rename(temporary, path)
    _sync(path.parent)
    return True


def _put_in_place(temporary: Path, path: Path) -> bool:
    os.replace(temporary, path)
    _sync(path.parent)
    return True


def _lock(descriptor: int) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in _NO_LOCKS | {errno.EWOULDBLOCK}:
            raise


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in {errno.EINVAL, errno.EBADF, errno.EROFS}:  # some file systems cannot sync a folder
            raise
    finally:
        os.close(descriptor)
