"""What is taken of packages is plain prose with marks: no code, tables, lists or markup."""

from __future__ import annotations

import gzip
import importlib.util
import sqlite3
from pathlib import Path
from types import ModuleType

import pytest

from tests.conftest import ROOT

PROSE = "这个程序可以在没有网络的时候使用，也可以和别的程序一起使用。"


@pytest.fixture(scope="module")
def fetch() -> ModuleType:
    path = ROOT / "egs/punctuation/s0/local/fetch_modern.py"
    spec = importlib.util.spec_from_file_location("fetch_modern", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_page_gives_its_paragraphs(fetch: ModuleType, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text(
        f"<nav><p>{PROSE}</p></nav><h1>标题</h1><p>用 <code>apt</code> 吧，<b>好</b>吗？</p>"
        f"<pre>ls</pre><table><tr><td><p>{PROSE}</p></td></tr></table>"
        f'<div class="para">{PROSE}<sup>1</sup></div><ul><li><p>{PROSE}</p></li></ul>',
        encoding="utf8",
    )
    assert [found for found in fetch.from_html(page) if found] == ["用 apt 吧，好吗？", PROSE]


def test_a_manual_page_gives_its_paragraphs(fetch: ModuleType, tmp_path: Path) -> None:
    page = tmp_path / "a.1.gz"
    text = f".TH A 1\n.SH 描述\n{PROSE[:10]}\n{PROSE[10:]}\n.PP\n使用\n.B \\-a\n选项。\n.nf\n"
    page.write_bytes(gzip.compress(text.encode()))
    assert [found for found in fetch.from_roff(page) if found] == [PROSE, "使用 -a 选项。"]


def test_statutes_give_paragraphs_without_enumerations(fetch: ModuleType, tmp_path: Path) -> None:
    database = sqlite3.connect(tmp_path / "laws.db")
    database.execute("CREATE TABLE articles (id INTEGER, status TEXT, article_text TEXT)")
    rows = [
        (2, "现行有效", f"{PROSE}\n（一）甲；\n乙。"),
        (1, "现行有效", "丙。"),
        (3, "已废止", "丁。"),
    ]
    database.executemany("INSERT INTO articles VALUES (?, ?, ?)", rows)
    database.commit()
    database.close()
    assert list(fetch.from_laws(tmp_path / "laws.db")) == ["丙。", PROSE, "乙。"]


@pytest.mark.parametrize(
    ("paragraph", "kept"),
    [
        (f"  {PROSE[:9]}\n   {PROSE[9:]} ", f"{PROSE[:9]} {PROSE[9:]}"),
        ("A&amp;B " + PROSE, "A&B " + PROSE),
        ("太短了，好。", ""),
        ("没有标点的一行文字是标题或者表格的一格", ""),
        (PROSE + "见 https://example.org", ""),
        (PROSE + "$1", ""),
        (PROSE + " mostly English words, which is no Chinese prose at all", ""),
        (PROSE + "これは日本語です", ""),
    ],
)
def test_only_prose_is_kept(fetch: ModuleType, paragraph: str, kept: str) -> None:
    assert fetch.clean(paragraph) == kept
