"""The command `compare`, end to end on small runs."""

import csv
import json
import re
import shutil
from pathlib import Path

import healpy
import numpy as np
import pytest
from safetensors.numpy import load_file

from cmb_lightning.cli import main
from cmb_lightning.results.fits import read_map, write_map

REGIONS = {"full", "b20"}
METRICS = ("MAE", "RMSE", "NRMSE", "PSNR", "R2", "Pearson")


def compare(*words) -> None:
    main(["compare", *map(str, words), "--n_workers", "1"])


def refused(capsys, *words) -> str:
    """The one line that the command ends with."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        main(["compare", *map(str, words), "--n_workers", "1"])
    assert ended.value.code == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("cmb-lightning: ")
    return lines[0].removeprefix("cmb-lightning: ")


def scores(path: Path) -> dict[tuple[str, ...], list[float]]:
    """Metrics by split, method, region and simulation."""
    with path.open() as file:
        return {
            (row["split"], row["method"], row["region"], row["sim"]): [float(row[name]) for name in METRICS]
            for row in csv.DictReader(file)
        }


def test_numbers_are_those_of_test(inside, capsys):
    main(["test", "--config=tiny.yaml", "--run=runs/a"])
    sources = ("runs/a", "runs/b", "ilc", "nilc", "channel", "linear")
    compare(*sources, "--out", "page")
    tested, compared = scores(Path("runs/a/test/scores.csv")), scores(Path("page/scores.csv"))
    assert {key[:2] for key in compared} == {
        (split, method)
        for split in ("test", "gains")
        for method in ("a", "b", "pixel ILC", "needlet ILC", "best channel", "trained linear")
    }
    names = {"network": "a", "ilc": "pixel ILC", "linear": "trained linear"}
    assert len(tested) == 2 * 4 * 2 * 3
    for (split, method, region, sim), values in tested.items():
        if method == "local":  # where networks start is no source of a comparison
            continue
        np.testing.assert_allclose(compared[split, names[method], region, sim], values, rtol=1e-6, atol=1e-6)
    page = Path("page/report.html").read_text()
    assert f"cmb-lightning compare {' '.join(sources)} --out page" in page
    for run in ("a", "b"):
        assert f"run: runs/{run}" in page
    printed = capsys.readouterr().out
    assert printed.endswith("Page to read: page/report.html\n") and "All metrics: page/comparison.md" in printed
    # Before that, the numbers of the page.
    table = printed[printed.index("RMSE [µK], mean ± standard error over 3 simulations") :]
    summary = page.partition('<table class="overview">')[2].partition("</table>")[0]
    shown = re.findall(r"<td[^>]*>([^<]*±[^<]*)</td>", summary)
    assert len(shown) == len(sources) * 2 * 2 and all(cell.replace("± ", "±") in table for cell in shown)


def test_numbers_are_those_of_numpy_and_healpy(inside):
    """All metrics and spectra, from the FITS files and the cache, with NumPy and healpy alone."""
    compare("runs/a", "--splits", "test", "--out", "one")
    high = np.abs(healpy.pix2ang(8, np.arange(768), lonlat=True)[1]) > 20
    found, errors, powers = scores(Path("one/scores.csv")), [], []
    for sim in range(3):
        (cleaned,) = Path("runs/a/predictions/tiny/test").glob(f"sim{sim:04d}/*.fits")
        (stored,) = Path("cache/tiny").glob(f"test-*/sim{sim:06d}.safetensors")
        t = healpy.reorder(load_file(stored)["target"][0].astype(float), n2r=True)
        p = healpy.read_map(cleaned, dtype=float)
        for region, where in (("full", slice(None)), ("b20", high)):
            np.testing.assert_allclose(found["test", "a", region, str(sim)], metrics(p[where], t[where]), rtol=1e-5)
        errors.append(np.sqrt(np.mean((p - t) ** 2)))
        pairs = {"truth": (t, t), "prediction": (p, p), "residual": (p - t, p - t), "cross": (p, t)}
        powers.append({name: healpy.anafast(*pair, lmax=16) for name, pair in pairs.items()})
    means = json.loads(Path("one/means.json").read_text())
    (mean,) = (entry for entry in means if (entry["region"], entry["metric"]) == ("full", "RMSE"))
    assert mean["mean"] == pytest.approx(np.mean(errors), rel=1e-5)
    assert mean["standard_error"] == pytest.approx(np.std(errors, ddof=1) / np.sqrt(3), rel=1e-5)
    for row in csv.DictReader(Path("one/spectra.csv").open()):
        if row["sky"] == "full sky":
            ell = np.arange(int(row["ell_low"]), int(row["ell_high"]) + 1)
            d = [
                {
                    name: np.average(ell * (ell + 1) / 2 / np.pi * cl[ell], weights=2 * ell + 1)
                    for name, cl in one.items()
                }
                for one in powers
            ]
            for name in powers[0]:
                assert float(row[name]) == pytest.approx(np.mean([one[name] for one in d]), rel=1e-5)
            r = np.mean([one["cross"] / np.sqrt(one["prediction"] * one["truth"]) for one in d])
            assert float(row["r"]) == pytest.approx(r, rel=1e-5)
            assert float(row["transfer"]) == pytest.approx(np.mean([o["cross"] / o["truth"] for o in d]), rel=1e-5)


def metrics(p, t) -> list[float]:
    """Those of METRICS, as they are defined."""
    error = p - t
    mse = np.mean(error**2)
    return [
        np.mean(np.abs(error)),
        np.sqrt(mse),
        np.linalg.norm(error) / np.linalg.norm(t),
        10 * np.log10(np.ptp(t) ** 2 / mse),
        1 - np.sum(error**2) / np.sum((t - t.mean()) ** 2),
        np.corrcoef(p, t)[0, 1],
    ]


def test_one_source_is_an_evaluation(inside):
    compare("mine=runs/b", "--splits", "gains", "--beams", "30 deg", "40 deg", "--out", "one")
    assert {key[:2] for key in scores(Path("one/scores.csv"))} == {("gains", "mine")}
    assert {entry["beam"] for entry in json.loads(Path("one/means.json").read_text())} == {1800.0, 2400.0}


def test_the_first_source_is_what_others_are_compared_with(inside):
    compare("ilc", "runs/a", "--splits", "test", "--out", "first")
    rows = list(csv.DictReader(Path("first/differences.csv").open()))
    assert {(row["method"], row["other"]) for row in rows} == {("pixel ILC", "a")}


def foreign(folder: Path, run: str = "runs/a", unit: str | None = "K_CMB", error: float = 0.0) -> str:
    """A run's maps as another program would write them: RING, in K, with an offset, columns and names of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    for sim in range(3):
        (path,) = Path(run, "predictions/tiny/test").glob(f"sim{sim:04d}/*.fits")
        ring = read_map(path).ordered("RING").values.astype(float)
        ring += error * np.random.default_rng(sim).standard_normal(ring.size)
        healpy.write_map(
            folder / f"clean_{sim:03d}.fits",
            1e-6 * (ring + 100),
            coord="G",
            column_names=["I_STOKES"],
            column_units=unit,
            dtype=np.float64,
            overwrite=True,
        )
    return str(folder / "clean_{sim:03d}.fits")


