"""Simulations in the files of CMB-ML, for training and scores."""

from pathlib import Path

import numpy as np

from cmb_lightning.data.cache import SplitCache
from cmb_lightning.data.layout import Layout
from cmb_lightning.data.mixing_module import MixingDataModule
from cmb_lightning.data.reference_files import Importer, ReferenceFiles
from cmb_lightning.data.splits import Split, SplitData, check_cap, check_splits
from cmb_lightning.errors import ConfigError
from cmb_lightning.sky.instrument import Instrument
from cmb_lightning.sky.transforms import check_lmax
from cmb_lightning.sky.units import arcmin


class ReferenceDataModule(MixingDataModule):
    """Simulations that CMB-ML made, or `simulate --export` wrote: read once into the cache, one after the other.

    The files are `{folder}/Simulation/{Split}/sim0000/obs_{band}_map.fits`, and `cmb_map_fid.fits` with the CMB alone,
    without a beam unless its header states FWHM [arcmin].

    Args:
        splits: Splits by name, each with its `n_sims`; fit needs `train` and `valid`.
        folder: Folder of the data set.
        instrument: Name of a table that is shipped (`reference`, `planck`, ...), or path of one: the maps' beams.
        nside: HEALPix resolution of the maps.
        lmax: Highest multipole of the CMB; 2 nside when None.
        bands: Bands of the instrument; all when None.
        fields: Fields of them: I, Q, U.
        target_fwhm: Beam of the target, such as `20.6 arcmin`; that of the smallest beam of the instrument when None.
        unit: Unit of all maps, or by band and `cmb`, for files that do not state it.
        ordering: RING or NESTED, for files that do not state it.
        seed: Seed of the mixing and of the order of training.
        dataset: Name of the data set, a folder in the cache.
        root: Folder of the cache.
        run_inference_on: Splits for test and predict.
        n_sims_cap: How many simulations of each split are used for inference; all when None.
        samples_per_epoch: Training samples in an epoch; as many as there are training simulations when None.
        repeats: How many of them are of the same sky. To mix a sky and make its estimate can take longer than to learn
            from it; one shown twice teaches nearly as much as two. The skies of an epoch are kept in memory for it.
        symmetries: Turn and mirror training samples by the exact symmetries of HEALPix.
        patches: Train on single patches, as the network cuts them: each sample another one in every epoch.
        batch_size: Maps in a batch, or patches.
        num_workers: Processes that load data; 0 for a thread of the training's own.
        n_workers: Processes that read the files; the cores given to the job when None.
        keep: Memory [GiB] in which a training may keep prepared maps, and as much for those of validation.
        extremes: Where `simulate` writes the extremes of the training maps.

    Raises:
        ConfigError: A value cannot work.
        FileNotFoundError: A file of the first or the last simulation of a split is missing.
    """

    def __init__(
        self,
        splits: dict[str, Split],
        folder: Path,
        instrument: str = "reference",
        nside: int = 512,
        lmax: int | None = None,
        bands: list[str | int] | None = None,
        fields: list[str] | None = None,
        target_fwhm: str | None = None,
        unit: str | dict[str, str] | None = None,
        ordering: str | None = None,
        seed: int = 0,
        dataset: str = "reference",
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
        loaded = Instrument.load(instrument, nside, bands, tuple(fields or "I"))
        target = arcmin(target_fwhm, "target_fwhm")
        layout = Layout.of(
            loaded.channels,
            nside=nside,
            lmax=check_lmax(2 * nside if lmax is None else lmax, nside),
            fields=loaded.fields,
            target_fwhm=min(channel.fwhm for channel in loaded.channels) if target is None else target,
        )
        known = (*loaded.bands, "cmb")
        units = unit if isinstance(unit, dict) else dict.fromkeys(known, unit)
        if unknown := sorted(set(units) - set(known)):
            raise ConfigError(f"unit: there is no map {unknown[0]!r}; there are {', '.join(known)}.")
        importer = Importer(ReferenceFiles(Path(folder)), loaded.channels, layout, units, ordering)
        data = {}
        for name, split in checked.items():
            importer.check(name, split.n_sims)
            cache = SplitCache(root, dataset, name, importer.recipe(name), layout)
            data[name] = SplitData(cache, importer, split, n_sims_cap)
        super().__init__(
            layout,
            data,
            gain_scatter=np.zeros(len(loaded.channels)),
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
