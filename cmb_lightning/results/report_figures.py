"""Plots of a comparison: histograms, box plots, differences and calibration."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from cmb_lightning.results.calibration import Z_LEVELS, gaussian_coverage
from cmb_lightning.results.compare import Comparison
from cmb_lightning.results.comparison_files import paired_differences
from cmb_lightning.results.figures import (
    GREY,
    INK,
    method_colour,
    new_figure,
    patch_figure,
    sky_figure,
    spectra_figure,
    tidy,
)
from cmb_lightning.results.spectra import PairSpectra
from cmb_lightning.results.tables import METRIC_LABELS, label, region_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def report_figures(comparison: Comparison, title: str = "") -> Iterator[tuple[str, Figure]]:
    """The figures of the first split, one after the other, each with a name such as `spectra/TT`.

    Args:
        comparison: What was found.
        title: Heading of the maps.
    """
    split, domain = comparison.splits[0], comparison.domain
    example = comparison.examples[split]
    for f, field in enumerate(comparison.fields):
        maps = {label(method): example[method][f] for method in comparison.methods}
        yield f"maps/{field}", sky_figure(example[""][f], maps, title)
        yield f"patches/{field}", patch_figure(example[""][f], maps, title)
        yield f"residual pixels/{field}", histogram_figure(comparison, split, f)
        for metric in comparison.main_scores[split, comparison.methods[0]].metrics:
            yield f"{metric}/{field}", box_figure(comparison, metric, domain, field)
    for where in comparison.f_sky:
        for kind in comparison.spectra[where, split, comparison.methods[0]]:
            yield f"spectra, {where}/{kind}", spectra_of(comparison, where, split, kind)
    if stated := [method for method in comparison.methods if (split, method) in comparison.calibration]:
        yield "error bars", calibration_figure(comparison, split, stated)


def spectra_of(comparison: Comparison, where: str, split: str, kind: str) -> Figure:
    """Spectra of all methods on one split."""
    pairs: dict[str, PairSpectra] = {
        label(method): comparison.spectra[where, split, method][kind] for method in comparison.methods
    }
    return spectra_figure(
        pairs, comparison.bins, f_sky=comparison.f_sky[where], name=kind, reference=comparison.reference
    )


def histogram_figure(comparison: Comparison, split: str, field: int) -> Figure:
    """How the residual's pixels are distributed, beside a Gaussian of the same width."""
    figure = new_figure(6, 4)
    axes = figure.subplots()
    edges = comparison.edges
    centres = (edges[:-1] + edges[1:]) / 2
    for k, method in enumerate(comparison.methods):
        counts = comparison.histograms[split, method][field]
        total = max(float(counts.sum()), 1.0)
        density = counts / total / np.diff(edges)
        axes.stairs(density, edges, baseline=None, color=method_colour(k), lw=1.4, label=label(method))
        if counts.sum():
            sigma = np.sqrt(np.sum(counts * centres**2) / total)
            gauss = np.exp(-(centres**2) / 2 / sigma**2) / np.sqrt(2 * np.pi) / sigma
            axes.plot(centres, gauss, color=method_colour(k), lw=0.8, ls=":")
    axes.set_yscale("log")
    axes.set_ylim(bottom=axes.get_ylim()[1] * 1e-5)
    axes.set_xlim(edges[0], edges[-1])
    axes.set(xlabel=rf"prediction $-$ {comparison.reference} [$\mu$K]", ylabel=r"density [1/$\mu$K]")
    axes.legend(fontsize=9, frameon=False)
    tidy(axes)
    return figure


