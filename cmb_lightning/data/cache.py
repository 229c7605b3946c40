"""The cache: one file per simulation, self-describing, published once and never changed."""

import json
import logging
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from cmb_lightning.data import publish
from cmb_lightning.data.content import check_tensors, shapes
from cmb_lightning.data.determinism import check_same
from cmb_lightning.data.header import describe, open_simulation, read_header
from cmb_lightning.data.layout import Layout
from cmb_lightning.data.mixing import Mix
from cmb_lightning.data.names import check_name
from cmb_lightning.data.reading import add_up
from cmb_lightning.data.recipe import canonical, nearest, recipe_id
from cmb_lightning.data.tensorfile import BadFile, TensorFile, digest, dump
from cmb_lightning.errors import ConfigError

log = logging.getLogger(__name__)

SIMULATION = ("cmb", "foregrounds", "noise", "target", "gain")


class SplitCache:
    """The simulations of one split on disk, in a folder named after data set, split and recipe.

    Files are written only by `publish` and never changed, so that reading needs no lock and several processes, on one
    machine or many, can fill the same folder.

    Args:
        root: Folder of the cache.
        dataset: Name of the data set.
        split: Name of the split.
        recipe: Everything the maps depend on; see `recipe.py`.
        layout: Shape, channels and unit of the maps.
        tensors: The tensors every simulation must have: `cmb`, `foregrounds` and `noise` (channel, pixel), `target`
            (field, pixel), `gain` (channel,); float32, maps in NESTED ordering.
    """

    def __init__(
        self,
        root: str | Path,
        dataset: str,
        split: str,
        recipe: Mapping[str, Any],
        layout: Layout,
        tensors: tuple[str, ...] = SIMULATION,
    ) -> None:
        self.root = Path(root)
        self.dataset = check_name(dataset, "dataset")
        self.split = check_name(split, "splits")
        self.layout = layout
        self.tensors = tensors
        self.recipe = {"layout": layout.to_dict(), "tensors": sorted(tensors), **recipe}
        self.id = recipe_id(self.recipe)
        self.folder = self.root / self.dataset / f"{self.split}-{self.id}"
        self._shapes = shapes(layout, tensors)

    def __getstate__(self) -> dict[str, Any]:
        """Say where it is in full: another process may be in another folder."""
        return {**self.__dict__, "root": self.root.absolute(), "folder": self.folder.absolute()}

    def path(self, index: int) -> Path:
        """The file of a simulation."""
        return self.folder / f"sim{index:06d}.safetensors"

    def make_folder(self) -> None:
        """Makes the folder ready for writing, and stores the recipe in it.

        A new folder beside one of a similar recipe is worth a line in the log: perhaps one key was changed by mistake.

        Raises:
            ConfigError: The folder cannot be made or written.
        """
        new = not self.folder.exists()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            for folder in (self.folder, self.folder.parent):
                if folder.is_symlink():
                    raise ConfigError(f"root: {folder} is a symbolic link; only the cache's root itself may be one.")
            if not (self.folder / "recipe.json").exists():
                text = json.dumps(json.loads(canonical(self.recipe)), indent=2, sort_keys=True) + "\n"
                publish.publish(self.folder / "recipe.json", lambda file: file.write(text.encode()))
            publish.sweep(self.folder)
        except OSError as error:
            raise ConfigError(f"root: the cache folder {self.folder} cannot be made: {error.strerror}.") from error
        if new:
            others = sorted(self.folder.parent.glob(f"{self.split}-*/recipe.json"))
            near = nearest(self.recipe, (path for path in others if path.parent != self.folder))
            if near is not None and len(near[1]) <= 10:
                log.info("%s is new; it differs from %s in %s.", self.folder, near[0].parent.name, ", ".join(near[1]))

    def fault(self, index: int) -> str | None:
        """Why a simulation cannot be used, from its file's header and length: None when it can."""
        try:
            self.header(index)
        except FileNotFoundError:
            return "it is missing"
        except (BadFile, OSError) as error:
            return str(error)
        return None

    def missing(self, n_sims: int) -> list[int]:
        """Those of the first `n_sims` simulations that are not there, or not whole."""
        return [index for index in range(n_sims) if self.fault(index) is not None]

    def header(self, index: int) -> dict[str, Any]:
        """The header of a simulation.

        Returns:
            Its fields, with `statistics` as a dict of `Statistics` (`observed`, `target`), `sha256` a dict by tensor.

        Raises:
            FileNotFoundError: It is missing.
            BadFile: It is damaged, or belongs elsewhere.
        """
        with self._open(index) as file:
            return read_header(file)

    def holds(self, name: str) -> bool:
        """Whether simulations hold a tensor, such as `difference`, which not all recipes make; by the first."""
        return name in self.header(0)["sha256"]

    @contextmanager
    def open(self, index: int) -> Iterator[TensorFile]:
        """The file of a simulation, open.

        Raises:
            FileNotFoundError: It is missing.
            BadFile: It is damaged, as may show in the course of reading.
        """
        try:
            with self._open(index) as file:
                yield file
        except FileNotFoundError:
            raise FileNotFoundError(
                f"{self.path(index)} is missing; `cmb-lightning simulate` with the same configuration makes it again."
            ) from None
        except BadFile as error:
            raise self._bad(index, error) from None

    def read(self, index: int, names: tuple[str, ...] | None = None, pixels: slice | None = None) -> dict[str, Any]:
        """Tensors of a simulation.

        Args:
            index: The simulation.
            names: Which tensors; all when None.
            pixels: A contiguous range of (NESTED) pixels, read without the rest; all when None.

        Raises:
            FileNotFoundError: It is missing.
            BadFile: It is damaged.
        """
        with self.open(index) as file:
            names = tuple(file.entries) if names is None else names
            return {name: file.read(name, pixels=pixels if name != "gain" else None) for name in names}

    def empty(self, count: int) -> np.ndarray:
        """An array for so many skies, shape (count, channel, pixel)."""
        return np.empty((count, len(self.layout.channels), self.layout.npix), dtype=np.float32)

    def observed(self, index: int, sky: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """The observed sky of a simulation, shape (channel, pixel), and its target, shape (field, pixel).

        Args:
            index: The simulation.
            sky: Where the sky is put; a new array when None.
        """
        sky = self.empty(1)[0] if sky is None else sky
        with self.open(index) as file:
            gain = file.read("gain")
            noise = [[(np.float32(1), index)]] * len(gain)
            add_up(sky, lambda name, _: file.pixels(name), index, index, noise, gain)
            return sky, file.read("target")

    def mixed(self, mix: Mix, sky: np.ndarray, ranges: Sequence[tuple[int, int]] | None = None) -> np.ndarray:
        """The sky of a mix of simulations, put into an array of shape (channel, pixel).

        Args:
            mix: Which simulations.
            sky: Where the sky is put.
            ranges: Ranges (first, end) of pixels, read without the rest; all when None.
        """
        with ExitStack() as stack:
            sims = {mix.cmb, mix.foregrounds, *mix.noise.ravel().tolist()}
            files = {index: stack.enter_context(self.open(index)) for index in sims}
            return add_up(
                sky, lambda name, sim: files[sim].pixels(name), mix.cmb, mix.foregrounds, mix.noises(), mix.gain, ranges
            )

    def publish(self, index: int, tensors: Mapping[str, np.ndarray]) -> bool:
        """Writes a simulation, unless another process was first.

        Args:
            index: Its number.
            tensors: Its tensors, and any further small ones to keep with them.

        Returns:
            True when this call wrote the file.

        Raises:
            ValueError: A tensor is missing, has another shape or type, or has pixels that are not numbers.
            NotDeterministic: Another process wrote different maps for the same recipe.
        """
        check_tensors(tensors, self.tensors, self.layout)
        hashes = {name: digest(tensor) for name, tensor in tensors.items()}
        metadata = {**self._identity(index), **describe(tensors, hashes, self.layout)}
        while not publish.publish(self.path(index), lambda file: dump(file, tensors, metadata)):
            try:
                with self._open(index) as file:
                    check_same(f"{self.split} simulation {index}", file, tensors, hashes)
                return False
            except FileNotFoundError:
                continue
            except BadFile as error:
                if self.path(index).is_symlink():
                    raise self._bad(index, error) from None
                self.set_aside(index, str(error))
        return True

    def heal(self, index: int) -> None:
        """Moves the file of a simulation aside if it is damaged, so that it can be made again."""
        reason = self.fault(index)
        if reason is not None:
            self.set_aside(index, reason)

    def set_aside(self, index: int, reason: str) -> None:
        """Moves the file of a simulation, if there is one, to a name that starts with `.bad-`."""
        if self.path(index).is_file() and not self.path(index).is_symlink():
            aside = publish.set_aside(self.path(index))
            log.warning("%s simulation %d is damaged (%s); moved to %s.", self.split, index, reason, aside.name)

    def size(self) -> int:
        """Bytes of one simulation, without its header."""
        return 4 * sum(int(np.prod(shape)) for shape in self._shapes.values())

    def check_space(self, n_sims: int) -> None:
        """Compares the space that simulations need with what is free.

        Raises:
            OSError: There is too little.
        """
        needed, free = n_sims * (self.size() + 8192), shutil.disk_usage(self.folder).free
        if needed > free:
            raise OSError(f"{n_sims} simulations need {needed} bytes in {self.folder}, where {free} are free.")

    def _open(self, index: int) -> TensorFile:
        """The file of a simulation, once its header says that it is the one."""
        return open_simulation(self.path(index), self._identity(index), self._shapes)

    def _identity(self, index: int) -> dict[str, str]:
        """What tells a simulation from all others."""
        return {"dataset": self.dataset, "split": self.split, "recipe": self.id, "index": str(index)}

    def _bad(self, index: int, error: Exception) -> BadFile:
        return BadFile(
            f"{self.path(index)} cannot be used: {error}; `cmb-lightning simulate` with the same configuration makes "
            "it again."
        )
