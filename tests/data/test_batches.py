import numpy as np
import pytest
import torch
from torch.utils.data import default_collate

from cmb_lightning.data.batches import collate


def samples(maps):
    return [{"inputs": row, "index": np.int64(k), "split": "train"} for k, row in enumerate(maps)]


@pytest.mark.parametrize("order", [slice(None), slice(None, None, -1), [0, 0, 1], [1, 2, 3]])
@pytest.mark.parametrize("separate", [False, True])
def test_batches_are_those_of_torch(order, separate):
    maps = np.random.default_rng(0).standard_normal((4, 2, 12)).astype(np.float32)
    rows = [row.copy() if separate else row for row in maps][order] if isinstance(order, slice) else maps[order]
    batch, expected = collate(samples(rows)), default_collate(samples(rows))
    assert batch.keys() == expected.keys() and batch["split"] == expected["split"]
    for name in ("inputs", "index"):
        assert torch.equal(batch[name], expected[name]) and batch[name].dtype == expected[name].dtype


def test_the_rows_of_an_array_are_not_copied():
    maps = np.zeros((3, 2, 12), np.float32)
    batch = collate(samples(maps))
    maps[1] = 1
    assert batch["inputs"][1].eq(1).all()
    both = collate([sample | {"observed": sample["inputs"]} for sample in samples(maps)])
    both["inputs"].zero_()
    assert both["observed"][1].eq(1).all()
    maps[1] = 1
    part = collate(samples(maps)[:2])  # no whole array
    maps[1] = 2
    assert part["inputs"][1].eq(1).all()
