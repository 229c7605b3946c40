"""The parts of the report, each as pieces of HTML."""

from collections.abc import Iterator, Mapping
from html import escape

import numpy as np

from cmb_lightning.cleaning.scores import LOWER_IS_BETTER
from cmb_lightning.results.comparable import TRUTH
from cmb_lightning.results.compare import Comparison
from cmb_lightning.results.comparison_files import comparison_tables, paired_differences, paired_table
from cmb_lightning.results.evaluation import FULL, MASKED
from cmb_lightning.results.figures import colour_range, residual_range
from cmb_lightning.results.projection import PATCHES, patch_size
from cmb_lightning.results.report_figures import (
    box_figure,
    calibration_figure,
    difference_figure,
    histogram_figure,
    spectra_of,
)
from cmb_lightning.results.report_images import (
    colour_bar,
    mollweide_image,
    patch_image,
    residual_colours,
    svg_address,
)
from cmb_lightning.results.tables import Table, label, region_text, with_spread


def summary(comparison: Comparison) -> Iterator[str]:
    """Who leaves the smallest error, in words and in one table."""
    yield "<ul>" + "".join(f"<li>{escape(sentence)}</li>" for sentence in _sentences(comparison)) + "</ul>"
    for field in comparison.fields:
        yield _overview(comparison, field)
    yield '<p class="soft">Mean ± standard error over simulations; the best of each column is in colour.</p>'


def _sentences(comparison: Comparison) -> Iterator[str]:
    """What the numbers say, split by split."""
    differences = paired_differences(comparison)
    first, region = comparison.methods[0], comparison.domain
    for split in comparison.splits:
        means = {m: comparison.main_scores[split, m].of("RMSE", region).mean() for m in comparison.methods}
        best = min(means, key=means.__getitem__)
        wins = "leaves the smallest error" if comparison.reference == TRUTH else f"is nearest to {comparison.reference}"
        text = f"{split}: {label(best)} {wins}, {means[best]:.3g} µK at {region_text(region)}"
        rivals = [m for m in comparison.methods if m != first]
        if rivals:
            rival = min(rivals, key=means.__getitem__)
            found = differences[split, rival, region]
            percent = 100 * (means[first] / means[rival] - 1)
            certainty = "excludes" if found.certain else "includes"
            text += f"; {label(first)} is {abs(percent):.1f} % {'below' if percent < 0 else 'above'} {label(rival)}"
            text += f" (the 95 % interval of their difference {certainty} zero)"
        yield text + "."


def _overview(comparison: Comparison, field: str) -> str:
    regions = list(dict.fromkeys([comparison.domain, comparison.regions[0]]))
    columns = [(split, region) for region in regions for split in comparison.splits]
    scores = comparison.main_scores
    values = {c: {m: scores[c[0], m].of("RMSE", c[1], field) for m in comparison.methods} for c in columns}
    head = "".join(f'<th colspan="{len(comparison.splits)}">{escape(region_text(region))}</th>' for region in regions)
    names = "".join(f"<th>{escape(split)}</th>" for split, _ in columns)
    rows = ""
    for method in comparison.methods:
        cells = ""
        for column in columns:
            of = {m: v.mean() for m, v in values[column].items()}
            v = values[column][method]
            error = v.std(ddof=1) / np.sqrt(len(v)) if len(v) > 1 else np.nan
            best = ' class="best"' if of[method] == min(of.values()) else ""
            cells += f"<td{best}>{with_spread(v.mean(), error)}</td>"
        rows += f"<tr><td>{escape(label(method))}</td>{cells}</tr>"
    title = f"RMSE [µK]{f', {field}' if len(comparison.fields) > 1 else ''}"
    return (
        f'<div class="scroll"><table class="overview"><caption>{title}</caption>'
        f"<thead><tr><th></th>{head}</tr><tr><th></th>{names}</tr></thead><tbody>{rows}</tbody></table></div>"
    )


