import pytest

from cmb_lightning.data.generation import make_split
from cmb_lightning.data.shard import Shard
from cmb_lightning.errors import ConfigError
from tests.data.fakes import Toy, contents, toy_cache


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_each_begins_with_its_own_block_and_then_helps_the_others(count):
    missing = [1, 2, 4, 5, 8, 9, 11]
    orders = [Shard(index, count).order(missing) for index in range(1, count + 1)]
    assert all(sorted(order) == missing for order in orders)
    blocks = [len(missing) * i // count for i in range(count + 1)]
    own = [order[: b - a] for order, a, b in zip(orders, blocks, blocks[1:], strict=False)]
    assert sum(own, []) == missing
    assert orders == [Shard(index, count).order(missing) for index in range(1, count + 1)]


def test_shards_in_any_order_make_the_same_data(tmp_path):
    golden = toy_cache(tmp_path / "golden", Toy())
    make_split(golden, Toy(), 6)
    cache = toy_cache(tmp_path / "cache", Toy())
    first = make_split(cache, Toy(), 6, shard=Shard(2, 3))
    again = make_split(cache, Toy(), 6, shard=Shard(1, 3))
    assert (first.made, again.made, again.found) == (6, 0, 6)  # the second came too late
    assert contents(cache, 6) == contents(golden, 6)


@pytest.mark.parametrize(
    ("text", "environment", "expected"),
    [
        (None, {"SLURM_ARRAY_TASK_ID": "3"}, (1, 1)),
        ("2/8", {}, (2, 8)),
        ("auto", {}, (1, 1)),
        ("auto", {"SLURM_ARRAY_TASK_ID": "3", "SLURM_ARRAY_TASK_COUNT": "4", "SLURM_ARRAY_TASK_MIN": "1"}, (3, 4)),
        (
            "auto",
            {
                **{"SLURM_ARRAY_TASK_ID": "8", "SLURM_ARRAY_TASK_COUNT": "3", "SLURM_ARRAY_TASK_MIN": "4"},
                **{"SLURM_ARRAY_TASK_STEP": "2", "SLURM_PROCID": "1", "SLURM_NTASKS": "2"},
            },
            (6, 6),
        ),
        ("auto", {"SLURM_PROCID": "0", "SLURM_NTASKS": "2"}, (1, 2)),
        ("auto", {"RANK": "3", "WORLD_SIZE": "4"}, (4, 4)),
        ("auto", {"OMPI_COMM_WORLD_RANK": "1", "OMPI_COMM_WORLD_SIZE": "2"}, (2, 2)),
    ],
)
def test_a_shard_is_stated_or_found(text, environment, expected):
    shard = Shard.parse(text, environment)
    assert (shard.index, shard.count) == expected


@pytest.mark.parametrize("text", ["0/3", "4/3", "1/0", "1", "a/b", "-1/3", ""])
def test_what_is_no_shard_is_refused(text):
    with pytest.raises(ConfigError, match="^shard: "):
        Shard.parse(text)
