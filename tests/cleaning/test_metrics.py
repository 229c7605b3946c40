import healpy
import numpy as np
import pytest
import scipy.stats
import torch

from cmb_lightning.cleaning.metrics import SkyCalibration, SkyMetrics
from cmb_lightning.cleaning.regions import apodise, brightness_regions, galactic_mask, latitude_bands, sky_regions
from cmb_lightning.cleaning.scores import CALIBRATION, METRICS, score_errors, score_maps

NSIDE = 8
NPIX = 12 * NSIDE**2


def maps(sims=5, fields=1, seed=1):
    rng = np.random.default_rng(seed)
    truth = rng.normal(size=(sims, fields, NPIX)) * 70
    return torch.tensor(truth + rng.normal(size=truth.shape) * 5 + 1, dtype=torch.float32), torch.tensor(
        truth, dtype=torch.float32
    )


def test_closed_forms():
    """Every metric against its formula, written with other functions."""
    rng = np.random.default_rng(0)
    t = rng.normal(size=1000)
    p = 1.1 * t + rng.normal(size=1000) * 0.3 + 0.2
    got = dict(zip(METRICS, score_maps(p, t), strict=True))
    assert got["MAE"] == pytest.approx(np.abs(p - t).sum() / 1000)
    assert got["RMSE"] == pytest.approx(np.linalg.norm(p - t) / np.sqrt(1000))
    assert got["NRMSE"] == pytest.approx(np.linalg.norm(p - t) / np.linalg.norm(t))
    assert got["PSNR"] == pytest.approx(20 * np.log10(np.ptp(t) / got["RMSE"]))
    assert got["R2"] == pytest.approx(1 - np.sum((p - t) ** 2) / (1000 * np.var(t)))
    assert got["Pearson"] == pytest.approx(np.corrcoef(p, t)[0, 1])


def test_outlier_does_not_raise_psnr():
    t = np.linspace(-1, 1, 100)
    p = t.copy()
    p[0] = 50
    assert score_maps(p, t)[METRICS.index("PSNR")] == pytest.approx(20 * np.log10(2 / 5.1))


def test_float64_accumulation():
    """A large offset in float32 maps costs no digits of the correlation."""
    t = (np.random.default_rng(0).normal(size=200_000) + 1000).astype(np.float32)
    p = (t + np.float32(0.5)).astype(np.float32)
    assert score_maps(p, t)[METRICS.index("Pearson")] == pytest.approx(np.corrcoef(p, t)[0, 1], abs=1e-12)


def test_per_simulation_values_mean_and_spread():
    prediction, truth = maps()
    metric = SkyMetrics(sky_regions(NSIDE, (20.0,)))
    metric.update(prediction[:2], truth[:2], torch.tensor([4, 2]))
    metric.update(prediction[2:], truth[2:], torch.tensor([0, 1, 3]))
    scores = metric.compute()
    assert scores.sims.tolist() == [0, 1, 2, 3, 4]
    assert scores.regions == ("full", "b20")
    mask = galactic_mask(NSIDE, 20)
    error = (prediction - truth).double().numpy()[:, 0]
    order = [2, 3, 1, 4, 0]
    rmse = np.sqrt((error**2).mean(axis=1))[order]
    rmse_cut = np.sqrt((error[:, mask] ** 2).mean(axis=1))[order]
    np.testing.assert_allclose(scores.of("RMSE", "full"), rmse)
    np.testing.assert_allclose(scores.of("RMSE", "b20"), rmse_cut)
    m = METRICS.index("RMSE")
    assert scores.mean()[0, 0, m] == pytest.approx(rmse.mean())
    assert scores.spread()[0, 1, m] == pytest.approx(rmse_cut.std(ddof=1))
    assert scores.standard_error()[0, 1, m] == pytest.approx(rmse_cut.std(ddof=1) / np.sqrt(5))
    assert scores.means()["RMSE/b20"] == pytest.approx(rmse_cut.mean())
    assert scores.rows()[1]["RMSE"] == pytest.approx(rmse_cut[0])


