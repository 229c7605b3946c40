import healpy
import numpy as np
import pytest
import torch
from torch import nn

from cmb_lightning.cleaning.linear import LinearEstimate
from cmb_lightning.cleaning.masks import Mask, MaskedLoss
from cmb_lightning.cleaning.task import CleaningTask
from cmb_lightning.data.layout import Layout
from cmb_lightning.data.sky_module import SkyDataModule, SkySplit
from cmb_lightning.errors import ConfigError
from cmb_lightning.networks.unet import HealpixUNet
from cmb_lightning.sky.model import Sky
from cmb_lightning.sky.spectra import PolynomialSpectrum
from cmb_lightning.sky.statistical import StatisticalGalaxy
from cmb_lightning.sky.transforms import nest_to_ring, synthesis
from tests.cleaning.test_linear import samples
from tests.cleaning.toy import LAYOUT, LMAX, NSIDE, sky
from tests.data.toy_training import trainer

NPIX = 12 * NSIDE**2
LATITUDE = np.abs(healpy.pix2ang(NSIDE, np.arange(NPIX), nest=True, lonlat=True)[1])


def test_a_latitude_cut_rises_over_the_apodisation():
    sharp, soft = (Mask.load("30 deg", NSIDE, width) for width in ("0 deg", "8 deg"))
    assert np.array_equal(sharp.kept, LATITUDE > 30) and np.array_equal(soft.kept, sharp.kept)
    assert np.array_equal(sharp.weight, sharp.kept)
    assert (soft.weight[~soft.kept] == 0).all() and (soft.weight[LATITUDE > 50] > 0.99).all()
    edge = soft.weight[(LATITUDE > 30) & (LATITUDE < 38)]
    assert 0.1 < edge.mean() < 0.9


@pytest.mark.parametrize("nest", [False, True])
def test_a_finer_fits_mask_is_brought_to_the_maps(tmp_path, nest):
    fine = 2 * NSIDE
    latitude = np.abs(healpy.pix2ang(fine, np.arange(12 * fine**2), nest=nest, lonlat=True)[1])
    path = tmp_path / "mask.fits"
    healpy.write_map(path, (latitude > 20).astype(np.float32), nest=nest, coord="G")
    kept = Mask.load(str(path), NSIDE, "0 deg").kept
    size = np.degrees(healpy.nside2resol(NSIDE))
    assert kept[LATITUDE > 20 + size].all() and not kept[LATITUDE < 20 - size / 2].any()


@pytest.mark.parametrize(
    ("mask", "apodisation", "message"),
    [
        ("20", "0 deg", "model.mask: '20' is neither a file nor a latitude"),
        ("nowhere.fits", "0 deg", "model.mask: 'nowhere.fits' is neither"),
        ("95 deg", "0 deg", "model.mask: a latitude of 95 deg must lie"),
        ("89.9 deg", "0 deg", "keeps no pixel"),
        ("80 deg", "60 deg", "keeps no pixel"),
        ("20 deg", "-1 deg", "model.apodisation: -1 deg"),
        ("20 deg", "much", "model.apodisation: 'much'"),
    ],
)
def test_what_is_no_mask_is_refused_at_once(mask, apodisation, message):
    with pytest.raises(ConfigError, match=message):
        CleaningTask(LAYOUT, mask=mask, apodisation=apodisation)


