"""Twenty processes want one lease at the same time; started by ``test_lease.py``.

Prints a list as JSON: the winners of every round, or what was counted.
"""

from __future__ import annotations

import json
import os
import sys
import time
from dataclasses import replace
from pathlib import Path

from ness_cli.errors import LockedError
from ness_cli.lease import PATIENCE_SECONDS, Lease
from ness_cli.process_identity import ProcessIdentity, this_process

NUM_PROCESSES = 20
NUM_ROUNDS = 5


class _GaveUpError(Exception):
    pass


def _together(work) -> int:
    """Start all at once; return how many say that they have won, none ending before all know."""
    start_read, start = os.pipe()
    said_read, said = os.pipe()
    pids = []
    for number in range(NUM_PROCESSES):
        pid = os.fork()
        if pid == 0:
            os.close(start)
            os.read(start_read, 1)  # returns when the parent has closed its end
            answer = b"x"  # unless it fails
            try:
                answer = b"1" if work(number) else b"0"
            finally:
                os.write(said, answer)
            time.sleep(600)
        pids.append(pid)
    os.close(start)
    answers = b""
    while len(answers) < NUM_PROCESSES:
        answers += os.read(said_read, NUM_PROCESSES)
    for pid in pids:
        os.kill(pid, 9)
        os.waitpid(pid, 0)
    assert b"x" not in answers
    return answers.count(b"1")


def _has_won(lease: Lease) -> bool:
    try:
        lease.acquire()
    except (LockedError, _GaveUpError):
        return False
    return True


def race_for_a_dead_ones(path: Path) -> int:
    me = this_process()
    Lease(path, holder=replace(me, started="0")).acquire()
    return _together(lambda _number: _has_won(Lease(path)))


def race_for_a_silent_ones(path: Path) -> int:
    def of(name: str, sleep=time.sleep) -> Lease:
        return Lease(path, holder=ProcessIdentity(name, name, 7, "1"), sleep=sleep)

    def try_once(number: int) -> bool:
        waited = 0.0

        def sleep(seconds: float) -> None:
            nonlocal waited
            if not waited:  # who comes later would wait for the winner
                path.with_name(f"seen-{number}").touch()
                while len(list(path.parent.glob("seen-*"))) < NUM_PROCESSES:
                    time.sleep(0.001)
            if waited >= PATIENCE_SECONDS:  # the winner beats no heart: it would look silent too
                raise _GaveUpError
            waited += seconds

        return _has_won(of(f"node-{number}", sleep))

    of("gone").acquire()
    return _together(try_once)


def count_together(path: Path) -> int:
    counter = path.with_name("counter")
    counter.write_text("0")

    def work(_number: int) -> bool:
        for _ in range(NUM_ROUNDS):
            lease = Lease(path, sleep=lambda _seconds: time.sleep(0.002))
            lease.acquire(is_patient=True)
            counter.write_text(str(int(counter.read_text()) + 1))
            lease.release()
        return True

    _together(work)
    return int(counter.read_text())


if __name__ == "__main__":
    name, folder = sys.argv[1], Path(sys.argv[2])
    if name == "counting":
        print(json.dumps([count_together(folder / "lock")]))
    else:
        race = {"dead": race_for_a_dead_ones, "silent": race_for_a_silent_ones}[name]
        print(json.dumps([race(folder / str(n) / "lock") for n in range(NUM_ROUNDS)]))
