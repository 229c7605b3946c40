"""Maps in memory, to be compared as those in files are."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from cmb_lightning.data.layout import Layout
from cmb_lightning.results.sources import Identity


@dataclass(frozen=True)
class HeldMaps:
    """Truths or cleaned maps in memory: those of a validation, or in a notebook.

    Attributes:
        maps: By number of the simulation [uK_CMB], shape (field, npix), NESTED.
        layout: Their resolution and, as `target_fwhm`, beam.
        sigma: Their standard errors, likewise; none when empty.
    """

    maps: Mapping[int, np.ndarray]
    layout: Layout
    sigma: Mapping[int, np.ndarray] | None = None

    def identity(self) -> Identity:
        """That of the layout."""
        return Identity(None, self.layout.nside, self.layout.target_fwhm, tuple(sorted(self.maps)))

    def read(self, sim: int) -> dict[str, np.ndarray]:
        """The maps, and their errors where there are any."""
        return {"maps": self.maps[sim]} | ({"sigma": self.sigma[sim]} if self.sigma else {})

    def about(self) -> dict[str, Any]:
        """Nothing is known of them."""
        return {}
