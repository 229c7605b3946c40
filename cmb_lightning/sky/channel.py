"""A channel: one field of one band of an instrument."""

from dataclasses import dataclass

FIELDS = ("I", "Q", "U")


@dataclass(frozen=True)
class Channel:
    """One field of one band: a row of every array (channel, pixel)."""

    band: str
    field: str
    """I, Q or U."""
    frequency: float
    """Centre [GHz]."""
    fwhm: float
    """Gaussian beam [arcmin]."""
    noise: float
    """White noise [uK_CMB per pixel]; the mean level where there is a variance map."""
    frequencies: tuple[float, ...]
    """Where the bandpass is sampled [GHz]."""
    weights: tuple[float, ...]
    """The band's signal is sum(weight * T_RJ(frequency)) [uK_CMB per uK_RJ]."""
    gain_error: float = 0.0
    """Relative scatter of the calibration, over simulations."""
    beam_error: float = 0.0
    """Relative scatter of the beam's width, over simulations."""
    bandpass_error: float = 0.0
    """Relative scatter of the bandpass's frequencies, over simulations."""
    l_knee: float = 0.0
    """Where correlated noise is as strong as white noise; 0 for white noise."""
    alpha: float = 0.0
    """Slope of the correlated noise: N_l = N_white (1 + (l / l_knee)^-alpha)."""
    variance_map: str = ""
    """FITS file of the noise variance, with a column's name after a colon; empty for homogeneous noise."""
    noise_spectrum: str = ""
    """File of the noise's N_l, in place of all other noise; empty for none."""
    beam_file: str = ""
    """File of the beam's window b_l; empty for a Gaussian beam."""

    @property
    def name(self) -> str:
        """Such as `30_I`."""
        return f"{self.band}_{self.field}"

    @property
    def spin(self) -> int:
        """0 for I, 2 for Q and U."""
        return 0 if self.field == "I" else 2