def maps(comparison: Comparison) -> Iterator[str]:
    """Truth, predictions and residuals of each split's first simulation, whole and zoomed."""
    for split in comparison.splits:
        example = comparison.examples[split]
        sim = int(comparison.main_scores[split, comparison.methods[0]].sims[0])
        for f, field in enumerate(comparison.fields):
            truth = example[""][f]
            residuals = {name: example[name][f] - truth for name in comparison.methods}
            limit, residual_limit = colour_range(truth), residual_range(residuals)
            name = f"{split}, simulation {sim}" + (f", {field}" if len(comparison.fields) > 1 else "")
            yield f"<h3>{escape(name)}</h3><div class='grid maps'>"
            for method, maps in {"": truth, **{m: example[m][f] for m in comparison.methods}}.items():
                caption = label(method) if method else comparison.reference
                yield _figure(mollweide_image(maps, limit), caption, f"Map of {caption}, {name}")
            heading = f"<h3>Residuals: prediction less {escape(comparison.reference)}</h3>"
            yield f"</div>{colour_bar(limit)}{heading}<div class='grid maps'>"
            for method, residual in residuals.items():
                rms = np.sqrt(np.nanmean(residual.astype(np.float64) ** 2))
                caption = f"{label(method)}, rms {rms:.4g} µK"
                image = mollweide_image(residual, residual_limit, residual_colours())
                yield _figure(image, caption, f"Residual of {label(method)}, {name}")
            yield f"</div>{colour_bar(residual_limit, residual_colours())}"
            yield from _patches(example, f, residuals, (limit, residual_limit), name, comparison.reference)


def _patches(
    example: Mapping[str, np.ndarray],
    field: int,
    residuals: Mapping[str, np.ndarray],
    limits: tuple[float, float],
    name: str,
    reference: str,
) -> Iterator[str]:
    size = patch_size(int(round((example[""].shape[-1] / 12) ** 0.5)))
    for lon, lat in PATCHES:
        where = f"{size:.0f}° around l = {lon:g}°, b = {lat:g}°"
        yield f"<h3>Zoom: {where}</h3><div class='grid patches'>"
        for method, maps in example.items():
            caption = label(method) if method else reference
            image = patch_image(maps[field], limits[0], (lon, lat))
            yield _figure(image, caption, f"Patch of {caption}, {where}, {name}")
        yield "</div><div class='grid patches'>"
        for method, residual in residuals.items():
            image = patch_image(residual, limits[1], (lon, lat), residual_colours())
            caption = f"{label(method)} less {reference}"
            yield _figure(image, caption, f"Residual patch of {label(method)}, {where}, {name}")
        yield "</div>"


def spectra(comparison: Comparison) -> Iterator[str]:
    """Spectra on the full and the masked sky."""
    the = escape(the_reference(comparison))
    yield (
        f"<p>Top: spectra of {the}, of the predictions and of how they differ from it. Middle: power of the prediction "
        f"over that of {the}, and the transfer function. Bottom: correlation with {the}. Bands: the middle 68 % "
        "of the simulations; grey: cosmic variance of one sky. A line has a gap where a spectrum, decoupled from "
        "the mask, falls below zero.</p>"
    )
    halved = [m for m in comparison.methods if all(comparison.about[s, m].get("halves") for s in comparison.splits)]
    if halved:
        yield (
            f"<p>{escape(', '.join(map(label, halved)))}: spectra of the prediction, and of how it differs from {the}, "
            "are taken across two halves of the data, whose noise is independent: they have no noise bias, and may "
            "fall below zero.</p>"
        )
    titles = {
        FULL: "full sky",
        MASKED: "masked sky, decoupled from the mask",
    }
    for split in comparison.splits:
        yield f"<h3>{escape(split)}</h3><div class='grid plots'>"
        for where in comparison.f_sky:
            found = comparison.spectra.get((where, split, comparison.methods[0]), {})
            for kind in found:
                share = f" ({100 * comparison.f_sky[where]:.0f} % of the sky)" if where == MASKED else ""
                caption = f"{kind}, {titles[where]}{share}"
                image = svg_address(spectra_of(comparison, where, split, kind))
                yield _figure(image, caption, f"Spectra {kind} of {split}, {titles[where]}")
        yield "</div>"


