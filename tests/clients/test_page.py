"""The page of the service in a headless Chromium: its fake microphone, and a file."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from contextlib import contextmanager

import pytest

from paraformer.api.auto import AutoModel
from tests.serving import MODELS, clip, running, until

from websockets.sync.client import connect  # isort: skip
from paraformer.api.service import ServedModel  # isort: skip

pytestmark = pytest.mark.cli

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
SECONDS = 120


@pytest.fixture(scope="module")
def server():
    model = AutoModel("paraformer-zh-mini", **MODELS)
    with running(lambda before: ServedModel(model, before), token="k") as found:
        found.model = model
        yield found


class Page:
    """A tab, asked by Chromium's own protocol."""

    def __init__(self, socket):
        self.socket, self.asked = socket, 0

    def ask(self, method, **parameters):
        self.asked += 1
        self.socket.send(json.dumps({"id": self.asked, "method": method, "params": parameters}))
        while (answer := json.loads(self.socket.recv(SECONDS))).get("id") != self.asked:
            pass
        assert "error" not in answer, answer
        return answer["result"]

    def value(self, script):
        found = self.ask("Runtime.evaluate", expression=script, userGesture=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def text(self, name):
        return self.value(f"document.getElementById('{name}').textContent")


@contextmanager
def opened(url, sound, folder):
    """The page in a browser whose microphone says this recording once."""
    program = next(filter(None, map(shutil.which, PROGRAMS)), None)
    if program is None or not os.environ.get("PARAFORMER_CLIENTS"):
        pytest.skip("no chromium here, or not asked for by make test-clients")
    fakes = ("--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream")
    options = (*fakes, f"--use-file-for-fake-audio-capture={sound}%noloop")
    quiet = ("--headless=new", "--no-sandbox", "--disable-gpu", "--remote-debugging-port=0")
    command = [program, *quiet, *options, f"--user-data-dir={folder}", "about:blank"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as browser:
        try:
            place = folder / "DevToolsActivePort"
            assert until(place.is_file)
            port, path = place.read_text("utf-8").split()
            with connect(f"ws://127.0.0.1:{port}{path}", max_size=None) as socket:
                target = Page(socket).ask("Target.createTarget", url=url)["targetId"]
                where = f"ws://127.0.0.1:{port}/devtools/page/{target}"
                with connect(where, max_size=None) as tab:
                    yield Page(tab)
        finally:
            browser.kill()


def test_a_microphone_and_a_file(server, tmp_path):
    url = f"http://127.0.0.1:{server.port}/"
    with opened(url, clip("demo_2"), tmp_path) as page:
        assert until(lambda: page.value("Boolean(document.getElementById('clear'))"))
        assert until(lambda: page.text("state") == "paraformer-zh-mini")
        page.value("document.getElementById('token').value = 'k'")
        page.value("document.getElementById('speak').click()")
        assert until(lambda: page.text("partial")), page.text("state")
        assert until(lambda: "窗户" in page.text("lines") + page.text("partial"))
        time.sleep(3)
        page.value("document.getElementById('speak').click()")
        assert until(lambda: page.text("state") == "done"), page.text("state")
        assert "风太大了" in page.text("lines") and page.text("partial") == ""
        assert "窗户" in page.value("subtitles('vtt')")
        page.value("document.getElementById('clear').click()")
        root = page.ask("DOM.getDocument")["root"]["nodeId"]
        file = page.ask("DOM.querySelector", nodeId=root, selector="#file")["nodeId"]
        page.ask("DOM.setFileInputFiles", nodeId=file, files=[str(clip("demo_3"))])
        assert until(lambda: page.text("state").endswith("heard") and page.text("lines"))
        (found,) = server.model.generate(str(clip("demo_3")), sentence_timestamp=True)
        said = page.value("lines.map((line) => line.text).join('')")
        assert said == found["text"]
        assert page.value("subtitles('srt')").count("-->") == len(found["sentence_info"])
