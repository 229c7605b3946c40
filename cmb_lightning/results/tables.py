"""The table of a test: methods, splits and metrics, on the console and in files."""

import csv
import io
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np

from cmb_lightning.cleaning.scores import Scores
from cmb_lightning.data.publish import replace

AllScores = Mapping[tuple[str, str], Scores]
"""Scores by (split, method); the first method is the one that the others are baselines for."""

METHOD_LABELS = {"ilc": "pixel ILC", "linear": "trained linear", "local": "local estimate"}
METRIC_LABELS = {"MAE": "MAE [µK]", "RMSE": "RMSE [µK]", "PSNR": "PSNR [dB]", "R2": "R²", "Pearson": "Pearson r"}
METRIC_LABELS |= {f"coverage{level}": f"within {level} % interval [%]" for level in ("68", "95", "99.7")}
METRIC_LABELS |= {"z_mean": "z, mean", "z_spread": "z, spread"}


@dataclass(frozen=True)
class Table:
    """Text in rows and columns.

    Attributes:
        title: What it shows.
        columns: Headings.
        rows: Cells; the first two of each are split and method.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def markdown(self) -> str:
        """The table in Markdown, its title in bold above it."""
        bar = [":--", ":--", *["--:"] * (len(self.columns) - 2)]
        lines = (" | ".join(cell.replace("|", "\\|") for cell in row) for row in (self.columns, bar, *self.rows))
        return "\n".join([f"**{self.title}**", "", *(f"| {line} |" for line in lines), ""])

    def latex(self) -> str:
        """The table in LaTeX, for the package booktabs, its title as the caption."""
        lines = [" & ".join(map(_latex_text, row)) + r" \\" for row in (self.columns, *self.rows)]
        layout = "ll" + "r" * (len(self.columns) - 2)
        head = [
            r"\begin{table}",
            rf"\caption{{{_latex_text(self.title)}}}",
            rf"\begin{{tabular}}{{{layout}}}",
            r"\toprule",
        ]
        return "\n".join(
            [*head, lines[0], r"\midrule", *lines[1:], r"\bottomrule", r"\end{tabular}", r"\end{table}", ""]
        )


def score_tables(scores: AllScores, ratios: bool = True, errors: bool = False) -> list[Table]:
    """A table for each region (and field, where there are several), of means over the simulations.

    Args:
        scores: What was scored.
        ratios: Also give the RMSE divided by that of each baseline on the same split.
        errors: Give the standard error of the mean after ±, not the spread over the simulations.
    """
    if not scores:
        return []
    first = next(iter(scores.values()))
    methods = list(dict.fromkeys(method for _, method in scores))
    return [
        _table(scores, region, field, methods[1:] if ratios else [], errors)
        for region in first.regions
        for field in first.fields
    ]


def calibration_table(calibration: AllScores) -> Table:
    """Coverage and z-scores of error bars, a row for each split and part of the sky, of means over the simulations."""
    rows = []
    for (split, _), entry in calibration.items():
        mean, spread = entry.mean(), entry.spread()
        for (f, field), (r, region) in product(enumerate(entry.fields), enumerate(entry.regions)):
            name = f"{field}, {region_text(region)}" if len(entry.fields) > 1 else region_text(region)
            percent = np.array([100 if metric.startswith("coverage") else 1 for metric in entry.metrics])
            pairs = zip(percent * mean[f, r], percent * spread[f, r], strict=True)
            rows.append((split, name, *(with_spread(*pair) for pair in pairs)))
    first = next(iter(calibration.values()))
    columns = ("split", "sky", *(METRIC_LABELS[metric] for metric in first.metrics))
    return Table(f"Error bars, {_over(calibration)}", columns, tuple(rows))


def rmse_table(scores: AllScores, field: str, beam: float) -> Table:
    """The RMSE of every method in every region, mean ± standard error: the whole of a comparison at a glance.

    Args:
        scores: What was scored.
        field: Which field.
        beam: Common beam of the maps [arcmin], for the title.
    """
    first = next(iter(scores.values()))
    rows = []
    for (split, method), entry in scores.items():
        f, m = entry.fields.index(field), entry.metrics.index("RMSE")
        pairs = zip(entry.mean()[f, :, m], entry.standard_error()[f, :, m], strict=True)
        rows.append((split, label(method), *(with_spread(*pair) for pair in pairs)))
    title = f"RMSE [µK]{_of(field, first)}, {_over(scores, errors=True)}, beam {beam:g} arcmin"
    return Table(title, ("split", "method", *map(region_text, first.regions)), tuple(rows))


def _over(scores: AllScores, errors: bool = False) -> str:
    """What a table's numbers are: what follows ±, and over how many maps; a single map has nothing after it."""
    sims = sorted({len(entry) for entry in scores.values()})
    if sims[-1] == 1:
        return "one map"
    count = f"{sims[0]}" if len(sims) == 1 else f"{sims[0]} to {sims[-1]}"
    return f"mean ± {'standard error' if errors else 'spread'} over {count} simulations"