def errors(comparison: Comparison) -> Iterator[str]:
    """Every simulation's metrics, and the residuals' pixels."""
    metrics = next(iter(comparison.main_scores.values())).metrics
    where = region_text(comparison.domain)
    for field in comparison.fields:
        suffix = f", {field}" if len(comparison.fields) > 1 else ""
        yield f"<h3>Every simulation, {escape(where)}{suffix}</h3><div class='grid plots'>"
        for metric in metrics:
            side = "lower" if metric in LOWER_IS_BETTER else "higher"
            what = "better" if comparison.reference == TRUTH else f"nearer to {comparison.reference}"
            image = svg_address(box_figure(comparison, metric, comparison.domain, field))
            yield _figure(image, f"{metric}: {side} is {what}", f"Box plot of {metric}{suffix}")
        yield f"</div><h3>Residual pixels, {escape(where)}{suffix}</h3><div class='grid plots'>"
        for split in comparison.splits:
            image = svg_address(histogram_figure(comparison, split, comparison.fields.index(field)))
            yield _figure(image, f"{split}; dotted: Gaussians of the same width", f"Histogram of {split}{suffix}")
        yield "</div>"


def differences(comparison: Comparison) -> Iterator[str]:
    """The first method against each other one, sky by sky; nothing for a single method."""
    for field in comparison.fields:
        table = paired_table(comparison, "RMSE", field)
        if table is None:
            return
        suffix = f", {field}" if len(comparison.fields) > 1 else ""
        image = svg_address(difference_figure(comparison, comparison.domain, field))
        yield "<p>Differences on the same skies, with 95 % bootstrap intervals of their mean over the skies. An "
        yield "asterisk marks intervals that exclude zero.</p><div class='grid plots'>"
        yield _figure(image, "Error bars: 95 % interval", f"Paired differences of RMSE{suffix}")
        yield "</div>" + _table(table)


def calibration(comparison: Comparison) -> Iterator[str]:
    """Stated errors against errors made; nothing where no method states any."""
    for split in comparison.splits:
        methods = [m for m in comparison.methods if (split, m) in comparison.calibration]
        if methods:
            image = svg_address(calibration_figure(comparison, split, methods))
            caption = f"{split}, {region_text(comparison.domain)}: coverage, and errors made against errors stated"
            yield _figure(image, caption, f"Calibration of error bars, {split}")


def tables(comparison: Comparison) -> Iterator[str]:
    """Every number."""
    for table in comparison_tables(comparison):
        yield _table(table)


def making(comparison: Comparison, command: str, configuration: Mapping[str, str]) -> Iterator[str]:
    """Where the maps come from, and how to make the page again."""
    if command:
        yield f"<p>This page is made by</p><pre>{escape(command)}</pre>"
    keys = list(dict.fromkeys(key for about in comparison.about.values() for key in about))
    rows = tuple(
        (split, label(method), *(str(about.get(key, "")) for key in keys))
        for (split, method), about in comparison.about.items()
    )
    yield _table(Table("Where the maps come from", ("split", "method", *keys), rows))
    for heading, text in configuration.items():
        yield f"<h3>{escape(heading)}</h3><pre>{escape(text)}</pre>"


def the_reference(comparison: Comparison) -> str:
    """`the truth`, or the name of the map that stands in for it."""
    return "the truth" if comparison.reference == TRUTH else comparison.reference


def _table(table: Table) -> str:
    head = "".join(f"<th>{escape(column)}</th>" for column in table.columns)
    rows, before = "", None
    for row in table.rows:
        rule = ' class="rule"' if before not in (None, row[0]) else ""
        cells = "".join(f"<td>{escape(cell)}</td>" for cell in ("" if row[0] == before else row[0], *row[1:]))
        rows += f"<tr{rule}>{cells}</tr>"
        before = row[0]
    return (
        f'<div class="scroll"><table><caption>{escape(table.title)}</caption>'
        f"<thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>"
    )


def _figure(address: str, caption: str, description: str) -> str:
    return (
        f'<figure><img src="{address}" alt="{escape(description, quote=True)}">'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )
