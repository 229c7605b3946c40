"""The command `cmb-lightning compare`: runs, classical methods and other maps against the truth, on one page."""

import shlex
from pathlib import Path

import lightning as L
import yaml
from jsonargparse import ArgumentParser

from cmb_lightning.cleaning.fitted import load_weights
from cmb_lightning.cleaning.linear import LinearEstimate
from cmb_lightning.data.layout import Layout
from cmb_lightning.errors import ConfigError
from cmb_lightning.results.collect import Cleaner, FixedLinear, PixelILC, collect
from cmb_lightning.results.comparable import Settings
from cmb_lightning.results.compare import compare
from cmb_lightning.results.comparison_files import write_comparison
from cmb_lightning.results.find import find_predictions
from cmb_lightning.results.report import write_report
from cmb_lightning.results.sources import Statements
from cmb_lightning.results.tables import print_scores
from cmb_lightning.sky.units import arcmin, parse

CLASSICAL = ("ilc", "linear")


def main(arguments: list[str]) -> None:
    """Run the command with these arguments."""
    parser = ArgumentParser(prog="cmb-lightning compare", description=run.__doc__.splitlines()[0])
    parser.add_argument("sources", nargs="+", help="Runs, maps or classical methods; see below.")
    parser.add_function_arguments(run, skip={"sources", "command"})
    given = parser.parse_args(arguments)
    run(**given.as_dict(), command=shlex.join(["cmb-lightning", "compare", *arguments]))


def run(
    sources: list[str],
    data: str | None = None,
    splits: list[str] | None = None,
    out: str = "comparison",
    beams: list[str] | None = None,
    latitude_cuts: list[str] | None = None,
    unit: str | None = None,
    ordering: str | None = None,
    fwhm: str | None = None,
    n_workers: int | None = None,
    command: str = "",
) -> None:
    """Compare cleaned maps with the truth of a split, and write a page and tables.

    Args:
        sources: Folders of runs that have predictions, FITS maps that something else made (a folder, a file or a
            template with `{sim}`), and `ilc` or `linear` for the classical methods; each may be given a name,
            `name=source`. The first is what the others are compared with.
        data: Configuration that describes the data; by default that of the first run.
        splits: Splits to compare on; by default those that the first run has predictions of.
        out: Folder of the page and the tables.
        beams: Common beams, such as `[2 deg]`; by default the truth's own.
        latitude_cuts: Galactic latitudes above which maps are also scored; by default `[20 deg]`.
        unit: Unit of maps that do not say it.
        ordering: RING or NESTED, for maps that do not say it.
        fwhm: Beam of maps that do not say it, such as `5 arcmin`.
        n_workers: Processes; the cores given to the job when left out.
        command: What to type to make it again.

    Raises:
        ConfigError: A source is unknown, or what is compared differs in data, beam or mask.
        FileNotFoundError: There are no maps.
    """
    named = dict(_name(source) for source in sources)
    if len(named) != len(sources):
        raise ConfigError("sources: two have the same name; give one another, name=source.")
    runs = {name: Path(path) for name, path in named.items() if (Path(path) / "fit" / "config.yaml").is_file()}
    configs = [Path(data)] if data else [run / "fit" / "config.yaml" for run in runs.values()]
    if not configs:
        raise ConfigError("data: none of the sources is a run; name the configuration that describes the data.")
    module = data_module(configs[0])
    wanted = splits or _predicted_splits(named, module.run_inference_on)
    if unknown := [name for name in wanted if name not in module.splits]:
        raise ConfigError(f"splits: there is no {unknown[0]!r}; there are {', '.join(module.splits)}.")
    cleaners = {name: _classical(path, module.layout, runs) for name, path in named.items() if path in CLASSICAL}
    others = {name: path for name, path in named.items() if name not in cleaners}
    statements = Statements(unit=unit, ordering=ordering, fwhm=arcmin(fwhm, "fwhm"))
    truths, methods = collect(
        {name: module.splits[name] for name in wanted},
        others,
        cleaners,
        module.layout.fields,
        {name: statements for name in others if name not in runs},
    )
    cuts = tuple(float(parse(cut, "deg", "latitude_cuts").value) for cut in latitude_cuts or ["20 deg"])
    settings = Settings(beams=tuple(arcmin(beam, "beams") for beam in beams or ()), latitude_cuts=cuts)
    found = compare(truths, methods, module.layout.fields, settings, n_workers)
    files = write_comparison(found, out)
    texts = {name: (path / "fit" / "config.yaml").read_text() for name, path in runs.items()}
    page = write_report(found, Path(out) / "report.html", command=command, configuration=texts)
    print_scores(found.main_scores)
    print(f"Page: {page}; tables: {', '.join(map(str, files))}")


def data_module(config: Path) -> L.LightningDataModule:
    """The data module that a configuration describes, without a trainer.

    Raises:
        ConfigError: If it describes no simulated data.
    """
    import cmb_lightning.data.sky_module
    import cmb_lightning.data.spectrum_module  # noqa: F401  class names known without their module

    tree = yaml.safe_load(config.read_text())
    if not isinstance(tree, dict) or "data" not in tree:
        raise ConfigError(f"data: {config} has no `data` section.")
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(L.LightningDataModule, "data")
    module = parser.instantiate(parser.parse_object({"data": tree["data"]})).data
    if not hasattr(module, "splits"):
        raise ConfigError(f"data: {config} describes observations, which have no truth to compare with.")
    return module


def _name(source: str) -> tuple[str, str]:
    name, given, path = source.partition("=")
    if given:
        return name, path
    return {"ilc": "pixel ILC", "linear": "trained linear"}.get(source, Path(source).name or source), source


def _predicted_splits(named: dict[str, str], default: list[str]) -> list[str]:
    for path in named.values():
        if path not in CLASSICAL:
            return [split for split in find_predictions(path) if split] or default
    return default


def _classical(kind: str, layout: Layout, runs: dict[str, Path]) -> Cleaner:
    if kind == "ilc":
        return PixelILC(layout)
    files = [run / "linear_weights.safetensors" for run in runs.values()]
    found = [path for path in files if path.is_file()]
    if not found:
        raise ConfigError("sources: `linear` needs a run among the sources whose training fitted the weights.")
    weights = load_weights(found[0])
    return FixedLinear(LinearEstimate(layout, weights, regions=weights.weights.shape[1]))
