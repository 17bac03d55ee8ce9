"""Child processes are found again and ended, whoever their parent was and however it went."""

import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from chatapp.local.process import Mark, Program, find, free_ports, start_reaper
from tests.servers import wait_until

SLEEPER = "import time; print('up', flush=True); time.sleep(600)"
STUBBORN = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {SLEEPER}"
PARENT = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {SLEEPER!r}]); {SLEEPER}"

Run = Callable[[str], Program]


@pytest.fixture
def mark(tmp_path: Path) -> Mark:
    return Mark.new(tmp_path)


@pytest.fixture
def run(mark: Mark) -> Iterator[Run]:
    """Runs a line of Python as a program and waits until it says it is up."""
    programs: list[Program] = []

    def run(code: str) -> Program:
        log = mark.home / "log"
        program = Program("it", [sys.executable, "-u", "-c", code], mark=mark, env={}, output=log)
        programs.append(program)
        program.start()
        lines = code.count("up")
        wait_until(lambda: log.read_text().count("up\n") == lines, "it is up")
        return program

    yield run
    for program in programs:
        program.end()


def test_only_what_carries_the_mark_is_found(mark: Mark, run: Run, tmp_path: Path) -> None:
    stranger = subprocess.Popen([sys.executable, "-c", SLEEPER], stdout=subprocess.DEVNULL)
    try:
        program = run(SLEEPER)
        assert [process.pid for process in find(tmp_path)] == [program.pid]
        assert [process.pid for process in find(tmp_path, mark.run)] == [program.pid]
        assert find(tmp_path, "another run") == []
        assert find(tmp_path.parent) == []
    finally:
        stranger.kill()
        stranger.wait()


def test_a_program_that_does_not_take_the_hint_is_killed(run: Run) -> None:
    program = run(STUBBORN)
    program.stop(grace_seconds=0.1)
    assert program.how_it_ended == "was killed by SIGKILL"


def test_stopping_a_program_ends_what_it_started(run: Run, tmp_path: Path) -> None:
    run(PARENT).stop()
    assert find(tmp_path) == []


def test_starting_again_ends_what_a_killed_program_left(run: Run, tmp_path: Path) -> None:
    program = run(PARENT)
    program.kill()
    [orphan] = find(tmp_path)
    program.start()
    assert not orphan.is_running()


def test_lines_go_to_who_asked_for_them(mark: Mark) -> None:
    lines: list[bytes] = []
    program = Program(
        "it", [sys.executable, "-c", "print('a\\nb', end='')"], mark=mark, env={}, output=lines.append
    )
    program.start()
    wait_until(lambda: lines == [b"a\n", b"b"], "both lines have come")
    program.stop()


def test_the_reaper_ends_a_run_whose_process_was_killed(mark: Mark, run: Run, tmp_path: Path) -> None:
    program = run(STUBBORN)
    folder = tmp_path / "of the run"
    folder.mkdir()
    reaper = start_reaper(mark, remove=folder)
    assert reaper.stdin is not None
    reaper.stdin.close()  # all that is left of a parent that was killed
    reaper.wait()
    assert not program.running
    assert not folder.exists()


def test_a_reaper_leaves_a_later_run_alone(mark: Mark, run: Run, tmp_path: Path) -> None:
    program = run(SLEEPER)
    reaper = start_reaper(Mark.new(tmp_path))
    reaper.communicate()
    assert program.running


def test_ports_are_the_same_for_the_same_purpose_while_they_are_free() -> None:
    ports = free_ports(3, wanted_by="some purpose")
    assert len(set(ports)) == 3
    assert free_ports(3, wanted_by="some purpose") == ports
    with socket.create_server(("127.0.0.1", ports[0])):
        assert free_ports(2, wanted_by="some purpose") == ports[1:]
