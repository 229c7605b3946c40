"""Pictures of cleaned skies and their spectra. matplotlib is loaded when the first one is drawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from cmb_lightning.results.projection import PATCHES, image_of, mollweide_pixels, patch_pixels, patch_size
from cmb_lightning.results.spectra import Bins, PairSpectra
from cmb_lightning.results.tables import region_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.colors import Colormap
    from matplotlib.figure import Figure

INK, GREY = "#1c2733", "#8a95a1"
METHOD_COLOURS = ("#d1495b", "#00798c", "#edae49", "#66a182", "#6a4c93", "#8c6d46")
_PLANCK_ANCHORS = (  # position and colour (red, green, blue): blue through parchment to dark red
    (0, (0, 0, 255)),
    (42, (0, 112, 255)),
    (84, (0, 221, 255)),
    (127, (255, 237, 217)),
    (170, (255, 180, 0)),
    (212, (255, 75, 0)),
    (255, (100, 0, 0)),
)


@lru_cache(maxsize=1)
def planck_colours() -> Colormap:
    """The colours of the Planck collaboration's CMB maps, interpolated between seven anchors."""
    from matplotlib.colors import LinearSegmentedColormap

    anchors = [(position / 255, tuple(c / 255 for c in colour)) for position, colour in _PLANCK_ANCHORS]
    return LinearSegmentedColormap.from_list("planck", anchors)


def colour_range(values: np.ndarray, percentile: float = 99.7) -> float:
    """A round half-width of a symmetrical colour scale that covers most of the finite values."""
    finite = np.abs(values[np.isfinite(values)])
    limit = float(np.percentile(finite, percentile)) if finite.size else 0.0
    if limit <= 0:
        return 1.0
    step = 10 ** np.floor(np.log10(limit)) / 2
    return float(step * np.ceil(limit / step))


def residual_range(residuals: Mapping[str, np.ndarray]) -> float:
    """A colour scale for all residuals, but for the worst 2 % of each and for methods far worse than most."""
    away = [float(np.nanpercentile(np.abs(values), 98)) for values in residuals.values()]
    return colour_range(np.array([largest_of_most(away, 3)]), 100)