def test_maps_of_another_program(inside, tmp_path, capsys):
    template = foreign(tmp_path / "stated")
    beam = f"{read_map(next(Path('runs/a').rglob('*.fits'))).header['FWHM']} arcmin"
    assert "its beam is not known; state its FWHM by `fwhm`" in refused(capsys, "runs/a", template, "--splits", "test")
    compare("runs/a", f"other={template}", "--splits", "test", "--fwhm", beam, "--out", tmp_path / "page")
    found = scores(tmp_path / "page" / "scores.csv")
    for (split, method, region, sim), values in found.items():
        if method == "other":  # its monopole is removed, which correlations do not feel
            k = METRICS.index("Pearson")
            assert values[k] == pytest.approx(found[split, "a", region, sim][k], abs=1e-5)
    silent = foreign(tmp_path / "silent", unit=None)
    words = ("runs/a", f"other={silent}", "--splits", "test", "--fwhm", beam, "--out", tmp_path / "again")
    assert "column I_STOKES has no unit (TUNIT1): state the unit" in refused(capsys, *words)
    compare(*words, "--unit", "K_CMB")
    assert scores(tmp_path / "again" / "scores.csv") == found
    other_beam = ("runs/a", template, "--splits", "test", "--fwhm", "2000 arcmin")
    assert re.search(
        "its beam is 2000 arcmin, the truth's .*; give a common beam of 2000", refused(capsys, *other_beam)
    )