def test_repeated_simulation_counts_once():
    prediction, truth = maps()
    metric = SkyMetrics(sky_regions(NSIDE, ()))
    metric.update(prediction, truth, torch.arange(5))
    once = metric.compute().values
    metric.update(prediction[:3] + 1, truth[:3], torch.arange(3))
    again = metric.compute()
    assert len(again) == 5
    np.testing.assert_array_equal(again.values, once)


@pytest.mark.parametrize("share", [0, 1, 3], ids=["idle", "one", "three"])
def test_processes_joined(share):
    """The gathering of torchmetrics, with the other process's message put in by hand; it may have seen nothing."""
    prediction, truth = maps()
    whole, here, there = (SkyMetrics(sky_regions(NSIDE)) for _ in range(3))
    whole.update(prediction, truth, torch.arange(5))
    here.update(prediction[share:], truth[share:], torch.arange(share, 5))
    if share:
        there.update(prediction[:share], truth[:share], torch.arange(share))
    sent = torch.cat(there.rows) if share else torch.tensor([], dtype=there.dtype)

    def exchange(tensor, group=None):
        assert tensor.dtype == sent.dtype and tensor.ndim == sent.ndim
        return [tensor, sent]

    here.dist_sync_fn, here.distributed_available_fn = exchange, lambda: True
    scores = here.compute()
    np.testing.assert_array_equal(scores.values, whole.compute().values)
    assert scores.sims.tolist() == list(range(5))


def test_without_simulations():
    scores = SkyMetrics(sky_regions(NSIDE)).compute()
    assert len(scores) == 0 and np.isnan(scores.mean()).all()


def test_several_fields_and_reset():
    prediction, truth = maps(2, 2)
    metric = SkyMetrics(sky_regions(NSIDE), fields=("E", "B"))
    metric.update(prediction, truth, torch.arange(2))
    assert metric.compute().of("MAE", "full", "B")[0] == pytest.approx(
        (prediction - truth)[0, 1].abs().mean().item(), rel=1e-6
    )
    assert "RMSE/b20/B" in metric.compute().means()
    metric.reset()
    assert len(metric.compute()) == 0


@pytest.mark.parametrize("wrong", ["regions", "prediction", "fields"])
def test_wrong_shapes(wrong):
    prediction, truth = maps(2)
    if wrong == "regions":
        with pytest.raises(ValueError, match="no pixels"):
            SkyMetrics({"none": np.zeros(NPIX, dtype=bool)})
        with pytest.raises(ValueError, match="every pixel"):
            SkyMetrics({"a": np.ones(NPIX, dtype=bool), "b": np.ones(12, dtype=bool)})
        return
    metric = SkyMetrics(sky_regions(NSIDE), fields=("I",) if wrong == "prediction" else ("E", "B"))
    with pytest.raises(ValueError, match="batch, field, npix"):
        metric.update(prediction[..., :12] if wrong == "prediction" else prediction, truth, torch.arange(2))


@pytest.mark.parametrize("cut", [0, 20, 41.5])
def test_galactic_mask_against_healpy(cut):
    import healpy

    latitude = 90 - np.degrees(healpy.pix2ang(16, np.arange(12 * 16**2), nest=True)[0])
    np.testing.assert_array_equal(galactic_mask(16, cut), np.abs(latitude) > cut)


def test_galactic_mask_refuses():
    with pytest.raises(ValueError, match="between 0 and 90"):
        galactic_mask(16, 95)


def test_brightness_zones_share_the_sky():
    dust = np.random.default_rng(0).lognormal(size=NPIX)
    dust[:7] = np.nan
    zones = brightness_regions(dust, (0.5, 0.8))
    assert list(zones) == ["faintest50%", "50-80%", "brightest20%"]
    assert sum(zone.astype(int) for zone in zones.values()).tolist() == [0] * 7 + [1] * (NPIX - 7)
    assert dust[zones["faintest50%"]].max() < dust[zones["50-80%"]].min()
    with pytest.raises(ValueError, match="rise"):
        brightness_regions(dust, (0.8, 0.5))