def box_figure(comparison: Comparison, metric: str, region: str, field: str) -> Figure:
    """One metric of every simulation: a box for each method and split, the simulations as points."""
    splits, methods = comparison.splits, comparison.methods
    figure = new_figure(7, 4)
    axes = figure.subplots()
    for s, split in enumerate(splits):
        for k, method in enumerate(methods):
            values = comparison.main_scores[split, method].of(metric, region, field)
            place = s * (len(methods) + 1) + k
            colour = method_colour(k)
            axes.boxplot(
                values,
                positions=[place],
                widths=0.6,
                showfliers=False,
                patch_artist=True,
                boxprops={"facecolor": colour, "alpha": 0.25, "edgecolor": colour},
                medianprops={"color": INK},
                whiskerprops={"color": colour},
                capprops={"color": colour},
            )
            jitter = np.linspace(-0.2, 0.2, len(values)) if len(values) > 1 else np.zeros(1)
            axes.plot(place + jitter, values, ".", color=colour, ms=4, label=label(method) if s == 0 else None)
    axes.set_xticks([s * (len(methods) + 1) + (len(methods) - 1) / 2 for s in range(len(splits))], splits)
    axes.set_ylabel(METRIC_LABELS.get(metric, metric))
    values = np.concatenate([scores.of(metric, region, field) for scores in comparison.main_scores.values()])
    if metric in ("MAE", "RMSE", "NRMSE") and values.min() > 0 and values.max() > 5 * values.min():
        axes.set_yscale("log")
    axes.legend(fontsize=8, frameon=False, loc="lower left", bbox_to_anchor=(0, 1), ncols=min(len(methods), 3))
    tidy(axes)
    return figure


def difference_figure(comparison: Comparison, region: str, field: str) -> Figure:
    """The first method's RMSE less each other's on the same skies, with 95 % intervals."""
    found = paired_differences(comparison, "RMSE", field)
    rows = [(split, other) for split in comparison.splits for other in comparison.methods[1:]]
    figure = new_figure(7, 1.1 + 0.33 * len(rows))
    axes = figure.subplots()
    for row, (split, other) in enumerate(rows):
        difference = found[split, other, region]
        colour = method_colour(comparison.methods.index(other))
        low, high = np.nan_to_num([difference.low, difference.high], nan=difference.mean)
        axes.plot([low, high], [row, row], color=colour, lw=2.5, solid_capstyle="round")
        axes.plot(difference.mean, row, "o", color=colour, ms=6)
    axes.axvline(0, color=INK, lw=0.8)
    axes.set_yticks(range(len(rows)), [f"{split}: less {label(other)}" for split, other in rows])
    axes.invert_yaxis()
    first = label(comparison.methods[0])
    axes.set_xlabel(rf"RMSE difference [$\mu$K], {region_text(region)}   ($\leftarrow$ {first} is better)")
    reach = [abs(edge) for (_, _, r), d in found.items() if r == region for edge in (d.low, d.high, d.mean)]
    finite = [value for value in reach if np.isfinite(value)]
    if finite and max(finite) > 20 * max(np.median(finite), 1e-12):
        axes.set_xscale("symlog", linthresh=float(np.median(finite)) or 1.0)
    tidy(axes)
    return figure


def calibration_figure(comparison: Comparison, split: str, methods: Sequence[str]) -> Figure:
    """Whether stated errors are right: coverage at every level, and errors made against errors stated."""
    figure = new_figure(9, 4)
    left, right = figure.subplots(1, 2)
    left.plot(gaussian_coverage(), gaussian_coverage(), color=INK, lw=0.8)
    largest = []
    for method in methods:
        found = comparison.calibration[split, method]
        colour = method_colour(comparison.methods.index(method))
        name = rf"{label(method)}, $\chi^2$/pixel = {found.reduced_chi2():.2f}"
        left.plot(gaussian_coverage(), found.coverage(), color=colour, lw=1.6, label=name)
        stated, made = found.reliability()
        right.plot(stated, made, "o-", color=colour, ms=4, lw=1.2)
        largest += [*stated, *made]
    if largest:
        ends = [min(largest) / 1.5, max(largest) * 1.5]
        right.plot(ends, ends, color=INK, lw=0.8)
        right.set(xscale="log", yscale="log")
    one = np.interp(1.0, Z_LEVELS, gaussian_coverage())
    left.axvline(one, color=GREY, lw=0.6, ls=":")
    left.set(xlabel="expected fraction of pixels", ylabel="fraction within the stated error", xlim=(0, 1), ylim=(0, 1))
    left.legend(fontsize=8, frameon=False, loc="upper left")
    right.set(xlabel=r"stated error [$\mu$K]", ylabel=r"rms error made [$\mu$K]")
    for axes in (left, right):
        tidy(axes)
    return figure
