import threading
import time

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset, default_collate

from cmb_lightning.data.batches import collate
from cmb_lightning.data.loaders import AheadLoader


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


class Rows(Dataset):
    """Numbers, each noting by which thread it was made; 5 cannot be had."""

    def __init__(self):
        self.made = []

    def __len__(self):
        return 6

    def __getitem__(self, index):
        if index == 5:
            raise FileNotFoundError("row 5")
        self.made.append((index, threading.current_thread().name))
        return {"index": np.int64(index)}


def test_the_next_batch_is_made_while_one_is_used():
    rows = Rows()
    batches = iter(AheadLoader(rows, sampler=range(4), batch_size=2, collate_fn=collate))
    assert next(batches)["index"].tolist() == [0, 1]
    deadline = time.monotonic() + 60
    while len(rows.made) < 4 and time.monotonic() < deadline:  # nobody has asked for it yet
        time.sleep(0.001)
    assert [index for index, _ in rows.made] == [0, 1, 2, 3]
    assert all(name.startswith("loader") for _, name in rows.made)
    assert next(batches)["index"].tolist() == [2, 3]
    assert next(batches, None) is None


def test_what_fails_ahead_is_raised_when_it_is_asked_for():
    batches = iter(AheadLoader(Rows(), sampler=range(6), batch_size=2, collate_fn=collate))
    assert [next(batches)["index"].tolist() for _ in range(2)] == [[0, 1], [2, 3]]
    with pytest.raises(FileNotFoundError, match="row 5"):
        next(batches)


def test_loading_ahead_leaves_the_random_numbers_as_a_loader_does():
    states = []
    for kind in (DataLoader, AheadLoader):
        torch.manual_seed(1)
        assert len([*kind(Rows(), sampler=range(4), batch_size=2, collate_fn=collate)]) == 2
        states.append(torch.get_rng_state())
    assert torch.equal(*states)


@pytest.mark.parametrize(("threads", "left"), [(3, 2), (1, 1)])
@pytest.mark.parametrize("end", ["all used", "closed", "failed"])
def test_torch_leaves_a_core_to_the_thread_that_loads(threads, left, end):
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        batches = iter(
            AheadLoader(Rows(), sampler=range(6 if end == "failed" else 4), batch_size=2, collate_fn=collate)
        )
        assert torch.get_num_threads() == threads
        next(batches)
        assert torch.get_num_threads() == left
        if end == "closed":
            batches.close()
        elif end == "failed":
            with pytest.raises(FileNotFoundError):
                list(batches)
        else:
            list(batches)
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