def test_masks_that_do_not_fit_are_refused(tmp_path):
    path = tmp_path / "mask.fits"
    for nside, coordinates, message in ((NSIDE // 2, "G", "nside 8 where 16"), (NSIDE, "E", "coordinates E")):
        healpy.write_map(path, np.ones(12 * nside**2), coord=coordinates, overwrite=True, dtype=np.float32)
        with pytest.raises(ConfigError, match=message):
            Mask.load(str(path), NSIDE, "0 deg")


def test_the_loss_is_that_of_the_kept_pixels_alone():
    mask = Mask.load("30 deg", NSIDE, "0 deg")
    prediction, target = torch.randn(2, 3, 1, NPIX)
    masked = MaskedLoss(nn.HuberLoss(), mask)
    kept = torch.from_numpy(mask.kept)
    torch.testing.assert_close(masked(prediction, target), nn.HuberLoss()(prediction[..., kept], target[..., kept]))
    soft = MaskedLoss(nn.MSELoss(), Mask.load("30 deg", NSIDE, "8 deg"))
    worse = prediction.clone()
    worse[..., ~kept] += 100
    assert soft(worse, target) == soft(prediction, target)
    assert soft.state_dict() == {}


def test_linear_weights_are_the_best_where_the_mask_is():
    kept = Mask.load("40 deg", NSIDE, "0 deg").kept
    everywhere = LinearEstimate(LAYOUT, regions=1).fit(samples())
    same = LinearEstimate(LAYOUT, regions=1).fit(samples(), np.ones(NPIX))
    masked = LinearEstimate(LAYOUT, regions=1).fit(samples(), kept.astype(float))
    np.testing.assert_array_equal(everywhere.weights.weights, same.weights.weights)
    errors: dict[str, list[float]] = {"everywhere": [], "masked": []}
    for seed in range(6):
        parts = sky(seed)
        for name, estimate in (("everywhere", everywhere), ("masked", masked)):
            error = synthesis(estimate(parts["observed"]) - parts["truth"], NSIDE, LMAX)
            errors[name].append(error[nest_to_ring(kept)].std())
    assert np.mean(errors["masked"]) < 0.95 * np.mean(errors["everywhere"])
    assert masked.weights.error < everywhere.weights.error
    assert np.allclose(masked.weights.weights.sum(-1), 1)


def test_a_training_with_a_mask_scores_it(tmp_path):
    sky = Sky(PolynomialSpectrum([1.0]), [StatisticalGalaxy()])
    options = {"instrument": "real_sky_64", "nside": NSIDE, "bands": ["100", "143"], "sky": sky, "root": tmp_path}
    data = SkyDataModule({"train": SkySplit(4), "valid": SkySplit(2)}, symmetries=True, **options)
    model = CleaningTask(data.layout, network=lambda *a: HealpixUNet(*a, width=4, depth=1), mask="30 deg")
    trainer(tmp_path / "run", epochs=1, enable_checkpointing=False).fit(model, data)
    scores = model.scores["valid", "network"]
    assert scores.regions == ("full", "b20", "mask")
    assert 0 < scores.of("RMSE", "mask").mean() < scores.of("RMSE", "full").mean()


def test_a_checkpoint_of_other_maps_is_refused_with_what_differs():
    task = CleaningTask(LAYOUT)
    other = Layout(NSIDE, LMAX, ("b_I", "a_I", "c_I", "d_I"), LAYOUT.fwhm, ("I",), 480.0)
    checkpoint = {"layout": other.to_dict(), "state_dict": task.state_dict()}
    with pytest.raises(ConfigError, match=r"other maps .*channels: \['a_I', 'b_I'.* here, \['b_I', 'a_I'.* there"):
        task.on_load_checkpoint(checkpoint)


def test_a_checkpoint_of_another_mask_is_refused_though_its_file_has_the_same_name(tmp_path):
    path = tmp_path / "mask.fits"

    def task(latitude: float | None) -> CleaningTask:
        if latitude is not None:
            kept = healpy.reorder((LATITUDE > latitude).astype(np.float32), n2r=True)
            healpy.write_map(path, kept, coord="G", overwrite=True)
        return CleaningTask(LAYOUT, mask=None if latitude is None else str(path))

    checkpoint = {"state_dict": task(20.0).state_dict()}
    task(20.0).on_save_checkpoint(checkpoint)
    for other in (20.0, None):  # to score elsewhere than where it was trained is no mistake
        task(other).check_checkpoint(checkpoint)
    with pytest.raises(ConfigError, match="model.mask: it keeps other pixels"):
        task(30.0).check_checkpoint(checkpoint)
    del checkpoint["mask"]  # of a former version
    task(30.0).check_checkpoint(checkpoint)