def test_finer_maps_are_lowered(inside, tmp_path):
    """The truth itself at nside 32 and a finer beam, with an offset, scores as the truth at nside 8."""
    from cmb_lightning.sky.beams import gaussian_beam

    beam = read_map(next(Path("runs/a").rglob("*.fits"))).header["FWHM"]
    finer = 0.5 * beam
    for sim in range(3):
        (stored,) = Path("cache/tiny").glob(f"test-*/sim{sim:06d}.safetensors")
        truth = healpy.reorder(load_file(stored)["target"][0].astype(float), n2r=True)
        alm = healpy.map2alm(truth, lmax=16, iter=10)
        ratio = gaussian_beam(finer, 16) / gaussian_beam(beam, 16)
        fine = healpy.alm2map(healpy.almxfl(alm, ratio), 32) + 55
        healpy.write_map(tmp_path / f"sim{sim}.fits", fine, coord="G", column_units="uK_CMB", dtype=np.float64)
    compare(f"fine={tmp_path}", "--data", "tiny.yaml", "--splits", "test", "--fwhm", f"{finer} arcmin", "--out", "fine")
    for (_, _, region, _), values in scores(Path("fine/scores.csv")).items():
        if region in REGIONS:
            assert values[METRICS.index("NRMSE")] < 1e-3


def test_another_map_in_the_place_of_the_truth(inside, tmp_path, capsys):
    """On the observed sky there is no truth; what differs from another cleaned map is found all the same."""
    template = foreign(tmp_path / "reference", run="runs/b")
    beam = f"{read_map(next(Path('runs/a').rglob('*.fits'))).header['FWHM']} arcmin"
    words = ("runs/a", "--splits", "test", "--truth", f"SMICA={template}")
    assert refused(capsys, *words).startswith("SMICA cannot be compared on split test: its beam is not known")
    words += ("--fwhm", beam)
    compare(*words, "--out", tmp_path / "page")
    found = scores(tmp_path / "page" / "scores.csv")
    for sim in range(3):
        maps = [
            read_map(next(Path(f"runs/{run}/predictions/tiny/test/sim{sim:04d}").glob("*.fits"))).values for run in "ab"
        ]
        expected = np.sqrt(np.mean((maps[0] - maps[1] + maps[1].mean()) ** 2))  # the reference loses its monopole
        assert found["test", "a", "full", str(sim)][METRICS.index("RMSE")] == pytest.approx(expected, rel=1e-3)
    page = (tmp_path / "page" / "report.html").read_text()
    text = re.sub("<pre>.*?</pre>|base64,[A-Za-z0-9+/=]*", "", page, flags=re.S)
    for shown in ("maps compared with SMICA", "a is nearest to SMICA", 'alt="Map of SMICA', "prediction less SMICA"):
        assert shown in text
    assert "truth" not in text  # there is none
    assert "channel, ilc, hilc, nilc, linear need simulated maps" in refused(capsys, *words, "ilc")


def test_on_a_mask(inside, tmp_path, capsys):
    latitude = 90 - np.rad2deg(healpy.pix2ang(16, np.arange(3072))[0])
    healpy.write_map(tmp_path / "mask.fits", 1.0 * (np.abs(latitude) > 35), coord="G", dtype=np.float32)
    compare("runs/a", "--splits", "test", "--mask", tmp_path / "mask.fits", "--out", tmp_path / "page")
    regions = {key[2] for key in scores(tmp_path / "page" / "scores.csv")}
    assert {"mask", "b20"} <= regions and "full" not in regions
    healpy.write_map(tmp_path / "tilted.fits", np.ones(768), coord="E", dtype=np.float32)
    assert "turn it to Galactic" in refused(capsys, "runs/a", "--mask", tmp_path / "tilted.fits")


