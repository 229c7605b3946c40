"""Work on a Dask cluster: tasks go out and receipts come back, never maps."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from cmb_lightning.data.pool import Failure
from cmb_lightning.errors import ConfigError


def on_cluster(
    function: Callable[[Any], Any], tasks: Sequence[Any], todo: deque[int], address: str
) -> Iterator[tuple[int, Any]]:
    """Does tasks on the workers of a Dask cluster, in any order; gives the number of each and its outcome.

    Args:
        function: Sent once to each worker.
        tasks: All tasks.
        todo: Numbers of those to do.
        address: The scheduler's, such as `tcp://host:8786`.

    Raises:
        ConfigError: Dask is not installed, or there is no scheduler.
    """
    try:
        from distributed import Client, as_completed
    except ImportError:
        raise ConfigError("dask: it is not installed; install cmb-lightning[dask], here and on the workers.") from None
    try:
        client = Client(address, timeout="30s")
    except (OSError, ValueError) as error:
        raise ConfigError(f"dask: no scheduler answers at {address} ({error}).") from None
    with client:
        there = client.scatter(function, broadcast=True)
        running = {client.submit(_apply, there, tasks[index], pure=False): index for index in todo}
        todo.clear()
        for future in as_completed(running):
            index = running.pop(future)
            error = future.exception()
            yield index, future.result() if error is None else Failure(error)


def _apply(function: Callable[[Any], Any], task: Any) -> Any:
    return function(task)
