"""The page of errors: what is on it, that texts stay texts, and that a browser shows it."""

from __future__ import annotations

import base64
import io
import re
import shutil
import subprocess
from html.parser import HTMLParser

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from paraformer.data.inputs.sources import list_items
from paraformer.data.text.score import score
from paraformer.errors import ConfigError
from paraformer.report.error_page import NO_ROOM, ReportLimits, report_html, worst_first
from tests.conftest import ROOT

pytest.importorskip("jinja2")
CLIP = ROOT / "tests" / "fixtures" / "oracle" / "inputs" / "clip_a.flac"
EVIL = "<script>document.title='x'</script>"
REFS = {
    "good": "今天很好",
    "a": "今天 API 很好",
    "bad": "今天很好",
    EVIL: f"天 {EVIL}",
    "none": "天气",
}
HYPS = {"good": "今天很好", "a": "金天 很好啊", "bad": "明月", EVIL: "天 <b>&", "more": "多"}
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("chrome")


class Page(HTMLParser):
    """Tags, utterances as (key, pairs as (class, ref, hyp)), and recordings of a page."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.utterances, self.audio = [], [], []
        self.shown = ""
        self.open = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        names = dict(attrs).get("class") or ""
        self.tags.append(tag)
        if tag == "h3":
            self.utterances.append(["", []])
        elif tag == "audio":
            self.audio.append((self.utterances[-1][0].strip(), dict(attrs)["src"]))
        elif tag == "span" and names.startswith("pair"):
            self.utterances[-1][1].append([names.removeprefix("pair").strip(), "", ""])
        if tag not in ("meta", "link"):
            self.open.append((tag, names))

    def handle_endtag(self, tag):
        assert self.open.pop()[0] == tag

    def handle_data(self, data):
        tag, names = self.open[-1] if self.open else ("", "")
        self.shown += f" {data}" if tag != "style" else ""
        if tag == "h3":
            self.utterances[-1][0] += data
        elif names in ("ref", "hyp"):
            self.utterances[-1][1][-1][1 + (names == "hyp")] += data


def page_of(refs=None, hyps=None, audio=None, **limits):
    report = score(refs or REFS, hyps or HYPS, split=list)
    return report, Page(report_html(report, "exp/<b>", audio, ReportLimits(**limits)))


def test_all_utterances_are_there_the_worst_first():
    report, page = page_of()
    keys = [key.strip() for key, _ in page.utterances]
    assert keys == worst_first(report)
    assert keys[:2] == ["bad", "none"] and keys[-1] == "good"
    for (key, pairs), name in zip(page.utterances, keys, strict=True):
        expected = report.alignments[key.strip()]
        assert [tuple(p) for p in pairs] == [
            (p.op.replace("=", ""), p.ref or "", p.hyp or "") for p in expected
        ], name


def test_totals_and_frequent_errors():
    refs = {"1": "abc", "2": "abd", "3": "ab"}
    _, page = page_of(refs, {"1": "axc", "2": "axd", "3": "abyy"})
    # 4 errors in 8 units: b -> x twice, y inserted twice.
    words = " ".join(page.shown.split())
    assert "50.00 % utterances with errors 3 of 3 units of the reference 8" in words
    found = re.findall(r"b → x 2|Deletions none|y 2", words)
    assert found == ["b → x 2", "Deletions none", "y 2"]


@settings(max_examples=25)
@given(st.text(st.characters(codec="utf-8", exclude_characters="\r\0"), min_size=1, max_size=30))
def test_any_text_is_text(text):
    report, page = page_of({text: text + "<img src=x>"}, {text: text[::-1] + "<script>"})
    assert not {"script", "img", "b"} & set(page.tags)
    ((_, pairs),) = page.utterances
    assert "".join(ref for _, ref, _ in pairs) == text + "<img src=x>"
    assert "".join(hyp for _, _, hyp in pairs) == text[::-1] + "<script>"


def recordings(tmp_path):
    waves = {"a": CLIP, "bad": CLIP, "good": CLIP, EVIL: tmp_path / "lost.wav"}
    lines = "".join(f"{key} {path}\n" for key, path in waves.items())
    (tmp_path / "wav.scp").write_text(lines, "utf-8")
    return {item.key: item for item in list_items(str(tmp_path / "wav.scp"))}


def test_one_can_listen(tmp_path):
    _, page = page_of(audio=recordings(tmp_path))
    assert [key.split()[0] for key, _ in page.audio] == ["bad", "a", "good"]
    wave, rate = soundfile.read(CLIP)
    head, _, body = page.audio[0][1].partition(",")
    assert head in ("data:audio/mpeg;base64", "data:audio/ogg;base64", "data:audio/wav;base64")
    heard, heard_rate = soundfile.read(io.BytesIO(base64.b64decode(body)))
    assert rate == heard_rate == 16000
    # A codec pads by some blocks and shifts by less than one; the loudness stays.
    assert 0 <= len(heard) - len(wave) < 4000
    assert np.std(heard) * len(heard) ** 0.5 == pytest.approx(np.std(wave) * len(wave) ** 0.5, 0.1)
    assert "no recording of this id" in page.shown
    assert "lost.wav: No such file" in page.shown


def test_audio_and_utterances_have_limits(tmp_path):
    audio = recordings(tmp_path)
    one = len(page_of(audio=audio)[1].audio[0][1])
    _, page = page_of(audio=audio, audio_mb=1.5 * one / 1e6)
    assert len(page.audio) == 1
    assert page.shown.count(NO_ROOM) == 2
    assert "The audio of 2 utterances is left out: " in page.shown
    _, page = page_of(utterances=2)
    assert len(page.utterances) == 2
    assert "Only the worst 2 of 5 utterances follow." in page.shown
    with pytest.raises(ConfigError, match=r"report\.utterances=0"):
        page_of(utterances=0)


def browse(tmp_path, *options):
    """What headless Chromium prints of the page."""
    report = score(REFS, HYPS, split=list)
    page = tmp_path / "page.html"
    page.write_text(report_html(report, "exp", recordings(tmp_path)), "utf-8")
    command = [CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
    command += [f"--user-data-dir={tmp_path / 'profile'}", "--window-size=800,900", *options]
    done = subprocess.run(
        [*command, page.as_uri()], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


needs_chromium = pytest.mark.skipif(
    CHROMIUM is None, reason="no browser here: apt-get install chromium"
)


@needs_chromium
@pytest.mark.cli
def test_a_browser_shows_the_colours_of_all_errors(tmp_path):
    image = pytest.importorskip("matplotlib.image")
    browse(tmp_path, f"--screenshot={tmp_path / 'page.png'}")
    pixels = np.round(255 * image.imread(tmp_path / "page.png")[..., :3]).astype(int)
    assert pixels.shape == (900, 800, 3)
    for colour in ((0xFF, 0xE3, 0xB3), (0xFF, 0xD0, 0xD0), (0xCF, 0xE8, 0xFF)):
        assert (pixels == colour).all(-1).sum() > 200


@needs_chromium
@pytest.mark.cli
def test_a_browser_runs_nothing(tmp_path):
    dom = browse(tmp_path, "--dump-dom")
    assert "<title>exp</title>" in dom
    assert "<script" not in dom and "&lt;script&gt;" in dom
