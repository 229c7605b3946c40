import errno
import os
import subprocess
import sys

import pytest

from cmb_lightning.data.publish import publish, replace, set_aside, sweep


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_the_first_writer_wins_and_leaves_nothing_else(tmp_path):
    assert publish(tmp_path / "a", lambda file: file.write(b"first"))
    assert not publish(tmp_path / "a", lambda file: file.write(b"second"))
    assert (tmp_path / "a").read_bytes() == b"first"
    assert names(tmp_path) == ["a"]


@pytest.mark.parametrize("code", [errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK])
def test_without_links_it_renames(tmp_path, monkeypatch, code):
    def link(*args, **kwargs):
        raise OSError(code, "no links here")

    monkeypatch.setattr(os, "link", link)
    assert publish(tmp_path / "a", lambda file: file.write(b"first"))
    assert not publish(tmp_path / "a", lambda file: file.write(b"second"))
    assert (tmp_path / "a").read_bytes() == b"first"
    assert names(tmp_path) == ["a"]


def test_a_failed_write_leaves_nothing(tmp_path):
    def write(file):
        file.write(b"half")
        raise OSError(errno.ENOSPC, "full")

    with pytest.raises(OSError, match="full"):
        publish(tmp_path / "a", write)
    assert names(tmp_path) == []


KILLED = """
import os, sys
from pathlib import Path
from cmb_lightning.data import publish
os.link = os.replace = lambda *a, **k: os.kill(os.getpid(), 9)
path = Path(sys.argv[1]) / "a"
"""
PUBLISH = "publish.publish(path, lambda file: file.write(b'x'))"
REPLACE = "publish.replace(path, b'x')"


def killed(folder, writing):
    """Kill a process that writes `a` when it has written all of it."""
    assert subprocess.run([sys.executable, "-c", KILLED + writing, str(folder)], check=False).returncode == -9
    assert [name.startswith(".tmp-a-") for name in names(folder)] == [True]


def test_killed_before_the_name_is_given_only_a_temporary_file_is_left_and_swept(tmp_path):
    killed(tmp_path, PUBLISH)
    assert sweep(tmp_path) == 1
    assert names(tmp_path) == []


def test_who_replaces_sweeps_what_was_killed_at_it_and_nothing_else(tmp_path):
    killed(tmp_path, REPLACE)
    (tmp_path / ".tmp-b-0123456789abcdef").touch()
    replace(tmp_path / "a", b"new")
    assert names(tmp_path) == [".tmp-b-0123456789abcdef", "a"]


def test_a_living_writer_is_not_swept(tmp_path):
    def write(file):
        assert sweep(tmp_path) == 0
        file.write(b"x")

    assert publish(tmp_path / "a", write)
    assert names(tmp_path) == ["a"]


def test_a_writer_whose_file_was_swept_all_the_same_writes_again(tmp_path):
    attempts = []

    def write(file):
        if not attempts:
            os.unlink(next(tmp_path.glob(".tmp-*")))
        attempts.append(file.write(b"x"))

    assert publish(tmp_path / "a", write)
    assert len(attempts) == 2
    assert names(tmp_path) == ["a"]


def test_a_replacement_that_was_swept_is_written_again(tmp_path, monkeypatch):
    def swept(temporary, path):
        monkeypatch.undo()
        os.unlink(temporary)
        os.replace(temporary, path)

    monkeypatch.setattr(os, "replace", swept)
    replace(tmp_path / "a", b"x")
    assert (tmp_path / "a").read_bytes() == b"x" and names(tmp_path) == ["a"]


def test_a_missing_folder_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        publish(tmp_path / "missing" / "a", lambda file: None)
    with pytest.raises(FileNotFoundError):
        replace(tmp_path / "missing" / "a", b"x")


def test_replace_and_set_aside(tmp_path):
    for content in (b"old", b"new"):
        replace(tmp_path / "a", content)
    assert (tmp_path / "a").read_bytes() == b"new"
    aside = set_aside(tmp_path / "a")
    assert names(tmp_path) == [aside.name] and aside.name.startswith(".bad-a-")
