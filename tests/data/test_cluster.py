import pytest

from cmb_lightning.data.generation import make_split
from cmb_lightning.data.work import SimulationError, over_simulations
from cmb_lightning.errors import ConfigError
from tests.data.fakes import Toy, contents, toy_cache
from tests.data.test_work import fails, process, tasks


def test_a_cluster_makes_the_same_data(tmp_path, address):
    golden, cache = (toy_cache(tmp_path / name, Toy()) for name in ("golden", "cache"))
    make_split(golden, Toy(), 6)
    report = make_split(cache, Toy(), 6, cluster=address)
    assert report.made == 6
    assert contents(cache, 6) == contents(golden, 6)


def test_both_workers_work_and_errors_name_the_simulation(address):
    results = over_simulations(process, tasks(20), cluster=address)
    assert [index for index, _ in results] == list(range(20))
    assert len({pid for _, pid in results[1:]}) == 2
    with pytest.raises(SimulationError, match="^at2 simulation 2: bad luck 2$"):
        over_simulations(fails, tasks(5, "at2"), cluster=address)


def test_a_wrong_address_is_one_sentence():
    pytest.importorskip("distributed")
    with pytest.raises(ConfigError, match="dask: no scheduler answers at nonsense://x"):
        over_simulations(process, tasks(3), cluster="nonsense://x")
