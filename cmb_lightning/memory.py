"""Memory of the process."""

import ctypes

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of glibc's mallopt
_EVER = 2**31 - 1
_LARGEST = 450 * 2**20
"""Bytes: more than nine bands of the sky take at nside 1024, less than the layers of a network there."""


def keep_freed_memory() -> None:
    """Let the C library keep memory of large arrays, once freed, for the next ones; does nothing where it is not glibc.

    Otherwise each one is returned to the system and got anew a page at a time, which takes a tenth of the time of
    training steps on a CPU, 5 to 10 percent of that of simulations, and half of that of loading large maps. The largest
    are returned: torch's do not fit into the hole that one of the same size has left, since theirs are aligned, so that
    a map of nside 1024 would be cleaned in half as much memory again.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return
    mallopt(_TRIM_THRESHOLD, _EVER)
    mallopt(_MMAP_THRESHOLD, _LARGEST)