def test_apodised_weight_stays_inside_and_is_smooth():
    mask = galactic_mask(32, 20)
    weight = apodise(mask, 10.0)
    assert (weight[~mask] == 0).all() and weight.max() == pytest.approx(1, abs=1e-3) and weight.min() >= 0
    assert (weight[galactic_mask(32, 35)] > 0.98).all() and (weight[mask & ~galactic_mask(32, 21)] < 0.1).all()
    np.testing.assert_array_equal(apodise(mask, 0), mask)
    np.testing.assert_array_equal(apodise(np.ones_like(mask), 10), 1)


def test_calibration_of_gaussian_errors_is_what_their_distribution_says():
    rng = np.random.default_rng(0)
    z = rng.standard_normal(400_000) * 1.3 + 0.2  # errors that are larger than stated, and biased
    sigma = rng.uniform(1, 100, z.size)
    truth = rng.normal(size=z.size) * 70
    got = dict(zip(CALIBRATION, score_errors(truth + z * sigma, truth, sigma), strict=True))
    stated, made = scipy.stats.norm(), scipy.stats.norm(0.2, 1.3)
    for name, level in (("coverage68", 0.68), ("coverage95", 0.95), ("coverage99.7", 0.997)):
        low, high = stated.interval(level)
        assert got[name] == pytest.approx(made.cdf(high) - made.cdf(low), abs=0.003)
    assert got["z_mean"] == pytest.approx(0.2, abs=0.01) and got["z_spread"] == pytest.approx(1.3, abs=0.01)


def test_latitude_bands_are_the_sky_without_overlap():
    bands = latitude_bands(NSIDE)
    assert list(bands) == ["full", "b0-10", "b10-20", "b20-40", "b40-90"]
    latitude = np.abs(healpy.pix2ang(NSIDE, np.arange(NPIX), nest=True, lonlat=True)[1])
    for name, (low, high) in {"b0-10": (-1, 10), "b20-40": (20, 40), "b40-90": (40, 90)}.items():
        np.testing.assert_array_equal(bands[name], (latitude > low) & (latitude <= high))
    np.testing.assert_array_equal(np.sum([band for name, band in bands.items() if name != "full"], axis=0), 1)
    kept = latitude > 30
    masked = latitude_bands(NSIDE, kept)
    assert list(masked) == ["mask", "b20-40", "b40-90"]
    np.testing.assert_array_equal(masked["mask"], kept)
    np.testing.assert_array_equal(masked["b20-40"], kept & (latitude <= 40))


def test_error_bars_are_scored_in_bands_of_latitude_each_simulation_once():
    prediction, truth = maps(sims=3)
    bands = latitude_bands(NSIDE)
    sigma = torch.full_like(truth, 5.0)
    sigma[..., torch.from_numpy(bands["b0-10"])] = 0.01
    metric = SkyCalibration(bands)
    metric.update(prediction, truth, torch.tensor([0, 1, 2]), sigma)
    metric.update(prediction[1:], truth[1:], torch.tensor([1, 7]), sigma[1:])
    scores = metric.compute()
    assert scores.sims.tolist() == [0, 1, 2, 7] and scores.metrics == CALIBRATION
    np.testing.assert_array_equal(scores.of("coverage95", "b0-10"), scores.of("coverage68", "b0-10"))
    assert (scores.of("coverage95", "b0-10") < 0.05).all()
    z = ((prediction - truth).double() / sigma)[1, 0, torch.from_numpy(bands["b20-40"])]
    assert scores.of("z_mean", "b20-40")[1] == pytest.approx(z.mean().item())
    assert scores.of("coverage68", "b20-40")[1] == pytest.approx((z.abs() < 0.994458).double().mean().item())
    with pytest.raises(ValueError, match="have shapes"):
        metric.update(prediction, truth, torch.tensor([0, 1, 2]), sigma[..., :5])
