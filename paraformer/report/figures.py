"""Figures of matplotlib: the part of a recording that they show, fonts that have all signs of a
text, files of every format that there is.
"""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from paraformer.errors import ConfigError, writing
from paraformer.extras import load_extra
from paraformer.limits import Limits, check_values

if TYPE_CHECKING:
    from matplotlib.figure import Figure

log = logging.getLogger(__name__)

# Fonts with Chinese signs that systems bring along, the first one found is taken.
FONTS = (
    *("Noto Sans CJK SC", "Noto Sans SC", "Source Han Sans SC", "Source Han Sans CN"),
    *("PingFang SC", "Hiragino Sans GB", "Heiti SC", "Microsoft YaHei", "SimHei"),
    *("WenQuanYi Zen Hei", "WenQuanYi Micro Hei", "Droid Sans Fallback"),
)
# Of the options of a program that draws a recording.
LIMITS = {
    "dpi": Limits(10, 2000),
    "width": Limits(0, 200),
    "height": Limits(1, 200),
    "begin": Limits(0),
}


class Look(NamedTuple):
    """The style of a drawing of a recording, and the part that it shows."""

    title: str = ""
    begin: float = 0.0  # seconds, the part that is shown
    end: float | None = None
    width: float = 0.0  # inches; 0: by the length of what is shown
    height: float = 4.2
    font: str = ""  # file of a font; "": one of the system's that has the signs

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> Look:
        """That of the options of a program, within their limits; None: the default."""
        check_values({name: options[name] for name in LIMITS}, LIMITS)
        given = {name: options[name] for name in cls._fields}
        return cls(**{name: value for name, value in given.items() if value is not None})


def new_figure(look: Look, seconds: float, use: str) -> tuple[Figure, tuple[float, float]]:
    """An empty figure of a recording of that length, and where the part that it shows begins and
    ends; use: what asks for matplotlib.
    """
    figure = load_extra("matplotlib.figure", use).Figure
    end = seconds if look.end is None else min(look.end, seconds)
    if not 0 <= look.begin < end:
        raise ConfigError(
            f"begin={look.begin:g}, end={end:g}: give two times in order, inside {seconds:.2f} s"
        )
    width = look.width or min(max(6.5, 1.6 * (end - look.begin)), 40.0)
    return figure(figsize=(width, look.height), layout="constrained"), (look.begin, end)


def save_figure(figure: Figure, path: str | Path, option: str, dpi: float | None = None) -> None:
    """Write a figure in the format that the suffix of the path names; option: which one gave it."""
    try:
        with warnings.catch_warnings(), writing(path):
            warnings.filterwarnings("ignore", "Glyph .* missing")  # `font_for` says it of all signs
            figure.savefig(path, dpi="figure" if dpi is None else dpi)
    except ValueError as error:  # a suffix that matplotlib has no format for
        raise ConfigError(f"{option}={path}: {error}") from error


def font_for(file: str, text: str) -> object:
    """Properties of a font that has all signs of a text; where there is none, a warning says so.

    file: of the font; "": one of the system's is looked for.
    """
    from matplotlib.font_manager import FontProperties

    signs = {ord(sign) for sign in text if not sign.isspace()}
    if file:
        if not Path(file).is_file():
            raise ConfigError(f"font={file}: no such file; give a .ttf, .otf or .ttc")
        if not signs <= _signs(file):
            log.warning("font=%s: has not all signs of the text; boxes stand for them", file)
        return FontProperties(fname=file)
    for look_again in (False, True):
        for name, path in _fonts(look_again):
            if signs <= _signs(path):
                return FontProperties(family=name)
    log.warning(
        "no font here has all signs of the text, boxes stand for them; "
        "apt-get install fonts-noto-cjk, or give font=FILE"
    )
    return FontProperties()


def _fonts(look_again: bool) -> Iterator[tuple[str, str]]:
    """Names and files of matplotlib's own font, and of those of `FONTS` that are installed.

    look_again: matplotlib's list is of the day when it was first used; add what came since.
    """
    from matplotlib.font_manager import findSystemFonts, fontManager

    if look_again:
        known = {font.fname for font in fontManager.ttflist}
        for path in sorted(set(findSystemFonts()) - known):
            with contextlib.suppress(RuntimeError, OSError):  # some are no fonts, as before
                fontManager.addfont(path)
    installed = {font.name: font.fname for font in reversed(fontManager.ttflist)}
    for name in ("DejaVu Sans", *FONTS):
        if name in installed:
            yield name, installed[name]


def _signs(path: str) -> set[int]:
    from matplotlib.ft2font import FT2Font

    try:
        return set(FT2Font(path).get_charmap())
    except RuntimeError as error:
        raise ConfigError(f"{path}: is no font ({error}); give a .ttf, .otf or .ttc") from error
