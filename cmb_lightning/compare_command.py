"""The command `cmb-lightning compare`: runs, classical methods and other maps against the truth, on one page."""

import argparse
import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

import lightning as L
import yaml
from jsonargparse import ArgumentError, ArgumentParser

from cmb_lightning.cleaning.classical import ClassicalMethod, HarmonicILC, PixelILC, SingleChannel
from cmb_lightning.cleaning.each_field import each_field
from cmb_lightning.cleaning.estimates import stored_estimate
from cmb_lightning.cleaning.fitted import load_weights
from cmb_lightning.cleaning.needlet_ilc import NeedletILC
from cmb_lightning.cleaning.preparation import Cleaned
from cmb_lightning.cleaning.regions import read_mask
from cmb_lightning.data.layout import Layout
from cmb_lightning.errors import ConfigError
from cmb_lightning.parser import WordParser, condense, reason
from cmb_lightning.results.collect import Cleaner, collect, collect_observed
from cmb_lightning.results.comparable import TRUTH, Settings
from cmb_lightning.results.compare import compare
from cmb_lightning.results.comparison_files import rmse_tables, write_comparison
from cmb_lightning.results.find import find_predictions
from cmb_lightning.results.report import write_report
from cmb_lightning.results.sources import Statements
from cmb_lightning.results.tables import print_table
from cmb_lightning.sky.units import arcmin, parse
from cmb_lightning.trust import Trust

BLIND: dict[str, type[ClassicalMethod]] = {
    "channel": SingleChannel,
    "ilc": PixelILC,
    "hilc": HarmonicILC,
    "nilc": NeedletILC,
}
CLASSICAL = {word: method.name for word, method in BLIND.items()} | {"linear": "trained linear"}
DESCRIPTION = """\
Compare cleaned maps with the truth of one or more splits, simulation by simulation: a page to read, and tables.

Each SOURCE is one of
  runs/mine                 a run; predict has left its cleaned maps there
  maps/clean_{sim:03d}.fits maps that something else made: a template, a folder or one file; with {half} in it,
                            1 and 2 are two halves of the data with independent noise, and their mean is the map
  ilc, hilc, nilc           the pixel, harmonic or needlet ILC, with weights from each observed map
  channel                   the one channel of least variance in each observed map
  linear, linear@mine       the trained linear estimate, with the weights of the runs that are named, or of run `mine`
One source alone is an evaluation. Others are compared with the first. NAME=SOURCE gives a source another name.
"""


def parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    made = WordParser(
        "cmb-lightning compare",
        usage="cmb-lightning compare SOURCE... [options]",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    made.add_argument("sources", nargs="+", metavar="SOURCE", help=argparse.SUPPRESS)
    made.add_argument("--out", default="comparison", metavar="FOLDER", help="for page and tables (comparison)")
    made.add_argument("--trust", action=Trust)
    made.add_argument("--data", metavar="FILE", help="configuration of the data; by default that of the first run")
    made.add_argument(
        "--splits", nargs="+", metavar="SPLIT", help="by default those that the first source has predictions of"
    )
    made.add_argument(
        "--beams", nargs="+", metavar="FWHM", help="common beams, such as '2 deg' '5 deg'; by default the truth's own"
    )
    made.add_argument(
        "--latitude_cuts",
        nargs="+",
        metavar="ANGLE",
        default=["20 deg"],
        help="Galactic latitudes above which maps are also scored; by default '20 deg'",
    )
    made.add_argument(
        "--truth",
        metavar="[NAME=]FITS",
        help="for maps of the observed sky: another cleaned map in the place of the truth",
    )
    made.add_argument("--mask", metavar="FITS", help="where to compare: a map in Galactic coordinates, 1 to keep")
    made.add_argument("--n_workers", type=int, metavar="N", help="processes; by default the cores given to the job")
    stated = made.add_argument_group("what other maps do not say in their headers, or wrongly")
    stated.add_argument("--unit", help="a CMB temperature, such as K_CMB")
    stated.add_argument("--ordering", help="RING or NESTED")
    stated.add_argument("--coordinates", help="G: other maps must be turned to Galactic coordinates first")
    stated.add_argument("--fwhm", help="beam, such as '5 arcmin'")
    return made


def main(arguments: list[str]) -> None:
    """Run the command with these arguments.

    Raises:
        ConfigError: A source or value is unknown, or what is compared differs in data, beam or mask.
        FileNotFoundError: There are no maps.
    """
    given = parser().parse_intermixed_args(arguments)
    if given.n_workers is not None and given.n_workers < 1:
        raise ConfigError(f"n_workers: {given.n_workers} must be at least 1; leave it out to use the job's cores.")
    named = dict(_name(source) for source in given.sources)
    if len(named) != len(given.sources):
        raise ConfigError("sources: two have the same name; give one another, NAME=SOURCE.")
    runs = {name: Path(path) for name, path in named.items() if _described(Path(path)) is not None}
    for name, path in named.items():
        if not is_classical(path) and "{" not in path and not Path(path).exists():
            raise ConfigError(
                f"sources: {path!r} is no run, no folder or file of maps, and none of {', '.join(CLASSICAL)}."
            )
        if name in runs and not any(runs[name].rglob("*.fits")):
            raise ConfigError(f"sources: the run {path} has no cleaned maps; run predict with its configuration first.")
    if not given.data and not runs:
        raise ConfigError("data: none of the sources is a run; name the configuration that describes the data.")
    module = data_module(Path(given.data) if given.data else _described(next(iter(runs.values()))))
    layout = module.layout
    splits = given.splits or _predicted_splits(named, module.run_inference_on)
    cuts = tuple(float(parse(cut, "deg", "latitude_cuts").value) for cut in given.latitude_cuts)
    beams = tuple(arcmin(beam, "beams") for beam in given.beams or ())
    mask = None if given.mask is None else read_mask(Path(given.mask), layout.nside)
    stated = Statements(given.unit, given.ordering, given.coordinates, arcmin(given.fwhm, "fwhm"))
    statements = {name: stated for name in ("", *named) if name not in runs}
    paths = {name: path for name, path in named.items() if not is_classical(path)}
    reference, truth = _name(given.truth) if given.truth else (TRUTH, None)
    if truth:
        if len(paths) < len(named):
            raise ConfigError(f"sources: {', '.join(CLASSICAL)} need simulated maps; leave them out beside --truth.")
        truths, methods = collect_observed(truth, splits, paths, layout, statements)
    else:
        if unknown := [name for name in splits if name not in module.splits]:
            raise ConfigError(f"splits: there is no {unknown[0]!r}; there are {', '.join(module.splits)}.")
        cleaners = classical(named, layout, runs)
        known = {name: module.splits[name] for name in splits}
        truths, methods = collect(known, paths, cleaners, layout.fields, statements)
    # In the order that was given, since the first is what others are compared with; a run may hold several epochs.
    there = methods[splits[0]]
    order = [method for name in named for method in there if re.fullmatch(re.escape(name) + "(@.*)?", method)]
    methods = {split: {name: of[name] for name in order} for split, of in methods.items()}
    settings = Settings(beams=beams, latitude_cuts=cuts, mask=mask, reference=reference)
    found = compare(truths, methods, layout.fields, settings, given.n_workers)
    files = write_comparison(found, given.out)
    title = f"Cleaned CMB maps compared with {reference}" if truth else "Cleaned CMB maps compared"
    command = shlex.join(["cmb-lightning", "compare", *arguments])
    texts = {name: (_described(path, ("fit", "predict")) or path).read_text() for name, path in runs.items()}
    page = write_report(found, Path(given.out) / "report.html", title, command, texts)
    for table in rmse_tables(found):
        print_table(table)
    print(f"All metrics: {', '.join(map(str, files))}\nPage to read: {page}")


def data_module(config: Path) -> L.LightningDataModule:
    """The data module that a configuration describes, without a trainer.

    Raises:
        ConfigError: If it describes no simulated data.
    """
    import cmb_lightning.data.sky_module
    import cmb_lightning.data.spectrum_module  # noqa: F401  class names known without their module

    if not config.is_file():
        raise ConfigError(f"data: there is no file {config}.")
    tree = yaml.safe_load(config.read_text())
    if not isinstance(tree, dict) or "data" not in tree:
        raise ConfigError(f"data: {config} has no `data` section.")
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(L.LightningDataModule, "data")
    try:
        module = parser.instantiate(parser.parse_object({"data": tree["data"]})).data
    except ArgumentError as error:
        raise ConfigError(f"{config}: {condense(str(error))}") from error
    except (ValueError, FileNotFoundError) as error:
        raise ConfigError(f"{config}: {reason(error)}") from error
    if not hasattr(module, "splits"):
        raise ConfigError(f"data: {config} describes observations, which have no truth to compare with.")
    return module


def classical(named: Mapping[str, str], layout: Layout, runs: Mapping[str, Path]) -> dict[str, Cleaner]:
    """The classical methods among the sources.

    Raises:
        ConfigError: If the trained linear estimate is wanted, and no run has weights, or several have different ones.
    """
    cleaners: dict[str, Cleaner] = {
        name: Cleaned(each_field(BLIND[kind], layout), layout) for name, kind in named.items() if kind in BLIND
    }
    for name, kind in named.items():
        if not is_classical(kind) or kind in BLIND:
            continue
        wanted = kind.partition("@")[2]
        files = {run: path / "linear_weights.safetensors" for run, path in runs.items() if wanted in ("", run)}
        contents = {run: path.read_bytes() for run, path in files.items() if path.is_file()}
        if not contents:
            raise ConfigError("sources: `linear` needs a run among the sources whose training fitted the weights.")
        if len(set(contents.values())) > 1:
            raise ConfigError(
                f"sources: {' and '.join(contents)} were trained with different linear weights, so `linear` is not one"
                f" method; say whose: linear@{next(iter(contents))}."
            )
        estimate = stored_estimate(load_weights(files[next(iter(contents))]), layout)
        cleaners[name] = Cleaned(estimate, layout)
    return cleaners


def is_classical(source: str) -> bool:
    """Whether a source is a classical method and no path."""
    return source.partition("@")[0] in CLASSICAL


def _described(run: Path, commands: Sequence[str] = ("predict", "fit")) -> Path | None:
    """The configuration of a run's cleaned maps: that of predict, which may have other data than fit.

    Where that is of observations, which have no truth and no splits, the other one.
    """
    paths = [path for command in commands if (path := run / command / "config.yaml").is_file()]
    data = {path: (yaml.safe_load(path.read_text()) or {}).get("data") or {} for path in paths}
    split = (path for path in paths if "splits" in (data[path].get("init_args") or {}))
    return next(iter((*split, *paths)), None)


def _name(source: str) -> tuple[str, str]:
    name, given, path = source.partition("=")
    return (name, path) if given else (CLASSICAL.get(source, Path(source).name or source), source)


def _predicted_splits(named: Mapping[str, str], default: list[str]) -> list[str]:
    """Splits of the first source that says them."""
    for path in named.values():
        if not is_classical(path) and (found := [split for split in find_predictions(path) if split]):
            return found
    return default
