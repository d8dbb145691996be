"""The beginnings by which files are known, and who reads their sound."""

from __future__ import annotations

import re
from typing import NamedTuple

from paraformer.data.audio.riff import WAVE64

SOUNDFILE, FFMPEG, NOBODY, NONE = "libsndfile", "ffmpeg", "nobody", "none"


class Kind(NamedTuple):
    """A kind of content: what it is called, and what reads its sound; `NONE` if it has none."""

    name: str
    reader: str

    @property
    def is_audio(self) -> bool:
        """Whether it holds sound that can be decoded."""
        return self.reader in (SOUNDFILE, FFMPEG)

    @property
    def fault(self) -> str:
        """Its name, and why it cannot be read, behind `it is`."""
        why = "not audio" if self.reader == NONE else "which neither libsndfile nor ffmpeg decodes"
        return f"{self.name}, {why}"


TEXT = Kind("text", NONE)
SPHERE = Kind("NIST SPHERE", SOUNDFILE)
SHORTEN = Kind("NIST SPHERE compressed by shorten (sph2pipe undoes it)", NOBODY)
_MAGIC: dict[str, dict[str, tuple[bytes, ...]]] = {
    SOUNDFILE: {
        "WAV": (b"RIFX",),
        "RF64": (b"RF64",),
        "BW64": (b"BW64",),
        "Wave64": (WAVE64[:8],),
        "Ogg": (b"OggS",),
        "FLAC": (b"fLaC",),
        "CAF": (b"caff",),
        "AU": (b".snd", b"dns."),
        "AVR": (b"2BIT",),
        "PAF": (b" paf", b"fap "),
        "Psion WVE": (b"ALawSoundFile**",),
        "PVF": (b"PVF1\n",),
        "VOC": (b"Creative Voice File\x1a",),
        SPHERE.name: (b"NIST_1A\n",),
        "XI": (b"Extended Instrument: ",),
        "MATLAB 5.0": (b"MATLAB 5.0 MAT-file",),
    },
    FFMPEG: {
        "Matroska or WebM": (b"\x1aE\xdf\xa3",),
        "AMR": (b"#!AMR",),
        "WMA": (b"0&\xb2u\x8ef\xcf\x11",),
        "FLV": (b"FLV\x01",),
        "AAC": (b"ADIF",),
        "Monkey's Audio": (b"MAC ",),
        "WavPack": (b"wvpk",),
        "True Audio": (b"TTA1", b"TTA2"),
        "TAK": (b"tBaK",),
        "Musepack": (b"MPCK",),
        "RealMedia": (b".RMF",),
        "RealAudio": (b".ra\xfd",),
        "MPEG video": (b"\x00\x00\x01\xba",),
        "DSD (DSF)": (b"DSD ",),
        "DSD (DSDIFF)": (b"FRM8",),
        "ATRAC": (b"EA3\x01", b"ea3\x03"),
        "DTS": (b"\x1f\xff\xe8\x00\x07", b"\xff\x1f\x00\xe8"),
        "DTS-HD": (b"DTSHDHDR",),
        "Shorten": (b"ajkg",),
        "SoX": (b".SoX", b"XoS."),
        "Codec 2": (b"\xc0\xde\xc2\x00",),
        "NUT": (b"nut/multimedia container\x00",),
        "MXF": (b"\x06\x0e+4\x02\x05\x01\x01",),
        "WTV": (b"\xb7\xd8\x00 7I\xda\x11",),
        "iLBC": (b"#!iLBC",),
        "DSS": (b"\x02dss", b"\x03dss"),
        "S/PDIF": (b"r\xf8\x1fN", b"\xf8rN\x1f"),
    },
    NOBODY: {
        "SILK": (b"#!SILK", b"\x02#!SILK"),
        "OptimFROG": (b"OFR ",),
        "EVRC": (b"#!EVRC",),
        "QCELP": (b"#!QCELP",),
        "DS2": (b"\x03ds2",),
        "SoundTool": (b"SOUND\x1a",),
        "Turtle Beach SampleVision": (b"SOUND SAMPLE DATA ",),
        "Yamaha TX-16W": (b"LM8953",),
        "Psion record": (b"7\0\0\x10m\0\0\x10",),
    },
    NONE: {
        "a zip archive": (b"PK\x03\x04", b"PK\x05\x06"),
        "an xz archive": (b"\xfd7zXZ\x00",),
        "a Zstandard archive": (b"(\xb5/\xfd",),
        "a 7z archive": (b"7z\xbc\xaf'\x1c",),
        "a RAR archive": (b"Rar!\x1a\x07",),
        "an LZ4 archive": (b'\x04"M\x18',),
        "a PNG image": (b"\x89PNG\r\n",),
        "a GIF image": (b"GIF8",),
        "a TIFF image": (b"II*\x00", b"MM\x00*"),
        "a PDF document": (b"%PDF-",),
        "a PostScript document": (b"%!PS",),
        "an Office document": (b"\xd0\xcf\x11\xe0\xa1\xb1",),
        "a SQLite database": (b"SQLite format 3\x00",),
        "a program": (b"\x7fELF",),
        "MIDI": (b"MThd",),
        "a numpy file": (b"\x93NUMPY",),
        "an HDF5 file": (b"\x89HDF\r\n",),
        "a Parquet file": (b"PAR1",),
        "a Kaldi matrix": (b"\x00BFM ", b"\x00BDM ", b"\x00BCM"),
        "a Kaldi vector": (b"\x00BFV ", b"\x00BDV "),
    },
}
MAGIC = [
    (magic, Kind(name, reader))
    for reader, names in _MAGIC.items()
    for name, magics in names.items()
    for magic in magics
]
# Beginnings of files whose kind 12 bytes tell.
FORMS = (b"RIFF", b"FORM", b"RF64", b"BW64", WAVE64[:4])
# By bytes of which some may be anything; of two that fit the first counts.
_PATTERNS = [
    (rb"RIFF....AVI ", Kind("AVI", FFMPEG)),
    (rb"RIFF....(XWMA|QLCM)", Kind("xWMA or QCELP", FFMPEG)),
    (rb"RIFF....WEBP", Kind("a WebP image", NONE)),
    (rb"RIFF....(RMID|ACON|sfbk)", Kind("RIFF without sound", NONE)),
    (rb"RIFF", Kind("WAV", SOUNDFILE)),
    (rb"FORM....(ILBM|PBM |ANIM)", Kind("an IFF image", NONE)),
    (rb"FORM....MAUD", Kind("MAUD", FFMPEG)),
    (rb"FORM", Kind("AIFF or SVX", SOUNDFILE)),
    (rb"....ftyp", Kind("MP4 or M4A", FFMPEG)),
    (rb"....(moov|mdat|wide|pnot|free|skip)", Kind("QuickTime", FFMPEG)),
    (rb"....\xf8ro[\xba\xbb]", Kind("MLP or TrueHD", FFMPEG)),
    (rb"ID3[\x02-\x04]", Kind("MP3", SOUNDFILE)),
    (rb"MP\+[\x07\x17]", Kind("Musepack", FFMPEG)),
    # The rate, a float, and channels, in either order of bytes.
    (
        rb"(d\xa3[\0-\x07]\0|\0[\0-\x07]\xa3d)"
        rb"(...[\x44-\x49].[\0\x01]\0\0|[\x44-\x49]...\0\0[\0\x01].)",
        Kind("IRCAM", SOUNDFILE),
    ),
    # How many samples, a period of up to 1 ms, 2 bytes a sample, a waveform.
    (rb"[\0-\x7f]...\0\0[\0-\x27].\0\x02\0\0", Kind("HTK", SOUNDFILE)),
    (rb"\x01\x04[ -~]{8}[ -~\0]{9}[\0-\xc8]", Kind("Akai MPC 2000", SOUNDFILE)),
    (rb"\xf0\x7e.\x01.{16}\xf7", Kind("MIDI sample dump", SOUNDFILE)),
    (rb".{20}samplerate\0", Kind("MATLAB 4", SOUNDFILE)),
    (rb".{20}vs12", Kind("APM", FFMPEG)),
    (rb"[FCZ]WS[\x01-\x32]", Kind("Flash", FFMPEG)),
    (rb"\x80\0..(.{0,300}?)\(c\)CRI", Kind("ADX", FFMPEG)),
    (rb"BZh[1-9](1AY&SY|\x17rE8P)", Kind("a bzip2 archive", NONE)),
    (rb"\x1f\x8b\x08[\0-\x1f]", Kind("a gzip archive", NONE)),
    (rb"\xff\xd8\xff[\xc0-\xfe]", Kind("a JPEG image", NONE)),
    (rb"BM....\0\0\0\0..\0\0[\x0c\x28\x34\x38\x40\x6c\x7c]\0\0\0", Kind("a BMP image", NONE)),
    (rb"(?i:\s{0,9}<(html|!doctype html))", TEXT),
]
PATTERNS = [(re.compile(pattern, re.DOTALL), kind) for pattern, kind in _PATTERNS]
# Behind names that may be text.
LATE = [
    (re.compile(rb".{257}ustar", re.DOTALL), Kind("a tar archive", NONE)),
    (re.compile(rb".{65}FSSD", re.DOTALL), Kind("HCOM", FFMPEG)),
]
