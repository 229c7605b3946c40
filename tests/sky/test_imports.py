import subprocess
import sys

HEAVY = ("pysm3", "healpy", "camb", "torch", "matplotlib", "lightning")


def test_importing_the_sky_and_unpickling_a_simulator_loads_nothing_heavy(tmp_path):
    """Workers start quickly: units are numbers by the time that a simulator reaches them."""
    import pickle

    from cmb_lightning.sky import Instrument, PolynomialSpectrum, Simulator, Sky

    made = Simulator(Instrument.load("reference", 8, ["30"]), 8, None, None, Sky(PolynomialSpectrum([1.0])), 1)
    (tmp_path / "simulator").write_bytes(pickle.dumps(made))
    code = (
        "import pickle, sys; made = pickle.load(open(sys.argv[1], 'rb')); made.simulate('train', 0); "
        f"print([name for name in {HEAVY} if name in sys.modules])"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "simulator")]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() == "[]"