def _of(field: str, scores: Scores) -> str:
    return f" of {field}" if len(scores.fields) > 1 else ""


def _table(scores: AllScores, region: str, field: str, baselines: list[str], errors: bool) -> Table:
    first = next(iter(scores.values()))
    rows = []
    for (split, method), entry in scores.items():
        f, r = entry.fields.index(field), entry.regions.index(region)
        mean, spread = entry.mean()[f, r], (entry.standard_error() if errors else entry.spread())[f, r]
        cells = [with_spread(*pair) for pair in zip(mean, spread, strict=True)]
        for baseline in baselines:
            other = scores.get((split, baseline))
            own = entry.of("RMSE", region, field).mean()
            cells.append("" if other is None else f"{own / other.of('RMSE', region, field).mean():.3f}")
        rows.append((split, label(method), *cells))
    title = f"{field + ', ' if len(first.fields) > 1 else ''}{region_text(region)}, {_over(scores, errors)}"
    ratios = [f"RMSE / {label(baseline)}" for baseline in baselines]
    columns = ("split", "method", *(METRIC_LABELS.get(metric, metric) for metric in first.metrics), *ratios)
    return Table(title, columns, tuple(rows))


def _latex_text(text: str) -> str:
    special = {"\\": r"\textbackslash{}", "±": r"$\pm$", "µ": r"$\mu$", "²": "$^2$", "°": r"$^\circ$", "−": "$-$"}
    special |= {c: f"\\{c}" for c in "&%$#_{}"} | {"~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    special |= {"|": r"$|$", "<": "$<$", ">": "$>$"}
    return "".join(special.get(character, character) for character in text)


def label(method: str) -> str:
    """A method's name for people."""
    return METHOD_LABELS.get(method, method)


def region_text(region: str) -> str:
    """A region's name for people: `b20` is `|b| > 20°`, `brightest20%` the brightest 20 % of the foregrounds.

    `b10-20` is `|b| 10° to 20°`.
    """
    if band := re.fullmatch(r"b([\d.]+)-([\d.]+)", region):
        return f"|b| {band[1]}° to {band[2]}°"
    if region[:1] == "b" and region[1:].replace(".", "").isdigit():
        return f"|b| > {region[1:]}°"
    if region.endswith("%"):
        return re.sub(r"^([a-z]*)(.*)%$", r"\1 \2 %", region).strip() + " of foregrounds"
    return "full sky" if region == "full" else region


def with_spread(mean: float, spread: float) -> str:
    """`3.314 ± 0.017`: two digits of the spread; four digits of the mean where there is no spread."""
    if not np.isfinite(mean):
        return "-"
    if not np.isfinite(spread) or spread <= 0:
        return f"{mean:.4g}"
    decimals = int(np.clip(1 - np.floor(np.log10(spread)), 0, 6))
    return f"{mean:.{decimals}f} ± {spread:.{decimals}f}"


def print_scores(scores: AllScores, calibration: AllScores | None = None) -> None:
    """Print the tables to the console, and that of the error bars where there are any."""
    for table in (*score_tables(scores), *([calibration_table(calibration)] if calibration else [])):
        print_table(table)


def print_table(table: Table) -> None:
    """Print a table to the console, a split's name above its rows: names are folded where it is narrow, never cut."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.markup import escape
    from rich.padding import Padding
    from rich.table import Table as RichTable

    console = Console()
    if not console.is_terminal:
        console = Console(width=140)  # a file or pipe has no width: nothing need be folded
    console.print(escape(table.title), style="italic")  # not as the table's, which may be narrower
    shown = RichTable(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for k, column in enumerate(table.columns[1:]):
        heading = escape(column.replace(" [", "\n[").replace(" / ", " /\n"))
        shown.add_column(heading, justify="right" if k else "left", overflow="fold")
    splits = [row[0] for row in table.rows]
    for k, (split, name, *cells) in enumerate(table.rows):
        if splits[:k][-1:] != [split]:
            shown.add_row(escape(split), style="italic")
        last_of_split = splits[k + 1 : k + 2] != [split]
        style = "bold" if name == table.rows[0][1] else None
        numbers = (cell.replace("± ", "±") for cell in cells)
        shown.add_row(Padding(escape(name), (0, 0, 0, 2)), *numbers, style=style, end_section=last_of_split)
    console.print(shown)


def write_scores(scores: AllScores, folder: str | Path, calibration: AllScores | None = None) -> list[Path]:
    """Write `scores.md` (the tables), `scores.csv` (every simulation) and `scores.json` (mean, spread, error).

    Args:
        scores: What was scored.
        folder: Where to; made if missing.
        calibration: What error bars are worth, for `calibration.md` and the like.

    Returns:
        The files.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    contents = {
        "scores.md": "\n".join(table.markdown() for table in score_tables(scores)),
        "scores.csv": _csv(scores),
        "scores.json": json.dumps(summary(scores), indent=1),
    }
    if calibration:
        contents |= {
            "calibration.md": calibration_table(calibration).markdown(),
            "calibration.csv": _csv(calibration),
            "calibration.json": json.dumps(summary(calibration), indent=1),
        }
    for name, text in contents.items():
        replace(folder / name, text.encode())
    return [folder / name for name in contents]


def parts_table(parts: AllScores) -> Table:
    """What is left of each part of the sky: its rms in every region, mean ± spread over the simulations."""
    regions = next(iter(parts.values())).regions
    rows = tuple(
        (split, part, *(with_spread(v.mean(), v.std(ddof=1) if len(v) > 1 else np.nan) for v in values))
        for (split, part), scores in parts.items()
        for values in [[scores.of("RMSE", region) for region in regions]]
    )
    return Table(f"What is left, rms [µK], {_over(parts)}", ("split", "part", *map(region_text, regions)), rows)


def write_parts(parts: AllScores, folder: str | Path) -> Path:
    """Print what is left of each part, write it to `parts.md`, and return the file."""
    print_table(parts_table(parts))
    path = Path(folder) / "parts.md"
    replace(path, parts_table(parts).markdown().encode())
    return path


def summary(scores: AllScores) -> list[dict[str, str | int | float | None]]:
    """A record per split, method, field, region and metric: mean, spread and standard error over the simulations."""
    records = []
    for (split, method), entry in scores.items():
        mean, spread, error = entry.mean(), entry.spread(), entry.standard_error()
        for (f, r, m), value in np.ndenumerate(mean):
            place = {"field": entry.fields[f], "region": entry.regions[r], "metric": entry.metrics[m]}
            numbers = {"mean": value, "spread": spread[f, r, m], "standard_error": error[f, r, m]}
            finite = {key: float(number) if np.isfinite(number) else None for key, number in numbers.items()}
            records.append({"split": split, "method": method, **place, "n_sims": len(entry), **finite})
    return records


def _csv(scores: AllScores) -> str:
    text = io.StringIO()
    writer = None
    for (split, method), entry in scores.items():
        for row in entry.rows():
            record = {"split": split, "method": method} | row
            if writer is None:
                writer = csv.DictWriter(text, list(record), lineterminator="\n")
                writer.writeheader()
            writer.writerow(record)
    return text.getvalue()
