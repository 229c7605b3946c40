"""What a command notes of the program leaves the program alone."""

import os
import subprocess

from cmb_lightning import run


def test_a_checkout_is_looked_at_and_not_locked(tmp_path, monkeypatch):
    """`git status` would write the index anew, which a kill leaves locked."""
    code, index = tmp_path / "code.py", tmp_path / ".git" / "index"
    code.write_text("pass\n")
    author = ("-c", "user.name=A", "-c", "user.email=a@b.c")
    for command in (("init",), ("add", "code.py"), (*author, "commit", "-m", "First")):
        subprocess.run(["git", "-C", str(tmp_path), *command], check=True, capture_output=True)
    os.utime(code, (1e9, 1e9))
    before = index.read_bytes()
    monkeypatch.setattr(run, "__file__", str(code))
    found = run.environment()
    assert len(found["git_commit"]) == 40 and not found["git_changes"] and index.read_bytes() == before
