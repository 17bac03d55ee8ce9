"""The programs a running Chatapp is made of: the same command lines for `make run`, tests and benchmarks."""

import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from chatapp.local.process import Mark, Program, Start


class Programs:
    """Makes the programs of one run, which share its mark and its environment.

    `output` says where what a program of that name prints goes, and `start` starts one, as `subprocess.Popen` does.
    """

    def __init__(
        self,
        mark: Mark,
        env: Mapping[str, str],
        output: Callable[[str], Path | Callable[[bytes], None]],
        start: Start = subprocess.Popen,
    ) -> None:
        self.mark = mark
        self.env = dict(env)
        self._output = output
        self._start = start

    def web(
        self, host: str, port: int, *, name: str = "web", env: Mapping[str, str] | None = None
    ) -> Program:
        return self.python(name, "chatapp.serve", "--host", host, "--port", str(port), env=env)

    def worker(self, *, env: Mapping[str, str] | None = None) -> Program:
        return self.python(
            "worker",
            "celery",
            *("--app", "chatapp", "--quiet", "worker", "--pool", "threads", "--concurrency", "4"),
            # These are for many workers that watch each other; they would slow the start down by seconds.
            *("--without-gossip", "--without-mingle", "--without-heartbeat"),
            # Said to root at every start; the tasks of a developer's own machine are not an attacker's.
            options=("-W", "ignore:You're running the worker with superuser privileges"),
            env=env,
        )

    def beat(self, schedule: Path) -> Program:
        """The clock of the periodic tasks; `schedule` is where it notes when each ran last."""
        return self.python(
            "beat", "celery", "--app", "chatapp", "--quiet", "beat", "--schedule", str(schedule)
        )

    def demo_claude(self, port: int) -> Program:
        return self.python("claude", "chatapp.local.demo_claude", "--port", str(port), "--quiet")

    def demo_stripe(self, port: int, *, webhook_url: str, webhook_secret: str, state: Path) -> Program:
        return self.python(
            "stripe",
            "chatapp.local.demo_stripe",
            *("--port", str(port), "--state", str(state)),
            *("--webhook-url", webhook_url, "--webhook-secret", webhook_secret),
        )

    def python(
        self,
        name: str,
        module: str,
        *arguments: str,
        options: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
        keep_fds: Sequence[int] = (),
    ) -> Program:
        return Program(
            name,
            [sys.executable, "-u", *options, "-m", module, *arguments],
            mark=self.mark,
            env={**self.env, **(env or {})},
            output=self._output(name),
            keep_fds=keep_fds,
            start=self._start,
        )
