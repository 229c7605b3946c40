"""The header of a simulation's file: which simulation it is, what its maps are, and their checksums."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from cmb_lightning.data.content import Statistics
from cmb_lightning.data.layout import Layout
from cmb_lightning.data.mixing import observe
from cmb_lightning.data.tensorfile import BadFile, TensorFile
from cmb_lightning.data.versions import versions

FORMAT = "cmb_lightning simulation 1"


def describe(tensors: Mapping[str, np.ndarray], hashes: Mapping[str, str], layout: Layout) -> dict[str, str]:
    """What a header says of the maps of a simulation, and of how they were made.

    Args:
        tensors: The simulation.
        hashes: SHA-256 of each tensor.
        layout: What the maps look like.
    """
    statistics: dict[str, Iterable[np.ndarray]] = {}
    if "cmb" in tensors:
        parts = {name: tensors[name] for name in ("cmb", "foregrounds", "noise", "gain") if name in tensors}
        rows = range(len(tensors["cmb"]))
        # One by one, and so in the processor's cache.
        statistics["observed"] = (observe({k: v[c : c + 1] for k, v in parts.items()})[0] for c in rows)
    if "target" in tensors:
        statistics["target"] = tensors["target"]
    return {
        "format": FORMAT,
        "nside": str(layout.nside),
        "ordering": "NESTED",
        "unit": layout.unit,
        "channels": json.dumps(layout.channels),
        "fields": json.dumps(layout.fields),
        "statistics": json.dumps({name: vars(Statistics.of(maps)) for name, maps in statistics.items()}),
        "sha256": json.dumps(hashes, sort_keys=True),
        "versions": json.dumps(versions(), sort_keys=True),
    }


def open_simulation(path: Path, identity: Mapping[str, str], shapes: Mapping[str, tuple[int, ...]]) -> TensorFile:
    """Opens the file of a simulation, if its header says that it is the one.

    Args:
        path: The file.
        identity: Keys of the header that tell the simulation from all others.
        shapes: Tensors that it must hold.

    Raises:
        FileNotFoundError: It is missing.
        BadFile: It is damaged, or belongs elsewhere.
    """
    file = TensorFile(path)
    for key, value in {"format": FORMAT, **identity}.items():
        if (found := file.metadata.get(key)) != value:
            file.close()
            raise BadFile(f"its {key} is '{found}', not '{value}'")
    for name, shape in shapes.items():
        if name not in file.entries or file.entries[name].shape != shape:
            file.close()
            raise BadFile(f"its '{name}' is not of shape {shape}")
    return file


def read_header(file: TensorFile) -> dict[str, Any]:
    """The header of an open simulation, with `statistics` as a dict of `Statistics`, `sha256` a dict by tensor.

    Raises:
        BadFile: It lacks something.
    """
    try:
        statistics = {name: Statistics(**values) for name, values in json.loads(file.metadata["statistics"]).items()}
        return {**file.metadata, "statistics": statistics, "sha256": json.loads(file.metadata["sha256"])}
    except (KeyError, TypeError, ValueError) as error:
        raise BadFile(f"its header lacks something: {error}") from None
