from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace

import pytest

from ness_cli.process_identity import this_process

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere less is certain")


def test_this_process_is_running_and_named():
    me = this_process()
    assert (me.pid, me.host) == (os.getpid(), os.uname().nodename)
    assert me.is_running(me.machine)
    assert not me.is_gone(me.machine)


def test_a_process_that_ended_is_gone_even_before_its_parent_notices():
    child = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=-1)
    stat = f"/proc/{child.pid}/stat"
    with open(stat) as file:
        started = file.read().rpartition(")")[2].split()[19]
    identity = replace(this_process(), pid=child.pid, started=started)
    assert identity.is_running(identity.machine)
    child.stdin.close()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # it is a zombie now
    assert identity.is_gone(identity.machine)
    child.wait()
    assert identity.is_gone(identity.machine)


def test_a_later_process_of_the_same_number_is_another_one():
    me = this_process()
    before = replace(me, started=str(int(me.started) - 1))
    assert before.is_gone(me.machine)


def test_of_another_machine_nothing_is_certain():
    me = this_process()
    assert not me.is_gone("another")
    assert not me.is_running("another")
