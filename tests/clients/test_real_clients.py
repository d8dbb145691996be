"""Clients that others have written transcribe the demo clips unchanged, with the text of `funasr`.

`make test-clients` installs each into a folder of its own, which PARAFORMER_CLIENTS names; without
it only curl is asked, where there is one. No two can share an environment: two of them have the
same module.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from paraformer.api.auto import AutoModel
from tests.conftest import ROOT
from tests.serving import CLIPS, MODELS, clip, running, wyoming

from paraformer.api.service import ServedModel  # isort: skip

pytestmark = pytest.mark.cli

SECONDS = 600  # until a client that hangs fails
OPENAI = """
import json, sys
from openai import BadRequestError, OpenAI

client, found = OpenAI(base_url=sys.argv[1] + "/v1", api_key="none"), []
for path in sys.argv[2:]:
    ask = lambda **more: client.audio.transcriptions.create(
        model="whisper-1", file=open(path, "rb"), **more
    )
    verbose = ask(response_format="verbose_json", timestamp_granularities=["word", "segment"])
    deltas = [event.delta for event in ask(stream=True) if hasattr(event, "delta")]
    texts = [ask().text, ask(response_format="text").strip(), verbose.text, "".join(deltas)]
    texts += ["".join(segment.text for segment in verbose.segments)]
    found.append([texts, len(verbose.words), ask(response_format="srt").strip()[:2]])
try:
    client.audio.transcriptions.create(model="whisper-1", file=("x.wav", bytes(999)))
except BadRequestError as error:
    found.append(error.status_code)
found.append(client.models.retrieve("whisper-1").id)
print(json.dumps(found))
"""
REALTIME = """
import base64, json, sys, wave
from openai import OpenAI

where, found = sys.argv[1], []
urls = {"base_url": f"http://{where}/v1", "websocket_base_url": f"ws://{where}/v1"}
client, query = OpenAI(api_key="none", **urls), {"intent": "transcription"}
for path in sys.argv[2:]:
    with wave.open(path) as file:
        sound, rate = file.readframes(file.getnframes()), file.getframerate()
    with client.realtime.connect(model="gpt-live-transcribe", extra_query=query) as live:
        form = {"format": {"type": "audio/pcm", "rate": rate}, "turn_detection": None}
        live.session.update(session={"type": "transcription", "audio": {"input": form}})
        for place in range(0, len(sound), 9600):
            part = base64.b64encode(sound[place : place + 9600]).decode()
            live.input_audio_buffer.append(audio=part)
        live.input_audio_buffer.commit()
        for event in live:
            if event.type == "error":
                sys.exit(event.error.message)
            if event.type.endswith("input_audio_transcription.completed"):
                found.append(event.transcript)
                break
print(json.dumps(found))
"""
WYOMING = """
import asyncio, json, sys, wave
from wyoming.asr import Transcribe, Transcript
from wyoming.audio import AudioChunk, AudioStart, AudioStop
from wyoming.client import AsyncTcpClient
from wyoming.info import Describe, Info

async def heard(path):
    kinds = []
    async with AsyncTcpClient("127.0.0.1", int(sys.argv[1])) as client:
        await client.write_event(Transcribe(language="zh").event())
        with wave.open(path) as file:
            form = {"rate": file.getframerate(), "width": 2, "channels": 1}
            await client.write_event(AudioStart(**form).event())
            while sound := file.readframes(1024):
                await client.write_event(AudioChunk(audio=sound, **form).event())
        await client.write_event(AudioStop().event())
        while True:
            event = await client.read_event()
            kinds.append(event.type)
            if Transcript.is_type(event.type):
                return Transcript.from_event(event).text, kinds

async def main():
    async with AsyncTcpClient("127.0.0.1", int(sys.argv[1])) as client:
        await client.write_event(Describe().event())
        (program,) = Info.from_event(await asyncio.wait_for(client.read_event(), 10)).asr
    model = program.models[0]
    found = [[model.name, model.languages, program.supports_transcript_streaming]]
    print(json.dumps(found + [await heard(path) for path in sys.argv[2:]]))

asyncio.run(main())
"""
POOLED = """
import asyncio, json, sys
from funasr_client import create_async_client

