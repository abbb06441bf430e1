"""
The fork server: a process that has imported agent_service, and becomes one of its commands when it is asked.

Importing costs a process more than a second of a processor, and tests start hundreds. What it forks has the
environment, the folder, the files and the session of its order, and nothing else of the server or of pytest.
`forked_process.py` speaks to it; it ends when that side of the socket is closed, and its children with it.
"""

import ctypes
import gc
import json
import os
import runpy
import select
import signal
import socket
import sys
from contextlib import suppress
from importlib import import_module

#: What a role loads when it starts, or when it does something for the first time.
_MODULES = (
    "agent_service.api.app",
    "agent_service.cli",
    "agent_service.local.servers",
    "agent_service.workers.callback_worker",
    "agent_service.workers.generative_worker",
    "aiohttp",
    "rich.markdown",
)
_LONGEST_ORDER = 2**17
_FILES = 4


def serve(control: socket.socket) -> None:
    """Fork for each order, and tell how each child ended; returns in a child, as what it is to become."""
    ends: dict[int, tuple[int, int]] = {}
    waiting = select.poll()
    waiting.register(control, select.POLLIN)
    while True:
        for ready, _ in waiting.poll():
            if ready in ends:
                waiting.unregister(ready)
                _tell_end(ready, *ends.pop(ready))
                continue
            order, files, _, _ = socket.recv_fds(control, _LONGEST_ORDER, _FILES)
            if not order:
                sys.exit()
            pid = os.fork()
            if pid == 0:
                _become(json.loads(order), files, control)
                return
            *standard, end = files
            for file in standard:
                os.close(file)
            watched = os.pidfd_open(pid)
            waiting.register(watched, select.POLLIN)
            ends[watched] = (pid, end)


def _tell_end(watched: int, pid: int, end: int) -> None:
    _, status = os.waitpid(pid, 0)
    # Nobody may want to know any more.
    with suppress(BrokenPipeError):
        os.write(end, str(os.waitstatus_to_exitcode(status)).encode())
    os.close(end)
    os.close(watched)


def _become(order: dict[str, object], files: list[int], control: socket.socket) -> None:
    """What makes a child a process of its own; the kernel kills it when the server has gone."""
    server = os.getppid()
    os.setsid()
    ctypes.CDLL(None).prctl(1, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != server:
        os.kill(os.getpid(), signal.SIGKILL)
    for number, file in enumerate(files[:3]):
        os.dup2(file, number)
    # A shell makes what a script runs in the background ignore it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    folder, environment, arguments = order["folder"], order["environment"], order["arguments"]
    assert isinstance(folder, str)
    assert isinstance(environment, dict)
    assert isinstance(arguments, list)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv[1:] = arguments
    control.send(str(os.getpid()).encode())
    control.close()
    os.closerange(3, max(files) + 1_000)


if __name__ == "__main__":
    for module in _MODULES:
        import_module(module)
    code, tree = sys.modules["agent_service"].__file__, os.environ["PYTHONPATH"]
    assert code is not None
    assert code.startswith(tree), f"{code} would run, and not what is in {tree}"
    assert len(os.listdir("/proc/self/task")) == 1, "a thread would be missing in what is forked"
    gc.freeze()
    serve(socket.socket(fileno=int(sys.argv[1])))
    runpy.run_module("agent_service", run_name="__main__", alter_sys=True)
