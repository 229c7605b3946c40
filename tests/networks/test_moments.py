import numpy as np
import pytest
import torch

from cmb_lightning.networks.moments import MomentWeights, RunningStandard

NSIDE, GROUPS, CHANNELS = 32, 2, 3


def weights(seed: int = 0) -> MomentWeights:
    torch.manual_seed(seed)
    made = MomentWeights(GROUPS, CHANNELS, NSIDE, width=16).eval()
    torch.nn.init.normal_(made.last.weight)
    return made


def maps(seed: int = 1) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal((2, 6, 12 * NSIDE**2), dtype=np.float32))


def test_nothing_is_said_before_training():
    assert not MomentWeights(GROUPS, CHANNELS, NSIDE)(maps()).any()


def test_only_second_moments_count():
    model, given = weights(), maps()
    said = model(given)
    assert said.shape == given.shape and said.std() > 0.01
    torch.testing.assert_close(model(-given), said, atol=1e-4, rtol=1e-4)
    inside = given.unflatten(2, (12 * 8**2, -1)).flip(3).flatten(2)  # other places of the same coarse pixels
    torch.testing.assert_close(model(inside), said, atol=1e-4, rtol=1e-4)
    assert (model(given * torch.tensor([1, 2, 1, 1, 1, 1.0])[:, None]) - said).abs().max() > 0.01


def test_features_are_sizes_and_correlations_of_each_group():
    given = maps()[:1]
    model = weights()
    images = given.unflatten(1, (GROUPS, CHANNELS)).unflatten(3, (12 * 8**2, -1)).permute(0, 3, 1, 2, 4)
    found = model._features(images @ images.transpose(3, 4) / images.shape[-1])[0, 5].numpy().reshape(GROUPS, -1)
    pixels = given[0].numpy().reshape(GROUPS, CHANNELS, 12 * 8**2, -1)[:, :, 5]
    for group, values in zip(found, pixels, strict=True):
        np.testing.assert_allclose(group[:3], 0.5 * np.log((values**2).mean(1)), rtol=1e-4)
        cosine = [values[a] @ values[b] / np.linalg.norm(values[a]) / np.linalg.norm(values[b])
                  for a, b in ((0, 1), (0, 2), (1, 2))]  # fmt: skip
        np.testing.assert_allclose(group[3:], np.arctanh(cosine), rtol=1e-3, atol=1e-4)


def test_other_skies_of_a_batch_do_not_matter():
    given = maps()
    torch.testing.assert_close(weights()(given)[1:], weights()(given[1:]), atol=1e-5, rtol=1e-4)


def test_features_are_standardised_by_all_that_was_seen():
    standard = RunningStandard(4)
    batches = np.random.default_rng(3).normal([1, 2, 3, 4], [1, 0.1, 5, 2], (50, 10, 4)).astype(np.float32)
    for batch in batches:
        standard(torch.from_numpy(batch))
    standard.eval()
    seen = standard(torch.from_numpy(batches.reshape(-1, 4))).numpy()
    np.testing.assert_allclose(seen.mean(0), 0, atol=1e-3)
    np.testing.assert_allclose(seen.std(0), 1, atol=1e-3)
    assert float(standard.count) == 50


def test_gradients_reach_the_weights_with_silent_maps():
    model = MomentWeights(GROUPS, CHANNELS, NSIDE, width=16)
    model(torch.zeros(1, 6, 12 * NSIDE**2)).sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("nside", [8, 16])
def test_small_maps_are_fine(nside):
    assert MomentWeights(1, 2, nside)(torch.ones(1, 2, 12 * nside**2)).shape == (1, 2, 12 * nside**2)