async def main():
    client = create_async_client(server_url=sys.argv[1], mode=sys.argv[2])
    await client.start()
    found = [(await client.recognize_file(path)).text for path in sys.argv[3:]]
    await client.close()
    print(json.dumps(found))

asyncio.run(main())
"""
NODE = """
import OpenAI from "openai";
import fs from "fs";

const [, , url, ...paths] = process.argv, found = [];
const client = new OpenAI({ baseURL: url + "/v1", apiKey: "none" });
for (const path of paths) {
  const ask = (more) => client.audio.transcriptions.create(
    { model: "gpt-4o-transcribe", file: fs.createReadStream(path), ...more });
  let deltas = "";
  for await (const event of await ask({ stream: true })) deltas += event.delta ?? "";
  found.push([(await ask({})).text, deltas]);
}
console.log(JSON.stringify(found));
"""


NODE_FUNASR = """
import { FunASRClient } from "funasr-client";
import fs from "fs";

const [, , url, ...paths] = process.argv, found = [];
for (const path of paths) {
  const texts = [], times = [];
  const client = new FunASRClient({
    url, decode: true, config: { mode: "2pass", wav_name: path, audio_fs: 16000, itn: false },
    onMessage: (said) => {
      if (said.mode !== "2pass-offline") return;
      texts.push(said.text);
      times.push(...(said.timestamp ?? []));
    },
  });
  await client.connect();
  const sound = fs.readFileSync(path).subarray(44);
  for (let place = 0; place < sound.length; place += 1920)
    client.send(Uint8Array.from(sound.subarray(place, place + 1920)));
  await client.close(100000);
  found.push([texts.join(""), times.length]);
}
console.log(JSON.stringify(found));
process.exit();
"""


@pytest.fixture(scope="module")
def model():
    return AutoModel("paraformer-zh-mini", **MODELS)


@pytest.fixture(scope="module")
def texts(model):
    return [result["text"] for result in model.generate([str(clip(name)) for name in CLIPS])]


@pytest.fixture(scope="module")
def server(model):
    with running(lambda before: ServedModel(model, before)) as found:
        yield found


def folder():
    """Where the clients lie."""
    if not os.environ.get("PARAFORMER_CLIENTS"):
        pytest.skip("make test-clients installs the clients")
    return Path(os.environ["PARAFORMER_CLIENTS"]).resolve()


def environment(*packages):
    """The programs of an environment with these packages, made once."""
    place = folder() / "-".join(packages).replace("=", "")
    if not (place / "made").exists():
        subprocess.run([sys.executable, "-m", "venv", str(place)], check=True)
        pip = [place / "bin" / "pip", "install", "--quiet", *packages]
        done = subprocess.run(pip, capture_output=True, text=True, encoding="utf-8")
        if done.returncode:
            pytest.skip(f"{packages[0]} cannot be installed here: {done.stderr.strip()[-200:]}")
        (place / "made").touch()
    return place / "bin"


def printed(*command, **more):
    done = subprocess.run(
        [str(part) for part in command],
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=SECONDS,
        **more,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def paths():
    return [clip(name) for name in CLIPS]


def test_curl(server, texts):
    if shutil.which("curl") is None:
        pytest.skip("no curl program here")
    url = f"http://127.0.0.1:{server.port}/v1/audio/transcriptions"
    for path, text in zip(paths(), texts, strict=True):
        form = ["-F", f"file=@{path}", "-F", "model=whisper-1"]
        assert json.loads(printed("curl", "-sf", *form, url))["text"] == text
        assert printed("curl", "-sf", *form, "-F", "response_format=text", url) == text + "\n"


@pytest.mark.parametrize("version", ["3.57.0", "2.0.0"])
def test_openai(server, texts, version):
    python = environment(f"openai=={version}") / "python"
    found = json.loads(printed(python, "-c", OPENAI, f"http://127.0.0.1:{server.port}", *paths()))
    assert found[len(texts) :] == [400, "whisper-1"]
    for (said, words, head), text in zip(found, texts, strict=False):
        assert set(said) == {text} and head == "1\n"
        assert words == sum(sign.isalnum() for sign in text)


def test_openai_realtime(server, texts):
    """Its own package of websockets is older than ours: an environment of its own."""
    python = environment("openai[realtime]==3.57.0") / "python"
    printed_texts = printed(python, "-c", REALTIME, f"127.0.0.1:{server.port}", *paths())
    assert json.loads(printed_texts) == texts


def test_the_command_of_openai(server, texts):
    program = environment("openai==2.0.0") / "openai"
    where = {"OPENAI_BASE_URL": f"http://127.0.0.1:{server.port}/v1", "OPENAI_API_KEY": "none"}
    form = ("-m", "whisper-1", "--response-format", "text", "--language", "zh")
    for path, text in zip(paths(), texts, strict=True):
        command = (program, "api", "audio.transcriptions.create", "-f", path, *form)
        assert text in printed(*command, env={**os.environ, **where})


def test_funasr_client(server, texts):
    """Its command, of which only the asynchronous half ever ends."""
    program = environment("funasr-client==0.1.6") / "funasr-client"
    for path, text in zip(paths(), texts, strict=True):
        found = json.loads(
            printed(program, f"ws://127.0.0.1:{server.port}", path, "--async", "--no-itn")
        )
        assert found["text"] == text
        assert len(found["timestamp"]) == sum(sign.isalnum() for sign in text)


@pytest.mark.parametrize("mode", ["2pass", "offline"])
def test_funasr_python(server, texts, mode):
    """It keeps a connection for many recordings, which it reads by a resampler of its own: one clip
    of unsure words is left out.
    """
    pairs = zip(paths(), texts, strict=True)
    own = [(path, text) for path, text in pairs if path.stem != "demo_4"]
    python = environment("funasr-python==0.1.5") / "python"
    url = f"ws://127.0.0.1:{server.port}"
    found = printed(python, "-c", POOLED, url, mode, *(path for path, _ in own))
    assert json.loads(found) == [text for _, text in own]


def test_wyoming(server, texts, tmp_path):
    """Its reference package, and the program that measures servers by it."""
    place = environment("wyoming-bench==2026.10.0")
    for path in paths():
        shutil.copy(path, tmp_path)
    with wyoming(server) as port:
        where = f"127.0.0.1:{port}"
        printed(place / "wyoming-bench", "seed-corpus", "--corpus", tmp_path, where)
        bench = ("stt", "--corpus", tmp_path, "--rounds", "1", "--warmup", "0", where)
        measured = printed(place / "wyoming-bench", *bench)
        found = json.loads(printed(place / "python", "-c", WYOMING, str(port), *paths()))
    written = [(tmp_path / path.name).with_suffix(".txt") for path in paths()]
    assert [path.read_text("utf-8").strip() for path in written] == texts
    assert measured.count(f"ok={len(texts)} fail=0") == 2
    assert found[0] == ["paraformer-zh-mini", ["zh"], True]
    assert [text for text, _ in found[1:]] == texts
    assert all(kinds[0] == "transcript-start" for _, kinds in found[1:])


def test_the_manifest_is_one_of_kubernetes():
    """By the schema of a released version, with no key beside it."""
    program = environment("kubernetes-validate==1.37.0") / "kubernetes-validate"
    assert "FAIL" not in printed(program, "--strict", ROOT / "egs/service/kubernetes.yaml")


def node(package, script):
    """The place of a script beside a package of npm."""
    name = package.partition("@")[0]
    place = folder() / f"node-{name}"
    if shutil.which("npm") is None:
        pytest.skip("no npm program here")
    if not (place / "node_modules" / name).is_dir():
        place.mkdir(parents=True, exist_ok=True)
        (place / "package.json").write_text('{"type": "module"}', "utf-8")
        done = subprocess.run(["npm", "install", "--silent", package], cwd=place)
        if done.returncode:
            pytest.skip(f"{name} cannot be installed from npm here")
    (place / "ask.js").write_text(script, "utf-8")
    return place / "ask.js"


def test_openai_of_node(server, texts):
    script = node("openai@7.55.0", NODE)
    found = json.loads(printed("node", script, f"http://127.0.0.1:{server.port}", *paths()))
    assert found == [[text, text] for text in texts]


def test_funasr_client_of_node(server, texts):
    script = node("funasr-client@0.1.2", NODE_FUNASR)
    url = f"ws://127.0.0.1:{server.port}"
    found = json.loads(printed("node", "--experimental-websocket", script, url, *paths()))
    assert found == [[text, sum(sign.isalnum() for sign in text)] for text in texts]
