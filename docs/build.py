"""Gather the pages of the documents in a folder, for mkdocs: `docs/build.py exp/docs/pages`.

Those of docs/pages are written by hand, READMEs are taken as they are, and options, programs and
extras are listed by the code itself. Links to files that are no page become their names.
"""

from __future__ import annotations

import configparser
import contextlib
import io
import os
import re
import sys
from functools import partial
from importlib import import_module
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from paraformer import options as opts  # noqa: E402
from paraformer.cli import merge, serve  # noqa: E402
from paraformer.cli.command_line import KINDS, as_typed  # noqa: E402
from paraformer.cli.main import main as funasr  # noqa: E402
from paraformer.data.audio.read import read_audio  # noqa: E402
from paraformer.nn.chunks import make_plan, streaming_rule  # noqa: E402
from paraformer.report.figures import Look  # noqa: E402
from paraformer.report.turns_plot import draw_turns  # noqa: E402

# README of the repository -> its page.
PAGES = {
    "README.md": "index.md",
    "bin/README.md": "bin.md",
    "paraformer/README.md": "paraformer.md",
    "paraformer/server/README.md": "server.md",
    "egs/README.md": "egs.md",
    "egs/batch/README.md": "batch.md",
    "tests/README.md": "tests.md",
    "CHANGELOG.md": "changes.md",
}
PICTURES = {"docs/alignment.png": "alignment.png"}
SERVED = {"service": opts.ServeOptions}
_LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)#\s]*)(#[^)\s]*)?\)")


def build(place: Path) -> None:
    """Write all pages and pictures into a folder."""
    place.mkdir(parents=True, exist_ok=True)
    for name, page in PAGES.items():
        text = (ROOT / name).read_text("utf-8")
        (place / page).write_text(_LINK.sub(partial(_link, name), text), "utf-8")
    for page in (ROOT / "docs/pages").glob("*.md"):
        text = page.read_text("utf-8").replace("@extras@", extras())
        (place / page.name).write_text(text, "utf-8")
    (place / "options.md").write_text(options_page(), "utf-8")
    (place / "programs.md").write_text(programs_page(), "utf-8")
    for name, picture in PICTURES.items():
        (place / picture).write_bytes((ROOT / name).read_bytes())
    draw_chunks(place / "chunks.png")
    draw_cif(place / "cif.png")
    draw_speakers(place / "speakers.png")


def _link(name: str, found: re.Match[str]) -> str:
    """A link of a README as one between pages."""
    mark, text, target, anchor = found[1], found[2], found[3], found[4] or ""
    if not target or "://" in target:
        return found[0]
    path = os.path.normpath(ROOT / Path(name).parent / target)
    inside = Path(path).relative_to(ROOT).as_posix()
    page = {**PAGES, **PICTURES}.get(inside)
    if page is None:
        return text if text.startswith("[") else f"{text} (`{inside}`)"
    return f"{mark}[{text}]({page}{anchor})"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;").replace("*", "\\*")


def options_page() -> str:
    """A table of every option: key, default, help."""
    parts = [
        "# Options\n",
        "`key=value`, `+key=value`, `++key=value` and `--key value` are equal.\n",
    ]
    for title, kind in {**KINDS, **SERVED}.items():
        parts.append(f"\n## {title.capitalize()}\n\n| key | default | |\n| --- | --- | --- |")
        for name, option in opts.all_fields(kind).items():
            default = as_typed(opts.default_of(option))
            shown = f"`{default}`" if default else ""
            parts.append(f"| `{name}` | {shown} | {_cell(option.metadata['help'])} |")
    return "\n".join(parts) + "\n"


def programs_page() -> str:
    """The `--help` of every program."""
    parts = ["# Programs\n", "What `--help` of each says.\n", "\n## funasr\n", _block(said(funasr))]
    parts += ["\n## funasr serve\n", _block(serve.help_text())]
    parts += ["\n## funasr merge\n", _block(merge.help_text())]
    for path in sorted((ROOT / "bin").glob("*.py")):
        if path.stem != "funasr":
            program = import_module(f"paraformer.programs.{path.stem}")
            parts += [f"\n## {path.stem}\n", _block(said(program.main))]
    return "\n".join(parts)


def said(program) -> str:
    """The help of a program, which is called in this process."""
    before, sys.argv = sys.argv, ["", "--help"]
    try:
        with contextlib.redirect_stdout(io.StringIO()) as shown:
            program()
    finally:
        sys.argv = before
    return shown.getvalue()


def _block(text: str) -> str:
    return "\n".join(f"    {line}".rstrip() for line in text.splitlines()) + "\n"


def extras() -> str:
    """The rows of the extras and their packages, as setup.cfg has them."""
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    rows = setup["options.extras_require"].items()
    return "\n".join(f"| `{name}` | {_cell(', '.join(lines.split()))} |" for name, lines in rows)


def draw_chunks(path: Path) -> None:
    """Draw who sees whom in a stream of 40 frames, by the plan of the chunks themselves."""
    import torch
    from matplotlib.figure import Figure

    size = (0, 10, 5)
    rule, frames = streaming_rule(size, look_back=1, memory_back=1), 40
    plan = make_plan(torch.tensor([frames]), rule, frames)
    of_stream = plan.frames[0]
    seen = torch.zeros(len(of_stream), frames)
    for row in range(len(of_stream)):
        for other in of_stream[plan.visible[0, 0, row]].tolist():
            if other < frames:
                seen[row, other] = 1.0
    figure = Figure(figsize=(7, 7), layout="constrained")
    axes = figure.add_subplot()
    axes.imshow(seen[plan.real[0]], cmap="Blues", aspect="auto", interpolation="nearest")
    axes.set_xlabel("frame of the stream (60 ms each)")
    axes.set_ylabel("frame as it is computed, chunk after chunk")
    axes.set_title(f"chunk_size={list(size)}, encoder_chunk_look_back=1".replace(" ", ""))
    figure.savefig(path, dpi=100)


def draw_cif(path: Path) -> None:
    """Draw the demo clip with its weights by the program that does so for users."""
    clip = ROOT / "paraformer/bundled/paraformer-zh-mini/example/asr_example.wav"
    plot = import_module("paraformer.programs.plot_alignment")
    before = sys.argv
    sys.argv = [
        "",
        "model=paraformer-zh-mini",
        f"wav={clip}",
        f"out={path}",
        "dpi=100",
        "device=cpu",
    ]
    try:
        if plot.main():
            raise SystemExit("docs: no picture of the demo clip")
    finally:
        sys.argv = before


def draw_speakers(path: Path) -> None:
    """Draw a conversation made of demo clips, whose speakers are known."""
    import torch

    folder = ROOT / "paraformer/bundled/paraformer-zh-mini/example"
    clips = [("A", "demo_2"), ("B", "demo_3"), ("A", "demo_2")]
    waves = [(name, read_audio(folder / f"{clip}.wav", target_fs=16000)) for name, clip in clips]
    turns, begin = [], 0.0
    for name, wave in waves:
        turns.append((begin, begin + len(wave) / 16000, name))
        begin = turns[-1][1]
    sound = torch.cat([wave for _, wave in waves]).numpy()
    draw_turns(sound, 16000, {"turns": turns}, Look(width=10.0)).savefig(path, dpi=100)


if __name__ == "__main__":
    build(Path(sys.argv[1]))
