"""Simulated observations of the microwave sky, for training and scores."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from cmb_lightning.data.cache import SplitCache
from cmb_lightning.data.layout import Layout
from cmb_lightning.data.mixing_module import MixingDataModule
from cmb_lightning.data.splits import Split, SplitData, check_cap, check_splits
from cmb_lightning.sky.instrument import Instrument
from cmb_lightning.sky.simulator import Simulator, Sky
from cmb_lightning.sky.units import arcmin


@dataclass
class SkySplit(Split):
    """A split of simulated skies.

    Args:
        n_sims: Simulations to make.
        n_sims_cap: How many of them, the first ones, are used for inference; all when None.
        sky: Its own sky; that of the data set when None.
        orientation: Its own turn of the foregrounds, in place of the sky's: `random` or three angles [deg].
        gain_errors: Its own calibration errors, in place of the sky's.
        halves: Whether its noise comes in two halves too, in place of the sky's: predict then cleans each as well.
    """

    sky: Sky | None = None
    orientation: Literal["random"] | list[float] | None = None
    gain_errors: float | None = None
    halves: bool | None = None


class SkyDataModule(MixingDataModule):
    """Simulated observations: CMB, foregrounds and noise seen by an instrument, and the CMB as the target.

    Args:
        splits: Splits by name; fit needs `train` and `valid`.
        instrument: Name of a table that is shipped (`reference`, `planck`, `real_sky_64`), or path of one.
        nside: HEALPix resolution of the maps, a power of two.
        lmax: Highest multipole; 2 nside when None.
        sky: What is simulated.
        bands: Bands of the instrument; all when None.
        fields: Fields of them: I, Q, U.
        scale_from_nside: The instrument is made for this nside: its beams grow with the pixels to `nside`, its noise
            per pixel stays. None to take it as it is.
        max_fwhm: No beam grows beyond this, such as `180 arcmin`; no limit when None.
        target_fwhm: Beam of the target, such as `120 arcmin`; that of the smallest beam of the instrument when None.
        templates: Folder of the foregrounds' template files.
        sky_nside: Resolution at which foregrounds are made, then lowered to `nside`, for less aliasing; None for that
            of the maps.
        seed: Seed of all random numbers.
        dataset: Name of the data set, a folder in the cache.
        root: Folder of the cache.
        run_inference_on: Splits for test and predict.
        n_sims_cap: How many simulations of each split are used for inference; all when None.
        samples_per_epoch: Training samples in an epoch; as many as there are training simulations when None.
        repeats: How many of them are of the same sky. To mix a sky and make its estimate can take longer than to learn
            from it; one shown twice teaches nearly as much as two. The skies of an epoch are kept in memory for it.
        symmetries: Turn and mirror training samples by the exact symmetries of HEALPix, for networks that do not treat
            all directions alike.
        patches: Train on single patches, as the network cuts them: each sample another one in every epoch.
        batch_size: Maps in a batch, or patches.
        num_workers: Processes that load data; 0 for a thread of the training's own.
        n_workers: Processes that simulate; the cores given to the job when None.
        keep: Memory [GiB] in which a training may keep prepared maps, and as much for those of validation.
        extremes: Where `simulate` writes the extremes of the training maps.

    Raises:
        ConfigError: A value cannot work.
        FileNotFoundError: An input file is missing.
    """

    def __init__(
        self,
        splits: dict[str, SkySplit],
        instrument: str = "reference",
        nside: int = 64,
        lmax: int | None = None,
        sky: Sky | None = None,
        bands: list[str | int] | None = None,
        fields: list[str] | None = None,
        scale_from_nside: int | None = None,
        max_fwhm: str | None = None,
        target_fwhm: str | None = None,
        templates: Path | None = None,
        sky_nside: int | None = None,
        seed: int = 0,
        dataset: str = "sky",
        root: Path = Path("cache"),
        run_inference_on: list[str] | None = None,
        n_sims_cap: int | None = None,
        samples_per_epoch: int | None = None,
        repeats: int = 1,
        symmetries: bool = False,
        patches: bool = False,
        batch_size: int = 4,
        num_workers: int = 0,
        n_workers: int | None = None,
        keep: float = 4.0,
        extremes: str = "{root}/{dataset}/extremes.yaml",
    ) -> None:
        checked = check_splits(splits)
        check_cap(n_sims_cap)
        loaded = Instrument.load(instrument, scale_from_nside or nside, bands, tuple(fields or "I"))
        if scale_from_nside is not None:
            loaded = loaded.scaled(nside, arcmin(max_fwhm, "max_fwhm"))
        target = arcmin(target_fwhm, "target_fwhm")
        simulators = {
            name: Simulator(loaded, nside, lmax, target, _sky_of(split, sky or Sky()), seed, templates, sky_nside)
            for name, split in checked.items()
        }
        one = next(iter(simulators.values()))
        layout = Layout.of(
            loaded.channels,
            nside=nside,
            lmax=one.lmax,
            fields=loaded.fields,
            target_fwhm=one.target_fwhm,
        )
        data = {}
        for name, simulator in simulators.items():
            cache = SplitCache(root, dataset, name, simulator.recipe(name), layout)
            data[name] = SplitData(cache, simulator, checked[name], n_sims_cap)
        trained = simulators.get("train", one)
        super().__init__(
            layout,
            data,
            gain_scatter=np.array([trained.sky.gain_errors * channel.gain_error for channel in trained.channels]),
            seed=seed,
            run_inference_on=run_inference_on,
            samples_per_epoch=samples_per_epoch,
            repeats=repeats,
            symmetries=symmetries,
            patches=patches,
            batch_size=batch_size,
            num_workers=num_workers,
            n_workers=n_workers,
            keep=keep,
            extremes=extremes,
        )


def _sky_of(split: SkySplit, default: Sky) -> Sky:
    own = {key: getattr(split, key) for key in ("orientation", "gain_errors", "halves")}
    return dataclasses.replace(split.sky or default, **{key: value for key, value in own.items() if value is not None})