def largest_of_most(values: Sequence[float], factor: float) -> float:
    """The largest of positive values that is not above `factor` times their middle one: what a scale should reach.

    One method that fails must not make all others look alike.
    """
    middle = sorted(values)[(len(values) - 1) // 2]
    return max((value for value in values if value <= factor * middle), default=middle)


def new_figure(width: float, height: float) -> Figure:
    """An empty figure [inches] that belongs to no window and is freed with its last reference."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), facecolor="white", layout="constrained")


def draw_mollweide(
    axes: Axes, values: np.ndarray, limit: float, title: str, colours: Colormap | str, width: int = 1000
) -> None:
    """Draw one map, its title and its colour bar.

    Args:
        axes: Where to.
        values: Map [uK_CMB], shape (npix,), NESTED; NaN is grey.
        limit: The colours span - limit to + limit.
        title: Heading.
        colours: Colour map.
        width: Width of the image [points].
    """
    from matplotlib import colormaps
    from matplotlib.patches import Ellipse

    pixels = mollweide_pixels(int(round((len(values) / 12) ** 0.5)), width)
    shown = (colormaps[colours] if isinstance(colours, str) else colours).with_extremes(bad="#c9ced4")
    outline = {"edgecolor": INK, "linewidth": 0.6}
    image = axes.imshow(
        image_of(values, pixels), extent=(-2, 2, -1, 1), vmin=-limit, vmax=limit, cmap=shown, interpolation="nearest"
    )
    edge = Ellipse((0, 0), 4, 2, facecolor="none", **outline)
    axes.add_patch(edge)
    image.set_clip_path(edge)
    axes.set(xlim=(-2.02, 2.02), ylim=(-1.02, 1.02))
    axes.set_axis_off()
    axes.set_title(title, fontsize=11, color=INK, pad=5)
    bar = axes.figure.colorbar(image, ax=axes, orientation="horizontal", shrink=0.5, aspect=32, pad=0.02, extend="both")
    bar.set_ticks([-limit, 0, limit], labels=[f"$-${limit:g}", r"$\mu$K$_\mathrm{CMB}$", f"{limit:g}"])
    bar.ax.tick_params(labelsize=8, length=2, color=GREY, labelcolor=INK)
    bar.outline.set_visible(False)


def sky_figure(
    truth: np.ndarray,
    predictions: Mapping[str, np.ndarray],
    title: str = "",
    regions: Mapping[str, np.ndarray] | None = None,
) -> Figure:
    """Truth, predictions and residuals: a row for each prediction, the first with the truth at its left.

    Truth and predictions share one colour scale, residuals another.

    Args:
        truth: Map [uK_CMB], shape (npix,), NESTED.
        predictions: Name of each method and its map, same shape.
        title: Heading of the figure.
        regions: Masks whose RMSE is written over each residual, bool, shape (npix,), NESTED.

    Returns:
        The figure.
    """
    rows = len(predictions)
    residuals = {name: np.asarray(prediction) - truth for name, prediction in predictions.items()}
    limit, residual_limit = colour_range(truth), residual_range(residuals)
    figure = new_figure(14, 0.35 * bool(title) + 3.1 * rows)
    axes = figure.subplots(rows, 3, squeeze=False)
    for row, (name, prediction) in enumerate(predictions.items()):
        if row == 0:
            draw_mollweide(axes[0, 0], truth, limit, "Truth", planck_colours())
        else:
            axes[row, 0].set_axis_off()
        draw_mollweide(axes[row, 1], prediction, limit, name[:1].upper() + name[1:], planck_colours())
        scores = ", ".join(
            f"{region_text(region)} {np.sqrt(np.nanmean(residuals[name][mask].astype(np.float64) ** 2)):.2f}"
            for region, mask in (regions or {"full": np.ones(len(truth), dtype=bool)}).items()
        )
        heading = f"{name[:1].upper() + name[1:]} $-$ truth\n" + rf"RMSE [$\mu$K]: {scores}"
        draw_mollweide(axes[row, 2], residuals[name], residual_limit, heading, "RdBu_r")
    if title:
        figure.suptitle(title, fontsize=13, color=INK)
    return figure


def patch_figure(truth: np.ndarray, predictions: Mapping[str, np.ndarray], title: str = "") -> Figure:
    """Truth, predictions and residuals on small parts of the sky: two rows for each, on the colour scales of the maps.

    Args:
        truth: Map [uK_CMB], shape (npix,), NESTED.
        predictions: Name of each method and its map, same shape.
        title: Heading of the figure.

    Returns:
        The figure.
    """
    from matplotlib import colormaps

    nside = int(round((len(truth) / 12) ** 0.5))
    size = patch_size(nside)
    residuals = {name: np.asarray(prediction) - truth for name, prediction in predictions.items()}
    scales = ((colour_range(truth), planck_colours()), (residual_range(residuals), colormaps["RdBu_r"]))
    columns = 1 + len(predictions)
    figure = new_figure(max(2.6 * columns, 6), 0.35 * bool(title) + 2.9 * 2 * len(PATCHES))
    grid = figure.subplots(2 * len(PATCHES), columns, squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    for patch, centre in enumerate(PATCHES):
        pixels = patch_pixels(nside, *centre, size, 320)
        rows = ({"truth": truth, **predictions}, {f"{name} $-$ truth": of for name, of in residuals.items()})
        for kind, (row, (limit, colours)) in enumerate(zip(rows, scales, strict=True)):
            shown = colours.with_extremes(bad="#c9ced4")
            places = grid[2 * patch + kind, columns - len(row) :]
            for axes, (name, values) in zip(places, row.items(), strict=True):
                image = axes.imshow(image_of(values, pixels), vmin=-limit, vmax=limit, cmap=shown)
                axes.set_title(name, fontsize=10, color=INK)
            bar = figure.colorbar(image, ax=list(places), shrink=0.8, extend="both")
            bar.set_ticks([-limit, 0, limit], labels=[f"$-${limit:g}", r"$\mu$K", f"{limit:g}"])
            bar.ax.tick_params(labelsize=8, length=2, color=GREY, labelcolor=INK)
            bar.outline.set_visible(False)
        where = f"{size:.0f}° around\nl = {centre[0]:g}°,\nb = {centre[1]:g}°"
        grid[2 * patch + 1, 0].text(0.5, 0.5, where, ha="center", va="center", fontsize=10, color=INK)
    if title:
        figure.suptitle(title, fontsize=13, color=INK)
    return figure


def spectra_figure(
    spectra: Mapping[str, PairSpectra],
    bins: Bins,
    title: str = "",
    f_sky: float = 1.0,
    name: str = "TT",
    reference: str = "truth",
) -> Figure:
    """Spectra of truth, predictions and residuals, with panels for their ratio and their correlation.

    Args:
        spectra: Name of each method and its D_l [uK_CMB^2] in bins, shape (bin,), or (simulation, bin): then the mean
            is drawn, and the middle 68 % of residual and correlation as a band.
        bins: The bins.
        title: Heading of the figure.
        f_sky: Part of the sky that they were taken on, for the cosmic variance.
        name: Which spectrum it is.
        reference: What the truth is called, where another map stands in for it.

    Returns:
        The figure.
    """
    figure = new_figure(8, 8.5)
    top, middle, bottom = figure.subplots(3, 1, sharex=True, height_ratios=(2.4, 1, 1))
    ell, variance = bins.centres, bins.cosmic_variance(f_sky)
    means = {method: _mean(pair) for method, pair in spectra.items()}
    truth = next(iter(means.values())).truth
    logarithmic = name != "TE" and bool((truth > 0).any())
    shown = np.concatenate([pair.residual for pair in means.values()])
    # A decoupled spectrum may fall below zero: on a logarithmic axis lines have a gap there, and bands end at a floor.
    floor = shown[shown > 0].min() / 2 if logarithmic and (shown > 0).any() else -np.inf
    top.fill_between(ell, truth * (1 - variance), truth * (1 + variance), color=GREY, alpha=0.25, lw=0)
    top.plot(ell, truth, color=INK, lw=1.8, label=reference)
    top.fill_between([], [], color=GREY, alpha=0.25, lw=0, label="cosmic variance")
    for k, (method, pair) in enumerate(means.items()):
        colour = method_colour(k)
        top.plot(ell, pair.prediction, color=colour, lw=1.4, ls="--")
        top.plot(ell, pair.residual, color=colour, lw=1.4, label=method)
        middle.plot(ell, pair.ratio(), color=colour, lw=1.4, ls="--")
        middle.plot(ell, pair.transfer(), color=colour, lw=1.2, ls=":")
        bottom.plot(ell, pair.correlation(), color=colour, lw=1.4)
        if spectra[method].truth.ndim > 1 and len(spectra[method].truth) > 1:
            for axes, values in ((top, spectra[method].residual), (bottom, spectra[method].correlation())):
                low, high = np.quantile(values, [0.16, 0.84], axis=0)  # unlike mean ± scatter, positive if all are
                least = floor if axes is top else -np.inf
                axes.fill_between(ell, np.maximum(low, least), np.maximum(high, least), color=colour, alpha=0.15, lw=0)
    if logarithmic:
        top.set_yscale("log", nonpositive="mask")
    else:
        top.axhline(0, color=INK, lw=0.8)
    top.set_ylabel(rf"$D_\ell^\mathrm{{{name}}}$ [$\mu$K$^2$]")
    # One colour a method, one dash a quantity: an entry for each pair of them would not fit beside many methods.
    top.legend(fontsize=8, frameon=False, loc="lower left", bbox_to_anchor=(0, 1.0), ncols=3)
    _legend_of_dashes(top, {"--": "method", "-": rf"method $-$ {reference}"}, loc="lower left")
    middle.fill_between(ell, 1 - variance, 1 + variance, color=GREY, alpha=0.25, lw=0)
    middle.axhline(1, color=INK, lw=0.8)
    middle.set_ylabel(f"ratio to {reference}")
    middle.set_ylim(_around_one([np.concatenate([pair.ratio(), pair.transfer()]) for pair in means.values()]))
    _legend_of_dashes(
        middle, {"--": r"$C_\ell^{pp}/C_\ell^{tt}$", ":": r"$T_\ell = C_\ell^{pt}/C_\ell^{tt}$"}, loc="best"
    )
    bottom.axhline(1, color=INK, lw=0.8)
    bottom.set_ylabel(r"$r_\ell$")
    bottom.set_ylim(_around_one([pair.correlation() for pair in means.values()], top=0.05))
    bottom.set_xlabel(r"multipole $\ell$")
    bottom.set_xlim(bins.edges[0], bins.edges[-1] - 1)
    for axes in (top, middle, bottom):
        tidy(axes)
    if title:
        figure.suptitle(title, fontsize=13, color=INK)
    return figure


def figure_pixels(figure: Figure, dpi: int = 90) -> np.ndarray:
    """A figure as an image, uint8, shape (height, width, 3)."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    figure.set_dpi(dpi)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.array(canvas.buffer_rgba())[..., :3]


def tidy(axes: Axes) -> None:
    """Give axes the look that all plots share."""
    axes.grid(color=GREY, alpha=0.25, lw=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(GREY)
    axes.tick_params(which="both", color=GREY, labelcolor=INK, labelsize=9)
    for axis in (axes.xaxis, axes.yaxis):
        axis.label.set(color=INK, fontsize=10)
        low, high = sorted(axis.get_view_interval())
        if axis.get_scale() == "log" and high < 100 * low:
            _plain_numbers(axis)


def _plain_numbers(axis: Axis) -> None:
    """Label a logarithmic axis that spans little with 2, 3, 5 and not with powers of ten."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

    axis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 5, 7)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_locator(NullLocator())
    axis.set_minor_formatter(NullFormatter())


def method_colour(number: int) -> str:
    """The colour of the n-th method in every plot."""
    return METHOD_COLOURS[number % len(METHOD_COLOURS)]


def _legend_of_dashes(axes: Axes, meanings: Mapping[str, str], loc: str) -> None:
    """Say what the dashes of all lines mean, beside a legend that may be there already."""
    from matplotlib.lines import Line2D

    there = axes.get_legend()
    lines = [Line2D([], [], color=INK, lw=1.4, ls=dash, label=meaning) for dash, meaning in meanings.items()]
    made = axes.legend(handles=lines, fontsize=8, ncols=len(lines), loc=loc, framealpha=0.8, edgecolor="none")
    made.set_zorder(6)  # above the curves
    if there is not None:
        axes.add_artist(there)
        there.set_clip_on(False)  # or no room is made for it above the axes


def _mean(pair: PairSpectra) -> PairSpectra:
    return PairSpectra(*(part.reshape(-1, part.shape[-1]).mean(axis=0) for part in pair.parts()))


def _around_one(methods: Sequence[np.ndarray], top: float | None = None) -> tuple[float, float]:
    """Limits of an axis that show 1 and each method's curves, without letting a few wild points or methods decide."""
    reaches = [0.02]
    for values in methods:
        low, high = np.nanpercentile(np.where(np.isfinite(values), values, np.nan), [3, 97])
        reaches.append(np.nanmax([1 - low, high - 1, 0.02]))
    reach = 1.25 * largest_of_most(reaches[1:] or reaches, 10)
    return max(1 - reach, -1.05), 1 + (reach if top is None else top * reach)
