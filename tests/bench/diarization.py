#!/usr/bin/env python3
"""Who speaks when in mixtures of real speakers: diarisation error rates over a grid of conditions.

    tests/bench/diarization.py --model cam++-mini --data DATA --out DIR [--peer PYTHON]
        [--speakers 2,3,4,8] [--sizes 20x60,3x600] [--overlap 0,0.3] [--vad fsmn-vad-mini]
    tests/bench/diarization.py ... --recordings DATA      recordings with an rttm instead

`egs/speaker/s0/local/mix_turns.py` mixes them of a Kaldi data directory, --sizes times seconds
each. Windows are embedded once for the speech that the VAD finds and once for that of the
reference, and clustered with the number of speakers known and unknown; with --peer also by
FunASR's own clustering of the same embeddings. Prints a row of a Markdown table for each.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402

from paraformer.api.diarization import ListeningSegmenter  # noqa: E402
from paraformer.data.audio.read import read_audio  # noqa: E402
from paraformer.data.corpus.der import DiarizationErrors, score_turns  # noqa: E402
from paraformer.data.corpus.rttm import NamedTurn, joined, read_rttm  # noqa: E402
from paraformer.data.corpus.tables import read_table  # noqa: E402
from paraformer.decode.clustering import Bounds, cluster, number_confidence  # noqa: E402
from paraformer.decode.endpoint import Span  # noqa: E402
from paraformer.decode.longform import Segmenter  # noqa: E402
from paraformer.decode.turns import turns  # noqa: E402
from paraformer.decode.vad import VoiceActivity  # noqa: E402
from paraformer.decode.voices import Voices, window_rows  # noqa: E402
from paraformer.hub.directories import find_model  # noqa: E402
from paraformer.models.release import load_speakers, load_vad  # noqa: E402

MIXER = ROOT / "egs/speaker/s0/local/mix_turns.py"
COLLARS = (0.25, 0.0)
OURS, THEIRS = "ours", "FunASR"
HEAD = (
    "| speakers | s | overlap | VAD | number | clustering | recordings | DER 0.25 "
    "(missed, false alarm, confusion) | DER 0 | number right | confidence right, wrong |"
)
# Reads embeddings of recordings, and writes the groups that FunASR's clustering makes of them.
PEER = """
import sys
import numpy as np, torch
from funasr.models.campplus.cluster_backend import ClusterBackend
cut = ClusterBackend(merge_thr=float(sys.argv[1]))
for path in sys.argv[2:]:
    found = np.load(path)
    for name, number in (("known", int(found["speakers"])), ("unknown", None)):
        np.random.seed(0)
        np.save(path[:-4] + f".{name}.npy", cut(torch.from_numpy(found["rows"]), oracle_num=number))
