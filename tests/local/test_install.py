"""How a clone is set up."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from chatapp.local import install


@pytest.mark.parametrize("name", [".venv", "node_modules"])
def test_packages_are_never_installed_through_a_link(tmp_path: Path, name: str) -> None:
    others = tmp_path / "others"
    others.mkdir()
    (others / install.NOTE).write_text("another clone's")
    clone = tmp_path / "clone"
    (clone / "chatapp/local").mkdir(parents=True)
    for file in ("chatapp/local/install.py", "requirements-dev.txt", "package.json", "package-lock.json"):
        shutil.copy(install.CLONE / file, clone / file)
    (clone / name).symlink_to(others)

    part = {".venv": "install_python", "node_modules": "install_node"}[name]
    done = subprocess.run(
        [sys.executable, "-c", f"import install; install.{part}()"],
        cwd=clone / "chatapp/local",
        capture_output=True,
        text=True,
        check=False,
    )

    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"chatapp: {name} is a symbolic link to {others}, ")
    assert f"Remove the link (rm {name})" in done.stderr
    assert (others / install.NOTE).read_text() == "another clone's"
