"""A run that is started over a real OpenSSH server on the loopback: the connection breaks, the run goes on, and is found again."""

import getpass
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from eos_tui import launch
from runners import run_folder
from runners.run_folder import RunFolder
from tests import programs
from tests.eos_tui.test_launch import until
from tests.eos_tui.test_viewer_terminal import PATIENCE, Terminal

pytestmark = pytest.mark.ssh
CONFIG = """\
ListenAddress 127.0.0.1
Port {port}
HostKey {place}/host
AuthorizedKeysFile {place}/user.pub
PidFile none
UsePAM no
StrictModes no
PasswordAuthentication no
PermitRootLogin prohibit-password
"""
ENDLESS = "run toy-ngd --set run.steps=100000000 --set measure.sharpness_every=100 --set measure.stableness_every=0"


@pytest.fixture
def connect(tmp_path: Path) -> Iterator[Callable[[str], Terminal]]:
    """Opens a connection with a terminal in which an `eos` command runs; it notes its process and that of its connection."""
    for name in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / name], check=True)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    config = tmp_path / "sshd_config"
    config.write_text(CONFIG.format(port=port, place=tmp_path))
    (tmp_path / "known_hosts").write_text(f"[127.0.0.1]:{port} {(tmp_path / 'host.pub').read_text()}")
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)
    server = subprocess.Popen([programs.path("ssh"), "-D", "-e", "-f", config], stderr=subprocess.PIPE, text=True)
    assert server.stderr
    assert "listening" in (said := server.stderr.readline()), said + server.stderr.read()

    options = ["-F", "none", "-o", f"UserKnownHostsFile={tmp_path}/known_hosts", "-o", "BatchMode=yes", "-o", "IdentitiesOnly=yes"]
    client = [shutil.which("ssh"), "-tt", *options, "-i", f"{tmp_path}/user", "-p", str(port), f"{getpass.getuser()}@127.0.0.1"]
    opened = []

    def connected(command: str) -> Terminal:
        variables = {"EOS_RUNS": tmp_path / "runs", "JAX_COMPILATION_CACHE_DIR": os.environ["JAX_COMPILATION_CACHE_DIR"]}
        assigned = shlex.join(f"{name}={value}" for name, value in variables.items())
        eos = f"cd {shlex.quote(str(tmp_path))}; echo $PPID $$ > pids; exec env {assigned} {sys.executable} -m eos_tui {command}"
        opened.append(Terminal(tmp_path, command=[*client, eos]))
        return opened[-1]

    yield connected
    for terminal in opened:
        terminal.process.kill()
        terminal.process.wait()
        os.close(terminal.master)
    server.kill()
    server.communicate()
    for folder in run_folder.all_runs(tmp_path / "runs"):
        if folder.is_held():
            launch.kill(folder)


def goes_on(folder: RunFolder) -> bool:
    size = folder.log.stat().st_size
    until(lambda: folder.log.stat().st_size > size)
    return folder.is_held() is True and not folder.control.exists()


def test_a_run_outlives_broken_connections_and_is_watched_and_stopped_over_new_ones(connect, tmp_path: Path) -> None:
    first = connect(ENDLESS)
    first.read_until("running")
    session, viewer = map(int, (tmp_path / "pids").read_text().split())
    folder = run_folder.find(tmp_path / "runs")

    first.process.kill()
    until(lambda: not programs.lives(viewer), seconds=PATIENCE)
    assert goes_on(folder)

    second = connect("watch toy-ngd")
    second.read_until("running")
    session, viewer = map(int, (tmp_path / "pids").read_text().split())
    os.kill(session, signal.SIGKILL)
    until(lambda: not programs.lives(viewer), seconds=PATIENCE)
    assert goes_on(folder)

    third = connect("watch toy-ngd")
    third.read_until("running")
    os.write(third.master, b"s")
    third.read_until("Stop toy-ngd")
    os.write(third.master, b"y")
    until(lambda: folder.is_held() is False, seconds=PATIENCE)
    third.read_until("stopped")
    os.write(third.master, b"q")
    third.end()
    assert third.process.returncode == 0
