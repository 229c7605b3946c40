"""Everything a comparison needs, from runs, maps and methods by name."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from cmb_lightning.data.layout import Layout
from cmb_lightning.data.splits import SplitData
from cmb_lightning.errors import ConfigError
from cmb_lightning.results.find import find_predictions
from cmb_lightning.results.sources import CachedMethod, CachedTruth, Lowered, MapSource, Statements

Cleaner = Callable[[np.ndarray], np.ndarray]
"""Takes observed maps (channel, npix) to cleaned ones (field, npix), both [uK_CMB], NESTED; picklable."""


def collect(
    splits: Mapping[str, SplitData],
    paths: Mapping[str, str | Path],
    cleaners: Mapping[str, Cleaner] | None = None,
    fields: Sequence[str] = ("I",),
    statements: Mapping[str, Statements] | None = None,
) -> tuple[dict[str, MapSource], dict[str, dict[str, MapSource]]]:
    """The truth of each split and the methods to compare with it, as `compare` takes them.

    Where a run holds the maps of several epochs, each is a method of its own, named `run@epoch`. Maps that do not say
    their split are taken to be of the only one.

    Args:
        splits: The splits.
        paths: Runs and maps by the name they are given in the comparison; see `find_predictions`.
        cleaners: Methods that are run on the spot, by name.
        fields: Fields of the maps.
        statements: What files do not say, by the same names.

    Returns:
        The truths by split, and by split the methods by name.

    Raises:
        FileNotFoundError: If a path holds no maps.
        ConfigError: If a run has no maps of a split, or maps do not say which of several splits they are of.
    """
    truths: dict[str, MapSource] = {name: CachedTruth(data.cache, data.n_used) for name, data in splits.items()}
    layouts = {name: data.cache.layout for name, data in splits.items()}
    methods = _methods(layouts, paths, fields, statements or {})
    for split, data in splits.items():
        for name, cleaner in (cleaners or {}).items():
            methods[split][name] = CachedMethod(data.cache, data.n_used, cleaner)
    return truths, methods


def collect_observed(
    truth: str | Path,
    splits: Sequence[str],
    paths: Mapping[str, str | Path],
    layout: Layout,
    statements: Mapping[str, Statements] | None = None,
) -> tuple[dict[str, MapSource], dict[str, dict[str, MapSource]]]:
    """As `collect`, for maps of the observed sky: another cleaned map stands in for the truth.

    Args:
        truth: That map; what its file does not say is among the statements by an empty name.
        splits: What was cleaned, as the predictions call it.
        paths: Runs and maps by the name they are given in the comparison.
        layout: Resolution and beam at which they are compared.
        statements: What files do not say, by the same names.
    """
    stated = statements or {}
    ((source, *others), *rest) = (of.values() for of in find_predictions(truth, layout.fields, stated.get("")).values())
    if others or rest:
        raise ConfigError(f"truth: {truth} holds more than one set of maps; name the folder or file of one.")
    truths = dict.fromkeys(splits, fitted(source, layout))
    return truths, _methods(dict.fromkeys(splits, layout), paths, layout.fields, stated)


def fitted(source: MapSource, layout: Layout) -> MapSource:
    """Maps as they are, or lowered where they are finer than the layout."""
    return Lowered(source, layout) if source.identity().nside > layout.nside else source


def _methods(
    layouts: Mapping[str, Layout],
    paths: Mapping[str, str | Path],
    fields: Sequence[str],
    statements: Mapping[str, Statements],
) -> dict[str, dict[str, MapSource]]:
    """Maps by split and name, at the resolution of each split's layout."""
    methods: dict[str, dict[str, MapSource]] = {split: {} for split in layouts}
    for name, path in paths.items():
        found = find_predictions(path, fields, statements.get(name))
        if set(found) == {""} and len(layouts) == 1:
            found = {next(iter(layouts)): found[""]}
        for split, layout in layouts.items():
            if split not in found:
                known = ", ".join(there or "none that they state" for there in found)
                raise ConfigError(
                    f"{name}: {path} has no maps of split {split}; its splits: {known}. Predict it first."
                )
            for epoch, source in found[split].items():
                methods[split][name if len(found[split]) == 1 else f"{name}@{epoch}"] = fitted(source, layout)
    return methods
