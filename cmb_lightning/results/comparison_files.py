"""The tables of a comparison, and the files that hold its numbers."""

import csv
import io
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from cmb_lightning.cleaning.scores import LOWER_IS_BETTER
from cmb_lightning.data.publish import replace
from cmb_lightning.results.compare import Comparison
from cmb_lightning.results.paired import PairedDifference, paired_difference
from cmb_lightning.results.tables import Table, label, region_text, rmse_table, score_tables, summary

PARTS = ("truth", "prediction", "residual", "cross")


def comparison_tables(comparison: Comparison) -> list[Table]:
    """Mean ± standard error of every metric: a table for each beam, region and field."""
    tables = []
    for beam, scores in comparison.scores.items():
        for table in score_tables(scores, ratios=False, errors=True):
            tables.append(Table(f"{table.title}, beam {beam:g} arcmin", table.columns, table.rows))
    return tables


def rmse_tables(comparison: Comparison) -> list[Table]:
    """The RMSE in every region, mean ± standard error: a table for each beam and field, for the console."""
    return [
        rmse_table(scores, field, beam) for beam, scores in comparison.scores.items() for field in comparison.fields
    ]


def paired_differences(
    comparison: Comparison, metric: str = "RMSE", field: str | None = None
) -> dict[tuple[str, str, str], PairedDifference]:
    """How much the first method's metric differs from each other's, at the first beam.

    Returns:
        By (split, other method, region): first method less the other.
    """
    scores, first = comparison.main_scores, comparison.methods[0]
    return {
        (split, other, region): paired_difference(
            scores[split, first].of(metric, region, field), scores[split, other].of(metric, region, field)
        )
        for split in comparison.splits
        for other in comparison.methods[1:]
        for region in comparison.regions
    }


def paired_table(comparison: Comparison, metric: str = "RMSE", field: str | None = None) -> Table | None:
    """The differences with their 95 % intervals; an asterisk where they exclude zero. None for one method."""
    if len(comparison.methods) < 2:
        return None
    found = paired_differences(comparison, metric, field)
    rows = [
        (split, label(other), *(_difference(found[split, other, region]) for region in comparison.regions))
        for split in comparison.splits
        for other in comparison.methods[1:]
    ]
    better = "negative" if metric in LOWER_IS_BETTER else "positive"
    first = label(comparison.methods[0])
    title = (
        f"{metric} of {first} less that of each other method, simulation by simulation ({better}: {first} is better)"
    )
    return Table(title, ("split", "other method", *map(region_text, comparison.regions)), tuple(rows))


def _difference(found: PairedDifference) -> str:
    decimals = 2
    if np.isfinite(found.low) and found.high > found.low:
        # Two digits of half the interval, and one of an end that is not zero: `[+0, +47]*` would look like a mistake.
        digits = [1 - np.floor(np.log10((found.high - found.low) / 2))]
        digits += [-np.floor(np.log10(min(abs(found.low), abs(found.high))))] if found.certain else []
        decimals = int(np.clip(max(digits), 0, 6))
    interval = f" [{found.low:+.{decimals}f}, {found.high:+.{decimals}f}]" if np.isfinite(found.low) else ""
    return f"{found.mean:+.{decimals}f}{interval}{'*' if found.certain else ''}"


def write_comparison(comparison: Comparison, folder: str | Path) -> list[Path]:
    """Write all numbers: tables in Markdown and LaTeX; scores, differences and spectra as CSV; means as JSON.

    Args:
        comparison: What was found.
        folder: Where to; made if missing.

    Returns:
        The files.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    paired = paired_table(comparison)
    tables = comparison_tables(comparison) + ([paired] if paired else [])
    means = [{"beam": beam} | record for beam, scores in comparison.scores.items() for record in summary(scores)]
    contents = {
        "comparison.md": "\n".join(table.markdown() for table in tables),
        "comparison.tex": "\n".join(table.latex() for table in tables),
        "scores.csv": _csv(_score_rows(comparison)),
        "differences.csv": _csv(_difference_rows(comparison)),
        "spectra.csv": _csv(_spectrum_rows(comparison)),
        "means.json": json.dumps(means, indent=1),
    }
    for name, text in contents.items():
        replace(folder / name, text.encode())
    return [folder / name for name in contents]


def _score_rows(comparison: Comparison) -> Iterable[dict[str, Any]]:
    for beam, scores in comparison.scores.items():
        for (split, method), entry in scores.items():
            for row in entry.rows():
                yield {"beam_arcmin": beam, "split": split, "method": method} | row


def _difference_rows(comparison: Comparison) -> Iterable[dict[str, Any]]:
    for field in comparison.fields:
        for metric in next(iter(comparison.main_scores.values())).metrics:
            for (split, other, region), found in paired_differences(comparison, metric, field).items():
                place = {"split": split, "method": comparison.methods[0], "other": other, "field": field}
                yield place | {"region": region, "metric": metric} | vars(found)


def _spectrum_rows(comparison: Comparison) -> Iterable[dict[str, Any]]:
    for (where, split, method), spectra in comparison.spectra.items():
        for kind, pair in spectra.items():
            derived = {"r": pair.correlation(), "transfer": pair.transfer()}
            curves = dict(zip(PARTS, pair.parts(), strict=True)) | derived
            for k, centre in enumerate(comparison.bins.centres):
                low, high = comparison.bins.edges[k], comparison.bins.edges[k + 1] - 1
                place = {"sky": where, "split": split, "method": method, "spectrum": kind}
                row = place | {"ell": centre, "ell_low": int(low), "ell_high": int(high)}
                for name, values in curves.items():
                    scatter = values[:, k].std(ddof=1) if len(values) > 1 else np.nan
                    row |= {name: float(values[:, k].mean()), f"{name}_scatter": float(scatter)}
                yield row


def _csv(rows: Iterable[dict[str, Any]]) -> str:
    text = io.StringIO()
    writer = None
    for row in rows:
        if writer is None:
            writer = csv.DictWriter(text, list(row), lineterminator="\n")
            writer.writeheader()
        writer.writerow(row)
    return text.getvalue()
