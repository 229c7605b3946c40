"""A second component and halves, for a method that lets everything through, so that what is left is known."""

import sys

import astropy.units as u
import healpy as hp
import numpy as np
import pytest
import yaml
from astropy.cosmology import Planck18
from astropy.modeling.physical_models import BlackBody

from tests.command.application import TINY, invoke, merge
from tests.scripts.test_benchmarks import load, tables

NSIDE = 8


def number(text):
    return float(text.split()[0])


def infrared(dust, rms=5.0):
    return load("benchmark_second").infrared(dust, rms)


def smooth_dust():
    ell = np.arange(17)
    np.random.seed(2)
    return 1000 * np.exp(hp.synfast((ell + 1.0) ** -2.5, NSIDE))


def test_half_of_the_second_component_goes_with_the_dust():
    dust = smooth_dust()
    state = np.random.get_state()[1].copy()
    field = infrared(dust)
    assert (np.random.get_state()[1] == state).all()
    alm, log = hp.map2alm(field, lmax=16), hp.map2alm(np.log(dust), lmax=16)
    cl = hp.alm2cl(alm)[4:]
    share = hp.alm2cl(alm, log)[4:] ** 2 / (cl * hp.alm2cl(log)[4:])
    assert field.std() == pytest.approx(5, rel=0.2)  # the two halves are not quite without correlation
    assert np.median(share) == pytest.approx(0.5, abs=0.15)
    assert np.polyfit(np.log(np.arange(4, 17)), np.log(cl), 1)[0] == pytest.approx(-1.2, abs=0.4)


def test_tables_say_what_was_put_in(tmp_path, monkeypatch, capsys):
    """The 353 GHz map, without noise: what is left is the dust, then both, and in halves as much as before."""
    dust = smooth_dust()
    hp.write_map(tmp_path / "dust.fits", dust, column_names=["I_STOKES"], column_units="uK_RJ", dtype=np.float32)
    law = {"class_path": "cmb_lightning.sky.ModifiedBlackbody", "init_args": {"beta": 1.5, "temperature": "20 K"}}
    component = {"name": "dust", "file": "dust.fits", "reference": "353 GHz", "law": law}
    templates = {"class_path": "cmb_lightning.sky.Templates", "init_args": {"components": [component]}}
    sky = {"foregrounds": [templates], "noise": False}
    simulated = {key: value for key, value in TINY.items() if key != "model"}
    method = {"task": "ClassicalTask", "model": {"method": "SingleChannel"}}
    more = {"data": {"init_args": {"sky": sky, "bands": ["353", "545"], "templates": str(tmp_path)}}}
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(merge(simulated | method, more)))
    assert invoke(tmp_path, ["predict", "--config", "tiny.yaml", "--run", "channel"]).status == 0
    script = load("benchmark_second")
    monkeypatch.setattr(script, "application", lambda *words: invoke(tmp_path, list(words)))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["benchmark_second", "channel", "--folder", "second", "--n_sims", "2"])
    script.main()
    ((_, alone, second, more, halves),), levels = tables(capsys.readouterr().out)
    # the map is at 357.5 GHz, from 353, in uK_CMB, without monopole, at 16 degrees: 2 at nside 64
    nu = [353, 357.5] * u.GHz
    seen = u.brightness_temperature(nu[1]), u.thermodynamic_temperature(nu[1], Planck18.Tcmb0)
    kelvin = (1 * u.K).to(u.MJy / u.sr, seen[0]).to(u.K, seen[1]).value

    def at_the_band(field, beta, temperature):
        emitted = BlackBody(temperature * u.K)(nu) * (nu / nu[0]) ** (beta - 2)
        alm = hp.smoothalm(hp.map2alm(field, lmax=16, iter=10), np.radians(16))
        return kelvin * (emitted[1] / emitted[0]).value * hp.alm2map(hp.almxfl(alm, np.arange(17) > 0), NSIDE)

    maps = [at_the_band(dust, 1.5, 20), at_the_band(hp.read_map(tmp_path / "second/infrared.fits"), 1.2, 24)]
    wanted = [np.sqrt(np.mean(sky**2)) for sky in (maps[0], sum(maps))]
    full = [number(cell.split("(")[1]) for cell in (alone, second, more, halves)]
    assert full == pytest.approx([*wanted, wanted[1] - wanted[0], wanted[0]], rel=0.01)
    cl = [hp.anafast(sky, lmax=16, iter=10)[10] * 110 / (2 * np.pi) for sky in (maps[0], sum(maps), maps[0])]
    assert [row[1] for row in levels] == ["10"]  # across equal halves as much as alone
    assert [number(cell) for cell in levels[0][2:]] == pytest.approx(cl, rel=0.01)
