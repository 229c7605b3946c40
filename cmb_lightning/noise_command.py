"""The command `cmb-lightning noise`: the noise spectrum of a band, learned from maps of its noise."""

import argparse
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from cmb_lightning.data.work import default_workers
from cmb_lightning.errors import ConfigError
from cmb_lightning.parser import WordParser
from cmb_lightning.sky.noise_spectrum import NoiseSpectrum
from cmb_lightning.sky.units import parse

DESCRIPTION = """\
Learn the noise spectrum of a band from full-sky maps of its noise, one realisation in each FITS file, such as those
that an experiment simulates: the mean of ln(N_l), and how much the level differs between realisations.

The file it writes is named in an instrument's table, in the column spectrum_I (or spectrum_P, for Q and U); simulations
then draw noise of that spectrum, a level and a realisation of its own in each.
"""


def parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    made = WordParser(
        "cmb-lightning noise",
        usage="cmb-lightning noise MAP... --out FILE [options]",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    made.add_argument("maps", nargs="+", metavar="MAP", type=Path, help="FITS files, at least two")
    made.add_argument("--out", required=True, metavar="FILE", type=Path, help="the text file to write")
    made.add_argument("--field", choices=("I", "P"), default="I", help="P for the columns Q and U together (I)")
    made.add_argument("--unit", help="of the maps, where their headers do not say it")
    made.add_argument("--frequency", metavar="NU", help="of the band, for maps in MJy/sr or uK_RJ: '545 GHz'")
    made.add_argument(
        "--lmax", type=int, metavar="L", help="last multipole, from where on the spectrum stays (2 nside)"
    )
    made.add_argument("--n_workers", type=int, metavar="N", help="threads; by default the cores given to the job")
    return made


def main(arguments: list[str]) -> None:
    """Run the command with these arguments.

    Raises:
        ConfigError: A map or a value cannot be used.
        FileNotFoundError: There is no such map.
    """
    given = parser().parse_intermixed_args(arguments)
    if given.n_workers is not None and given.n_workers < 1:
        raise ConfigError(f"n_workers: {given.n_workers} must be at least 1; leave it out to use the job's cores.")
    if given.out.exists():
        raise ConfigError(f"out: {given.out} is there already; remove it, or name another file.")
    frequency = None if given.frequency is None else float(parse(given.frequency, "GHz", "frequency").value)
    with ThreadPoolExecutor(given.n_workers or default_workers()) as executor:
        learned = NoiseSpectrum.learned(given.maps, given.field, frequency, given.lmax, given.unit, executor.map)
    learned.save(given.out)
    print(
        f"Learned from {len(given.maps)} maps up to l = {len(learned.cl) - 1}, scatter {learned.scatter:.3g}: "
        f"name {given.out} in the instrument's table, column spectrum_{given.field}."
    )
