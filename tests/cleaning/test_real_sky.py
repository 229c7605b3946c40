"""What the residual method promises, with the real Galaxy and an instrument's noise in the sky."""

import numpy as np
import pytest
import torch

from cmb_lightning.cleaning.fitted import Known
from cmb_lightning.cleaning.methods import Residual
from cmb_lightning.cleaning.trained_linear import TrainedLinear
from cmb_lightning.data.layout import Layout
from cmb_lightning.data.mixing import observe
from cmb_lightning.networks import HealpixUNet
from cmb_lightning.sky import Instrument, ModifiedBlackbody, PolynomialSpectrum, PowerLaw, Simulator, Sky, Templates
from cmb_lightning.sky import TemplateComponent as Component

NSIDE = 32


@pytest.fixture(scope="module")
def simulator(real_sky):
    components = [
        Component("dust", "dust_353ghz.fits", ModifiedBlackbody("BETA", "TEMP"), "353 GHz", amplitude_scatter=0.15),
        Component("synchrotron", "synchrotron_30ghz.fits", PowerLaw("BETA"), "30 GHz", amplitude_scatter=0.15),
        Component("freefree", "freefree_30ghz.fits", PowerLaw(-2.14), "30 GHz", amplitude_scatter=0.15),
    ]
    sky = Sky(cmb=PolynomialSpectrum([1.0]), foregrounds=[Templates(components)])
    instrument = Instrument.load("real_sky_64", 64).scaled(NSIDE)
    return Simulator(instrument, NSIDE, None, None, sky, seed=3, templates=real_sky)


def test_any_network_passes_the_cmb_through_the_real_sky(simulator):
    channels = simulator.channels
    layout = Layout(
        NSIDE,
        simulator.lmax,
        tuple(c.name for c in channels),
        tuple(c.fwhm for c in channels),
        target_fwhm=simulator.target_fwhm,
    )
    skies = [simulator.simulate("train", index) for index in range(4)]
    none = {"gain": np.zeros(len(channels), np.float32)}
    linear = TrainedLinear(layout)
    linear.store(linear.fit(Known(lambda: (none | parts for parts in skies), layout, hedge=0.1)))
    np.testing.assert_allclose(linear.weights.sum(-1), 1, atol=1e-6)

    torch.manual_seed(0)
    method = Residual(layout)
    method.learn_scales({}, linear)
    preparation = method.preparation(linear)
    known = preparation.finish(preparation.prepare(observe(skies[0])))
    method.learn_pixels(lambda: [{"inputs": torch.from_numpy(known["inputs"])[None]}])
    network = HealpixUNet(*method.network_channels, NSIDE, width=8, depth=2, zero_init=False).eval()

    def clean(maps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The cleaned map and the local estimate in it."""
        sample = preparation.finish(preparation.prepare(maps))
        with torch.no_grad():
            batch = {k: torch.from_numpy(v)[None] for k, v in sample.items()}
            cleaned = method(lambda inputs: 0.1 * network(inputs), batch)
        return cleaned[0, 0].numpy(), sample["local"][0]

    sky, other = simulator.simulate("test", 0), simulator.simulate("test", 1)
    (before, estimate), (after, _) = clean(observe(sky)), clean(observe(sky) + other["cmb"])
    truth = other["target"][0]
    assert (before - estimate).std() > 1  # the network does change the estimate
    assert (after - before - truth).std() < 1e-3 * truth.std()
