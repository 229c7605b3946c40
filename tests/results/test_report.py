import csv
import json
import re
import shutil
import subprocess
from dataclasses import replace

import numpy as np
import pytest

from cmb_lightning.results import comparison_files, report_sections
from cmb_lightning.results.compare import compare
from cmb_lightning.results.comparison_files import comparison_tables, paired_table, write_comparison
from cmb_lightning.results.find import find_predictions
from cmb_lightning.results.paired import PairedDifference
from cmb_lightning.results.report import write_report
from cmb_lightning.results.sources import CachedMethod
from tests.results.comparing import SIMS, first_half, predictions, truth

CHROMIUM = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None
)


@pytest.fixture(scope="module")
def comparison(tmp_path_factory):
    root = tmp_path_factory.mktemp("report")
    of = truth(root / "cache")
    predictions(root / "a", of, 3, 1, sigma=3.0)
    predictions(root / "b", of, 4, 2)
    methods = {name: find_predictions(root / name)["test"][-1] for name in ("a", "b")}
    methods = {
        "<network> & co": methods["a"],
        "linear": methods["b"],
        "finest": CachedMethod(of.cache, SIMS, first_half),
    }
    return compare({"test": of}, {"test": methods}, n_workers=1)


@pytest.fixture(scope="module")
def page(comparison, tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "deep" / "report.html"
    return write_report(comparison, path, "A title", "cmb-lightning compare a b", {"a": "model: <x>\nseed: 1"})


def test_files_hold_the_numbers(comparison, tmp_path):
    files = {path.name: path for path in write_comparison(comparison, tmp_path)}
    assert set(files) == {
        "comparison.md",
        "comparison.tex",
        "scores.csv",
        "differences.csv",
        "spectra.csv",
        "means.json",
    }
    rows = list(csv.DictReader(files["scores.csv"].open()))
    rmse = [float(r["RMSE"]) for r in rows if (r["method"], r["region"]) == ("linear", "b20")]
    np.testing.assert_array_equal(rmse, comparison.main_scores["test", "linear"].of("RMSE", "b20"))
    differences = list(csv.DictReader(files["differences.csv"].open()))
    one = next(r for r in differences if (r["other"], r["region"], r["metric"]) == ("linear", "b20", "RMSE"))
    mine = comparison.main_scores["test", "<network> & co"].of("RMSE", "b20") - np.array(rmse)
    assert float(one["mean"]) == pytest.approx(mine.mean()) and float(one["low"]) < float(one["mean"]) < float(
        one["high"]
    )
    spectra = list(csv.DictReader(files["spectra.csv"].open()))
    pair = comparison.spectra["full sky", "test", "linear"]["TT"]
    first = next(r for r in spectra if (r["sky"], r["method"]) == ("full sky", "linear"))
    assert float(first["residual"]) == pytest.approx(pair.residual[:, 0].mean())
    means = json.loads(files["means.json"].read_text())
    assert {m["beam"] for m in means} == set(comparison.beams)


def test_latex_escapes_and_balances(comparison):
    text = comparison_tables(comparison)[1].latex()
    assert r"$<$network$>$ \& co" in text and r"[$\mu$K]" in text and "±" not in text
    rows = [line for line in text.splitlines() if line.endswith(r"\\")]
    assert {len(re.findall(r"(?<!\\)&", row)) for row in rows} == {7}
    assert text.count(r"\begin") == text.count(r"\end") == 2


def test_paired_table_and_single_method(comparison):
    table = paired_table(comparison)
    assert [row[:2] for row in table.rows] == [("test", "trained linear"), ("test", "finest")]
    assert re.fullmatch(r"-\d+\.\d+ \[-\d+\.\d+, -\d+\.\d+\]\*", table.rows[0][2])
    assert paired_table(replace(comparison, methods=comparison.methods[:1])) is None


@pytest.mark.parametrize(
    ("low", "high", "text"),
    [
        (-46.6, -0.4, "-19.2 [-46.6, -0.4]*"),  # not [-47, -0]*
        (-3.11, 4.1, "-19.2 [-3.1, +4.1]"),
        (-46.6, -21.0, "-19 [-47, -21]*"),
    ],
)
def test_digits_of_a_difference_tell_an_end_from_zero(low, high, text):
    assert comparison_files._difference(PairedDifference(-19.2, low, high, 1.0, 8)) == text


def test_page_is_whole_and_self_contained(comparison, page):
    text = page.read_text()
    assert "http" not in re.sub(r"base64,[A-Za-z0-9+/=]*", "", text) and "<script" not in text
    for section in ("summary", "maps", "spectra", "errors", "differences", "calibration", "tables", "making"):
        assert f'<section id="{section}">' in text and f'href="#{section}"' in text
    described = set(re.findall(r'alt="([^"]*)"', text))
    for expected in (
        "Map of truth, test, simulation 0",
        "Map of &lt;network&gt; &amp; co, test, simulation 0",
        "Residual of trained linear, test, simulation 0",
        "Spectra TT of test, full sky",
        "Spectra TT of test, masked sky, decoupled from the mask",
        "Box plot of PSNR",
        "Histogram of test",
        "Paired differences of RMSE",
        "Calibration of error bars, test",
    ):
        assert expected in described, expected
    assert text.count("<figure>") == text.count("<img ") == len(re.findall(r'src="data:image', text))
    assert "model: &lt;x&gt;" in text and "cmb-lightning compare a b" in text
    best = comparison.main_scores["test", "<network> & co"].of("RMSE", "b20").mean()
    assert f"leaves the smallest error, {best:.3g} µK at |b| &gt; 20°" in text


def test_same_result_same_page(comparison, page, tmp_path):
    configuration = {"a": "model: <x>\nseed: 1"}
    again = write_report(comparison, tmp_path / "again.html", "A title", "cmb-lightning compare a b", configuration)
    assert again.read_bytes() == page.read_bytes()


def test_one_method_needs_no_differences(comparison, tmp_path, monkeypatch):
    monkeypatch.setattr(report_sections, "svg_address", lambda figure: "data:image/svg+xml,")  # drawn, but not saved
    path = write_report(replace(comparison, methods=comparison.methods[1:2]), tmp_path / "one.html")
    assert 'id="differences"' not in path.read_text() and 'id="calibration"' not in path.read_text()


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium to open the report in")
@pytest.mark.parametrize("width", [1280, 390])
def test_in_a_browser(page, tmp_path, width):
    """Every figure is decoded and shown, and nothing is wider than the window."""
    text = page.read_text()
    measure = """<script>window.onload = () => {
        const images = [...document.images];
        const shown = images.filter(image => image.naturalWidth > 0 && image.getBoundingClientRect().width > 50).length;
        const body = document.body;
        body.innerHTML = [shown, images.length, body.scrollWidth, body.clientWidth].join(" ");
    }</script>"""
    copy = tmp_path / "measured.html"
    narrow = f"<style>html {{ width: {width}px }}</style>"  # a window is 500 wide at least
    copy.write_text(text.replace("</body>", f"{narrow}{measure}</body>"))
    options = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        f"--window-size={max(width, 500)},2000",
        f"--user-data-dir={tmp_path}",
    ]
    options += ["--virtual-time-budget=20000", "--timeout=30000", "--dump-dom", copy.as_uri()]
    found = subprocess.run([CHROMIUM, *options], capture_output=True, text=True, timeout=90)
    numbers = re.search(r"<body>(\d+) (\d+) (\d+) (\d+)", found.stdout)
    assert numbers, found.stdout[-300:] + found.stderr[-1000:]
    shown, there, wide, window = map(int, numbers.groups())
    assert shown == there == text.count("<figure>")
    assert wide <= window and width - 20 <= window <= width