def test_refuses_other_test_data_naming_whose(inside, tmp_path, capsys):
    elsewhere = ["--data.init_args.seed=1", f"--data.init_args.root={tmp_path}/cache"]
    elsewhere += [f"--predictions.path={tmp_path}/{{split}}/sim{{sim}}_{{epoch}}.fits"]
    main(["predict", "--config=tiny.yaml", "--run=runs/a", "--data.init_args.run_inference_on=[test]", *elsewhere])
    line = refused(capsys, "runs/a", f"other={tmp_path}", "--splits", "test", "--data", "runs/a/fit/config.yaml")
    assert re.match(r"other cannot be compared on split test: its test data are \w{16}, the truth's \w{16}", line)


def test_weights_of_different_trainings_are_no_one_method(inside, tmp_path, capsys):
    shutil.copytree("runs/b", tmp_path / "c")
    weights = tmp_path / "c" / "linear_weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x00")
    line = refused(capsys, "runs/a", tmp_path / "c", "linear", "--splits", "test")
    assert "a and c were trained with different linear weights" in line
    assert "say whose: linear@a" in line
    (tmp_path / "c" / "linear_weights.safetensors").unlink()
    assert "`linear` needs a run" in refused(capsys, tmp_path / "c", "linear", "--splits", "test")


def test_refusals_are_one_line(inside, tmp_path, capsys):
    write_map("alone.fits", np.zeros((1, 768)), ["I"], "uK_CMB")
    (tmp_path / "untrained" / "fit").mkdir(parents=True)
    shutil.copy("runs/a/fit/config.yaml", tmp_path / "untrained" / "fit")
    (tmp_path / "empty.yaml").write_text("run: nowhere\n")
    (tmp_path / "wrong.yaml").write_text(Path("tiny.yaml").read_text().replace("nside: 8", "nside: 9"))
    for words, message in {
        ("nowhere",): "sources: 'nowhere' is no run",
        ("runs/a", "runs/a"): "sources: two have the same name",
        ("ilc",): "data: none of the sources is a run",
        ("ilc", "--data", "nix.yaml"): "data: there is no file nix.yaml",
        ("ilc", "--data", tmp_path / "empty.yaml"): "has no `data` section",
        ("ilc", "--data", tmp_path / "wrong.yaml"): "nside: 9 is not a power of two",
        ("runs/a", "--splits", "night"): "splits: there is no 'night'; there are ",
        ("runs/a", "--splits", "valid"): "has no maps of split valid; its splits: gains, test. Predict it first",
        ("runs/a", "--beams", "wide"): "beams: 'wide' is not a quantity in arcmin",
        ("runs/a", "--latitude_cuts", "20"): "latitude_cuts: '20'",
        ("runs/a", "--fast"): "unrecognized arguments: --fast",
        ("runs/a", "nix/{sim}.fits"): "there are no FITS maps",
        (tmp_path / "untrained",): "has no cleaned maps; run predict",
        ("ilc", "alone.fits", "--data", "tiny.yaml", "--splits", "test"): "lacks 2 of 3 simulations",
    }.items():
        assert message in refused(capsys, *words), words
    capsys.readouterr()
    with pytest.raises(SystemExit):
        main(["compare", "runs/a", "--n_workers", "0"])
    assert "n_workers: 0 must be at least 1" in capsys.readouterr().err


def test_help_says_what_a_source_is(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["compare", "--help"])
    text = capsys.readouterr().out
    assert ended.value.code == 0 and text.startswith("usage: cmb-lightning compare SOURCE... [options]")
    for word in ("ilc ", "linear ", "{sim:03d}", "NAME=SOURCE", "--splits", "--beams", "--fwhm", "--truth"):
        assert word in text
