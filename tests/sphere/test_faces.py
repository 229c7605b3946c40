"""Folding maps into faces, against healpy's own pixel coordinates."""

import healpy as hp
import numpy as np
import pytest
import torch

from cmb_lightning.sphere import Faces


@pytest.mark.parametrize("nside", [1, 4, 16])
def test_a_face_holds_the_pixels_that_healpy_puts_there(nside):
    pixels = torch.arange(12 * nside**2)
    images = Faces(nside).fold(pixels[None, None]).view(12, nside, nside)
    x, y, face = hp.pix2xyf(nside, np.arange(12 * nside**2), nest=True)
    assert torch.equal(images[face, y, x], pixels)


def test_unfold_undoes_fold_for_batches_and_channels():
    maps = torch.randn(3, 2, 12 * 8**2)
    faces = Faces(8)
    images = faces.fold(maps)
    assert images.shape == (36, 2, 8, 8)
    assert images.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(faces.unfold(images), maps)


@pytest.mark.parametrize("fold", [Faces.fold, Faces.fold_each])
def test_another_nside_is_refused(fold):
    with pytest.raises(ValueError, match="nside=8"):
        fold(Faces(8), torch.zeros(1, 1, 12 * 4**2))


def test_faces_one_by_one_are_those_at_once():
    maps = torch.randn(3, 2, 12 * 8**2)
    faces = Faces(8)
    assert torch.equal(torch.cat(list(faces.fold_each(maps))), faces.fold(maps))
    assert torch.equal(faces.unfold_each(faces.fold_each(maps), torch.empty_like(maps)), maps)


def test_an_nside_without_nested_ordering_is_refused():
    with pytest.raises(ValueError, match="power of two"):
        Faces(12)
