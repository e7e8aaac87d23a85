"""A headless Chromium as one page, driven by its DevTools protocol."""

import asyncio
import base64
import json
import re
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pyte

from tests import programs

FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--disable-extensions", "--disable-dev-shm-usage", "--remote-debugging-port=0"),
)
PATIENCE = 20.0
"""Seconds after which a test gives up on the browser."""
CODES = {"Enter": 13, "Escape": 27}


class Page:
    """What the page has asked for, what its sockets were sent, and how to press its keys."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._session: str | None = None
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._changed = asyncio.Event()
        self._reader = asyncio.create_task(self._read())
        self.asked_for: list[str] = []
        self.complained: list[str] = []
        self.num_bytes = 0
        self.screen = pyte.Screen(80, 24)
        self._stream = pyte.ByteStream(self.screen)

    async def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """The answer of the browser to a command."""
        number = len(self._answers) + 1
        self._answers[number] = answer = asyncio.get_running_loop().create_future()
        target = {"sessionId": self._session} if self._session else {}
        await self._socket.send_json({"id": number, "method": method, "params": parameters, **target})
        message = await asyncio.wait_for(answer, PATIENCE)
        assert "error" not in message, message
        return message["result"]

    async def open(self, address: str, *, width: int, height: int) -> None:
        """Go to an address; pixels of the window."""
        if self._session is None:
            target = await self.call("Target.createTarget", url="about:blank")
            self._session = (await self.call("Target.attachToTarget", targetId=target["targetId"], flatten=True))["sessionId"]
            for domain in ("Page", "Network", "Runtime", "Log"):
                await self.call(f"{domain}.enable")
        await self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        await self.call("Page.navigate", url=address)

    async def press(self, key: str) -> None:
        """A key with the character, or the name, `key`."""
        is_character = len(key) == 1
        code = {"windowsVirtualKeyCode": ord(key.upper()) if is_character else CODES[key]}
        text = {"text": key} if is_character else {}
        await self.call("Input.dispatchKeyEvent", type="keyDown", key=key, **code, **text)
        await self.call("Input.dispatchKeyEvent", type="keyUp", key=key, **code)

    async def shows(self, words: str) -> str:
        """The text of the terminal once it has these words."""
        async with asyncio.timeout(PATIENCE):
            while words not in (text := self.text()):
                self._changed.clear()
                await self._changed.wait()
        return text

    def text(self) -> str:
        """What the terminal in the page was told to show."""
        return "\n".join(self.screen.display)

    async def evaluate(self, expression: str) -> Any:
        """The value of an expression in the page."""
        result = await self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    async def picture(self) -> bytes:
        """The page as a PNG."""
        return base64.b64decode((await self.call("Page.captureScreenshot"))["data"])

    async def close(self) -> None:
        await self._socket.close()
        await self._reader

    async def _read(self) -> None:
        async for frame in self._socket:
            message = json.loads(frame.data)
            if "id" in message:
                self._answers[message["id"]].set_result(message)
            else:
                self._note(message["method"], message["params"])
            self._changed.set()

    def _note(self, method: str, event: dict[str, Any]) -> None:
        if method == "Network.requestWillBeSent":
            self.asked_for.append(event["request"]["url"])
        elif method == "Network.webSocketCreated":
            self.asked_for.append(event["url"])
        elif method in ("Log.entryAdded", "Runtime.exceptionThrown", "Network.loadingFailed"):
            self.complained.append(json.dumps(event))
        elif method == "Network.webSocketFrameSent":
            kind, *values = json.loads(event["response"]["payloadData"])
            if kind == "resize":
                self.screen.resize(values[0]["height"], values[0]["width"])
        elif method == "Network.webSocketFrameReceived" and event["response"]["opcode"] == 2:
            data = base64.b64decode(event["response"]["payloadData"])
            self.num_bytes += len(data)
            self._stream.feed(re.sub(rb"\x1b\[[<>=][0-9;]*[a-z]", b"", data))


@asynccontextmanager
async def chromium(profile: Path) -> AsyncIterator[Page]:
    """A browser of its own, with a new profile in a folder."""
    process = subprocess.Popen(
        [programs.path("browser"), *FLAGS, f"--user-data-dir={profile}"], stderr=subprocess.PIPE, stdin=subprocess.DEVNULL
    )
    try:
        assert process.stderr
        said = b""
        while not (found := re.search(rb"DevTools listening on (\S+)", said)):
            line = await asyncio.wait_for(asyncio.to_thread(process.stderr.readline), PATIENCE)
            assert line, said.decode()
            said += line
        async with aiohttp.ClientSession() as session, session.ws_connect(found[1].decode(), max_msg_size=0) as socket:
            page = Page(socket)
            yield page
            await page.close()
    finally:
        with process:
            process.kill()