"""


class Heard(NamedTuple):
    """The windows of a recording, and who speaks in it."""

    spans: np.ndarray  # (N, 2) seconds
    rows: np.ndarray  # (N, E)
    said: list[NamedTurn]
    file: Path  # of the rows

    @property
    def speakers(self) -> int:
        """How many there are."""
        return len({turn.speaker for turn in self.said})


class Listener:
    """A VAD and a speaker model."""

    def __init__(self, model: str, vad: str) -> None:
        self.voices = Voices(load_speakers(find_model(model)))
        segmenter = Segmenter(VoiceActivity(load_vad(find_model(vad))))
        self.segmenter = ListeningSegmenter(segmenter, self.voices)
        self.merge = self.voices.likeness.merge_thr

    def hear(self, source: str, said: list[NamedTurn], true_speech: bool, file: Path) -> Heard:
        """The windows of a recording, which are kept in `file`."""
        known = None
        if true_speech:
            speech = joined([turn[:2] for turn in said])
            known = [Span(round(1000 * start), round(1000 * end)) for start, end in speech]
        wave = read_audio(source, target_fs=self.voices.rate)
        segments = self.segmenter.segments([wave], known)
        voices = [voice for segment in segments for voice in segment.voices]
        spans = np.array([voice[:2] for voice in voices]).reshape(-1, 2)
        found = Heard(spans, window_rows(voices), said, file)
        np.savez(file, rows=found.rows, speakers=found.speakers)  # what the peer reads
        return found


def errors_of(heard: Heard, labels: np.ndarray, collar: float) -> DiarizationErrors:
    """The errors of one recording by the speaker of each window."""
    told = turns([(float(a), float(b)) for a, b in heard.spans], labels.tolist())
    found = [NamedTurn(turn.start, turn.end, str(turn.speaker)) for turn in told]
    return score_turns(heard.said, found, collar=collar)


def told(heard: Sequence[Heard], labels: Sequence[np.ndarray], sure: Sequence[float | None]) -> str:
    """The cells of a row that say how right groups are; sure: how sure their numbers are."""
    rates = list[str]()
    for collar in COLLARS:
        whole = DiarizationErrors()
        for one, own in zip(heard, labels, strict=True):
            whole = whole.plus(errors_of(one, own, collar))
        parts = [f"{100 * part / whole.total:.2f}" for part in (whole.wrong, *whole[:3])]
        rates.append(parts[0] + (f" ({', '.join(parts[1:])})" if collar else ""))
    numbers = [own.max(initial=0) + 1 for own in labels]
    right = [number == one.speakers for number, one in zip(numbers, heard, strict=True)]
    shares = list[str]()
    for wanted in (True, False):
        own = [s for s, r in zip(sure, right, strict=True) if s is not None and r == wanted]
        shares.append(f"{np.mean(own):.2f}" if own else "-")
    return f"{' | '.join(rates)} | {sum(right)} of {len(right)} | {', '.join(shares)}"


def rows_of(heard: Sequence[Heard], merge: float, peer: str | None) -> Iterator[tuple[str, ...]]:
    """Number, clustering and result of each way to make groups of the same embeddings."""
    if peer:
        command = [peer, "-c", PEER, str(merge), *(str(one.file) for one in heard)]
        subprocess.run(command, check=True, stdout=sys.stderr)
    for name in ("known", "unknown"):
        groups, sure = [], list[float | None]()
        for one in heard:
            bounds = Bounds(one.speakers if name == "known" else None, merge=merge)
            groups.append(cluster(one.rows, bounds))
            sure.append(number_confidence(one.rows, bounds, groups[-1]))
        yield name, OURS, told(heard, groups, sure)
        if peer:
            theirs = [np.load(one.file.with_suffix(f".{name}.npy")) for one in heard]
            yield name, THEIRS, told(heard, theirs, [None] * len(heard))


def measure(listener: Listener, data: Path, out: Path, peer: str | None, head: str) -> None:
    """Print the rows of the recordings of a data directory, whose embeddings go into `out`; head:
    their first cells.
    """
    said, sources = read_rttm(data / "rttm"), read_table(data / "wav.scp")
    for vad in ("own", "true"):
        folder = out / f"windows.{vad}"
        folder.mkdir(parents=True, exist_ok=True)
        heard = [
            listener.hear(sources[key], said[key], vad == "true", folder / f"{key}.npz")
            for key in sources
        ]
        for number, clustering, cells in rows_of(heard, listener.merge, peer):
            print(f"| {head} | {vad} | {number} | {clustering} | {len(heard)} | {cells} |")
            sys.stdout.flush()


def main() -> int:
    """Measure all conditions."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", required=True)
    parser.add_argument("--vad", default="fsmn-vad-mini")
    parser.add_argument("--data", type=Path, help="clips to mix")
    parser.add_argument("--recordings", type=Path, help="recordings with an rttm")
    parser.add_argument("--out", type=Path, required=True, help="of mixtures and embeddings")
    parser.add_argument("--speakers", default="2,3,4,8")
    parser.add_argument("--sizes", default="20x60")
    parser.add_argument("--overlap", default="0,0.3")
    parser.add_argument("--seed", default="1")
    parser.add_argument("--peer")
    args = parser.parse_args()
    listener = Listener(args.model, args.vad)
    print(f"{HEAD}\n|{' --- |' * 11}")
    if args.recordings:
        measure(listener, args.recordings, args.out, args.peer, "- | - | -")
        return 0
    for size in args.sizes.split(","):
        count, seconds = size.split("x")
        for speakers in args.speakers.split(","):
            for overlap in args.overlap.split(","):
                out = args.out / f"{speakers}.{seconds}.{overlap}"
                if not (out / "rttm").is_file():
                    given = ("--speakers", speakers, "--number", count, "--seconds", seconds)
                    how = ("--overlap", overlap, "--seed", args.seed, args.data, out)
                    subprocess.run([sys.executable, MIXER, *given, *how], check=True)
                measure(listener, out, out, args.peer, f"{speakers} | {seconds} | {overlap}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
