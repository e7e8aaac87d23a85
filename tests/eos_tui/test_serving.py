"""The server of `eos serve`: whom it lets in, and that the processes of its pages end with them and with it."""

import asyncio
import re
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Self

import aiohttp
import psutil
import pytest
from aiohttp.test_utils import TestClient, TestServer
from typer.testing import CliRunner

from eos_tui import serving
from eos_tui.cli import app
from tests import programs
from tests.eos_tui.fakes import FakeRun, filled, held_elsewhere, requests
from tests.eos_tui.test_launch import until

TOKEN = "wJalrXUtnFEMI"
PATIENCE = 20.0


async def client(token: str | None) -> TestClient:
    return TestClient(TestServer(serving.Page("exec true", token=token, port=8000).application()))


@pytest.fixture
async def open_page() -> AsyncIterator[TestClient]:
    async with await client(None) as found:
        yield found


@pytest.fixture
async def closed_page() -> AsyncIterator[TestClient]:
    async with await client(TOKEN) as found:
        yield found


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:9000", "[::1]:8000", "localhost:1"])
async def test_this_machine_may_be_called_by_any_name_of_its_loopback(open_page: TestClient, host: str) -> None:
    answer = await open_page.get("/", headers={"Host": host, "Origin": f"http://{host}"})

    assert answer.status == 200


@pytest.mark.parametrize("path", ["/", "/ws", "/static/js/textual.js", "/nothing"])
@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},
        {"Host": "localhost.evil.example:8000"},
        {"Host": "10.0.0.1"},
        {"Host": "localhost:8000", "Origin": "http://evil.example"},
        {"Host": "localhost:8000", "Origin": "http://localhost:9000"},
        {"Host": "localhost:8000", "Origin": "null"},
    ],
)
async def test_other_names_and_other_sites_are_refused(open_page: TestClient, path: str, headers: dict[str, str]) -> None:
    answer = await open_page.get(path, headers=headers)

    assert answer.status == 403


@pytest.mark.parametrize("path", ["/", "/?token=wrong", f"/ws?token={TOKEN}", "/static/js/textual.js", "/page/page.js", "/nothing"])
async def test_nothing_is_given_out_without_the_token(closed_page: TestClient, path: str) -> None:
    answer = await closed_page.get(path, headers={"Cookie": "eos-8000=wrong"}, allow_redirects=False)

    assert answer.status == 403
    assert TOKEN not in await answer.text()


async def test_the_token_is_asked_for_once_and_leaves_the_address(closed_page: TestClient) -> None:
    first = await closed_page.get(f"/?token={TOKEN}", allow_redirects=False)

    assert (first.status, first.headers["Location"]) == (302, "/")
    assert {"HttpOnly", "SameSite=Lax"} <= {part.strip() for part in first.headers["Set-Cookie"].split(";")}
    for path in ("/", "/static/js/textual.js"):
        assert (await closed_page.get(path, headers={"Cookie": f"eos-8000={TOKEN}"})).status == 200


async def test_another_site_is_refused_with_the_token_too(closed_page: TestClient) -> None:
    headers = {"Cookie": f"eos-8000={TOKEN}", "Origin": "http://evil.example"}

    assert (await closed_page.get("/ws", headers=headers)).status == 403


@pytest.mark.parametrize("path", ["/", "/page/page.css", "/page/page.js"])
async def test_the_page_names_no_other_place_and_may_load_from_none(open_page: TestClient, path: str) -> None:
    answer = await open_page.get(path, headers={"Host": "localhost"})

    assert answer.headers["Content-Security-Policy"].startswith("default-src 'self';")
    assert "//" not in re.sub(r"^\s*//.*$", "", await answer.text(), flags=re.MULTILINE)


# The whole of it


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeRun]:
    """A run that another process holds."""
    monkeypatch.setenv("EOS_RUNS", str(tmp_path))
    run = filled(FakeRun(tmp_path))
    with held_elsewhere(run):
        yield run


class Served:
    """`eos serve` as a process."""

    def __init__(self, *arguments: str) -> None:
        command = [sys.executable, "-m", "eos_tui", "serve", "--port", "0", *arguments]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True)
        assert self.process.stderr
        found = re.search(r"http://\S+", self.process.stderr.readline())
        assert found, self.process.stderr.read()
        self.address = found[0]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with self.process:
            self.process.kill()

    def pages(self) -> list[int]:
        """The processes of the open pages."""
        return [child.pid for child in psutil.Process(self.process.pid).children()]


@pytest.fixture
def served(run: FakeRun) -> Iterator[Served]:
    with Served(run.folder.name) as served:
        yield served


async def read(page: aiohttp.ClientWebSocketResponse, words: str) -> None:
    """Read what the page is sent until the words have come."""
    text = ""
    while words not in text:
        message = await page.receive(PATIENCE)
        assert message.type is aiohttp.WSMsgType.BINARY, (message, text)
        text += re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", message.data.decode())


async def test_a_page_shows_the_run_and_cannot_stop_it_and_its_process_ends_with_it(served: Served, run: FakeRun) -> None:
    async with aiohttp.ClientSession() as session, session.ws_connect(f"{served.address}ws?width=100&height=30") as page:
        await read(page, "step 1,860 of 3,000")
        (process,) = served.pages()

        for keys in ("s", "y", " ", "\x1a", "?"):
            await page.send_json(["stdin", keys])
        await read(page, "how to read the screen")

    await asyncio.to_thread(until, lambda: not programs.lives(process))
    assert requests(run) == []
    assert served.process.poll() is None


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
async def test_the_pages_end_with_the_server_however_it_ends(served: Served, run: FakeRun, how: signal.Signals) -> None:
    async with aiohttp.ClientSession() as session, session.ws_connect(f"{served.address}ws?width=100&height=30") as page:
        await read(page, "step 1,860 of 3,000")
        (process,) = served.pages()

        served.process.send_signal(how)

        async for _ in page:
            pass
    output, errors = await asyncio.to_thread(served.process.communicate, timeout=PATIENCE)
    await asyncio.to_thread(until, lambda: not programs.lives(process))
    assert served.process.returncode == (-how if how is signal.SIGKILL else 0)
    assert (output, errors) == ("", "")


def test_elsewhere_than_on_the_loopback_there_is_a_token(run: FakeRun) -> None:
    with Served("--host", "0.0.0.0") as served:
        pass

    assert re.fullmatch(r"http://[^/]+:\d+/\?token=[\w-]{32}", served.address)


def test_a_port_that_is_taken_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]

        result = CliRunner().invoke(app, ["serve", "--port", str(port), "--runs-dir", str(tmp_path)])

    assert result.exit_code == 2
    assert f"127.0.0.1:{port} cannot be listened on: Address already in use. Choose another with --port" in result.stderr


@pytest.mark.parametrize(("host", "port"), [("no.such.host.invalid", 8000), ("192.0.2.1", 0)])
def test_a_place_that_there_is_not_is_named(tmp_path: Path, host: str, port: int) -> None:
    with pytest.raises(serving.ServingError, match=rf"{host}:{port} cannot be listened on: \S"):
        serving.serve(tmp_path, host=host, port=port, with_token=False, say=lambda _: None)


def test_a_missing_package_is_named_with_what_installs_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "eos_tui.serving")
    monkeypatch.setitem(sys.modules, "textual_serve.server", None)

    result = CliRunner().invoke(app, ["serve", "--runs-dir", str(tmp_path)])

    assert result.exit_code == 2
    assert "pip install 'eos-tui[serve]'" in result.stderr
