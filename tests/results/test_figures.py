import io
import subprocess
import sys

import healpy
import numpy as np
import pytest
from matplotlib.legend import Legend

from cmb_lightning.cleaning.regions import sky_regions
from cmb_lightning.results.figures import colour_range, patch_figure, planck_colours, sky_figure, spectra_figure
from cmb_lightning.results.projection import PATCHES, image_of, mollweide_pixels, patch_pixels, patch_size
from cmb_lightning.results.spectra import Bins, PairSpectra, pair_spectra

NSIDE = 16
NPIX = 12 * NSIDE**2


def pixel(longitude, latitude):
    return healpy.ang2pix(NSIDE, longitude, latitude, lonlat=True, nest=True)


def test_mollweide_against_healpy():
    """Each point shows the pixel that healpy's own projector puts there."""
    width = 80
    pixels = mollweide_pixels(NSIDE, width)
    projector = healpy.projector.MollweideProj(xsize=width)
    x = -2 + (np.arange(width) + 0.5) / width * 4
    y = 1 - (np.arange(width // 2) + 0.5) / (width // 2) * 2
    for row in range(3, width // 2, 7):
        for column in range(2, width, 5):
            angles = projector.xy2ang(x[column], y[row])
            if not np.all(np.isfinite(angles)):
                assert pixels[row, column] == -1
            else:
                assert pixels[row, column] == healpy.ang2pix(NSIDE, angles[0], angles[1], nest=True)


def test_mollweide_orientation():
    """North is up, the Galactic centre in the middle, and longitude grows to the left."""
    pixels = mollweide_pixels(NSIDE, 200)
    assert pixels[50, 100] in (pixel(0, 0.5), pixel(-1, -0.5), pixel(0, -0.5), pixel(-1, 0.5))
    assert healpy.pix2ang(NSIDE, pixels[1, 100], nest=True, lonlat=True)[1] > 60
    assert 80 < healpy.pix2ang(NSIDE, pixels[50, 50], nest=True, lonlat=True)[0] < 100
    assert pixels[0, 0] == -1 and np.mean(pixels >= 0) == pytest.approx(np.pi / 4, abs=0.01)


@pytest.mark.parametrize(("lon", "lat"), [(0, 0), (200, 60), (30, -88)])
def test_patch_centre_and_direction(lon, lat):
    pixels = patch_pixels(64, lon, lat, 20.0, 41)
    to_pixel = lambda *a: healpy.ang2pix(64, *a, lonlat=True, nest=True)  # noqa: E731
    assert pixels[20, 20] == to_pixel(lon, lat)
    if lat != -88:
        top = healpy.pix2ang(64, pixels[0, 20], nest=True, lonlat=True)
        left = healpy.pix2ang(64, pixels[20, 0], nest=True, lonlat=True)
        assert top[1] == pytest.approx(lat + 9.76, abs=1)
        assert 0 < (left[0] - lon) % 360 < 90
    else:
        assert (
            healpy.rotator.angdist(*[healpy.pix2ang(64, p, nest=True) for p in (pixels[0, 20], pixels[40, 20])])
        ) < 0.36


def test_image_outside_is_nan():
    picture = image_of(np.arange(NPIX), mollweide_pixels(NSIDE, 40))
    assert np.isnan(picture[0, 0]) and picture.shape == (20, 40)


def test_planck_colours_run_from_blue_through_parchment_to_red():
    low, middle, high = (planck_colours()(v)[:3] for v in (0.0, 0.5, 1.0))
    assert low == (0, 0, 1) and min(middle) > 0.8 and high[0] > 0.35 and max(high[1:]) == 0


def test_colour_range_is_round_and_covers():
    values = np.random.default_rng(0).normal(size=10000) * 70
    assert 190 <= colour_range(values) <= 250 and colour_range(values) % 50 == 0
    assert colour_range(np.zeros(4)) == 1 and colour_range(np.full(4, np.nan)) == 1


def test_figures_are_drawn_without_a_window():
    rng = np.random.default_rng(0)
    truth = rng.normal(size=NPIX).astype(np.float32) * 70
    predictions = {"network": truth + rng.normal(size=NPIX), "trained linear": truth + 2}
    predictions["trained linear"][:100] = np.nan
    figure = sky_figure(truth, predictions, "title", sky_regions(NSIDE))
    maps = [axes for axes in figure.axes if axes.images]
    assert len(maps) == 5
    truth_axes, prediction_axes, residual_axes = maps[0], maps[1], maps[2]
    assert truth_axes.images[0].get_clim() == prediction_axes.images[0].get_clim()
    low, high = residual_axes.images[0].get_clim()
    assert low == -high and high < truth_axes.images[0].get_clim()[1]
    expected = np.sqrt(np.mean((predictions["network"] - truth) ** 2))
    assert f"full sky {expected:.2f}" in residual_axes.get_title()
    figure.savefig(io.BytesIO(), dpi=40)


def test_patches_show_what_healpy_does_there():
    """Each row has the pixels that healpy's own projector takes around its centre, on the scales of the whole maps."""
    rng = np.random.default_rng(0)
    truth = 70 * rng.normal(size=NPIX)
    predictions = {"network": truth + rng.normal(size=NPIX), "linear": truth + 2 * rng.normal(size=NPIX)}
    figure = patch_figure(truth, predictions, "title")
    panels = [axes for axes in figure.axes if axes.images and axes.get_title()]
    left = {f"{name} $-$ truth": maps - truth for name, maps in predictions.items()}
    assert [axes.get_title() for axes in panels] == 2 * ["truth", *predictions, *left]
    whole = [axes for axes in sky_figure(truth, predictions).axes if axes.images]
    for k, axes in enumerate(panels):
        shown, values = axes.images[0], {"truth": truth, **predictions, **left}[axes.get_title()]
        centre = PATCHES[k // 5]
        step = 60 * patch_size(NSIDE) / shown.get_array().shape[0]
        projector = healpy.projector.GnomonicProj(rot=(*centre, 0), xsize=41, reso=step)
        expected = projector.projmap(values, lambda x, y, z: healpy.vec2pix(NSIDE, x, y, z, nest=True))
        middle = shown.get_array().shape[0] // 2
        part = shown.get_array()[middle - 20 : middle + 20, middle - 20 : middle + 20]
        assert np.mean(np.isclose(part, expected[::-1][:40, :40])) > 0.9  # half a point aside
        assert shown.get_clim() == whole[0 if k % 5 < 3 else 2].images[0].get_clim()
    figure.savefig(io.BytesIO(), dpi=40)


def test_spectra_figure_shows_what_was_computed():
    rng = np.random.default_rng(0)
    truth = healpy.reorder(healpy.alm2map(rng.normal(size=561) + 0j, NSIDE, lmax=32), r2n=True)[None]
    pair = pair_spectra(0.9 * truth, truth)["TT"]
    bins = Bins.up_to(32)
    binned = pair.binned(bins)
    figure = spectra_figure({"network": binned}, bins)
    top, middle, bottom = figure.axes
    shown = {line.get_label(): line.get_ydata() for line in top.lines}
    np.testing.assert_allclose(shown["truth"], binned.truth)
    np.testing.assert_allclose(shown["network"], binned.residual)
    np.testing.assert_allclose(middle.lines[0].get_ydata(), 0.81)
    np.testing.assert_allclose(middle.lines[1].get_ydata(), 0.9)
    np.testing.assert_allclose(bottom.lines[0].get_ydata(), 1)
    figure.savefig(io.BytesIO(), dpi=40)


def test_names_of_many_methods_fit_beside_their_spectra():
    """A legend wider than the plot would squeeze it or be cut off."""
    pair = pair_spectra(np.ones((1, NPIX)), np.random.default_rng(0).normal(size=(1, NPIX)))["TT"].binned(
        Bins.up_to(32)
    )
    names = [f"a_network_with_a_name_{k}" for k in range(6)]
    figure = spectra_figure(dict.fromkeys(names, pair), Bins.up_to(32), reference="SMICA")
    figure.canvas.draw()
    whole = figure.bbox
    for axes in figure.axes:
        assert axes.get_window_extent().width > 0.75 * whole.width
        for legend in [child for child in axes.get_children() if isinstance(child, Legend)]:
            assert legend.get_window_extent().x1 <= whole.x1 and legend.get_window_extent().y1 <= whole.y1
    assert "ratio to SMICA" in figure.axes[1].get_ylabel()


def test_a_method_that_fails_does_not_make_the_others_look_alike():
    """Residuals and ratios keep the scales that the good methods need, and logarithmic bands end at a floor."""
    rng = np.random.default_rng(0)
    truth = 70 * rng.normal(size=NPIX)
    good = {f"good {k}": truth + k * rng.normal(size=NPIX) for k in (1, 2, 3)}
    expected = {name: residual_limits(sky_figure(truth, {**good, **other})) for name, other in failing(truth).items()}
    assert expected["none"] == expected["one"] == expected["two"]
    bins = Bins.up_to(32)
    flat = np.ones((4, len(bins.centres)))
    pairs = {f"good {k}": PairSpectra(flat, (1 + k / 100) * flat, k * flat / 100, flat) for k in (1, 2, 3)}
    ratios = spectra_figure(pairs, bins).axes[1].get_ylim()
    pairs["wild"] = PairSpectra(flat, 300 * flat, np.where(np.arange(4)[:, None] > 0, 300, -800) * flat, flat)
    figure = spectra_figure(pairs, bins)
    assert figure.axes[1].get_ylim() == ratios
    lowest = [path.vertices[:, 1].min() for band in figure.axes[0].collections for path in band.get_paths()]
    assert min(lowest) == pytest.approx(0.005)  # half the smallest mean, not the wild one's -360


def failing(truth):
    return {"none": {}, "one": {"fails": 99 * truth}, "two": {"fails": 99 * truth, "too": 20 * truth}}


def residual_limits(figure):
    return [axes for axes in figure.axes if axes.images][2].images[0].get_clim()


def test_import_loads_no_matplotlib():
    code = (
        "import sys, cmb_lightning.results.figures; sys.exit(any(m in sys.modules for m in ('matplotlib', 'healpy')))"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
