"""tests/unit mirrors the package: data/audio/read.py is tested by unit/data/audio/test_read.py.

Programs, and what of `cli` is seen in a process alone, are tested by cli/test_<name>.py. A module
without such a file stands in TESTED_BY; a file of tests/unit that has no module's name stands there
as the one that tests something.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.test_layers import MODULES, imports_of_ours

TESTS = ROOT / "tests"
TESTED_BY = {
    **dict.fromkeys(("output.merge", "programs.merge_results", "cli.merge"), "cli/test_shards.py"),
    # A door: what stands behind it is tested through it.
    "__main__": "cli/test_funasr.py",
    "as_funasr.__main__": "cli/test_as_funasr.py",
    "as_funasr.funasr": "cli/test_as_funasr.py",
    # Parts of what users call as one: their results are that one's.
    "api.alignment": "whole/test_word_times.py",
    "api.graphs": "unit/cli/test_export.py",
    "api.detection": "unit/api/test_auto.py",
    "api.keywords": "unit/api/test_auto.py",
    "api.other_tasks": "unit/api/test_auto.py",
    "api.tasks": "unit/api/test_auto.py",
    "api.speakers": "cli/test_embed.py",
    "api.tellers": "unit/api/test_enrolment.py",
    "programs.enroll": "unit/api/test_enrolment.py",
    "decode.detector": "unit/api/test_live.py",
    "cli.show": "unit/output/test_timed_folder.py",
    # Formats of sound: each is read through `read_audio`, by its content.
    "data.audio.arrays": "unit/data/audio/test_read.py",
    "data.audio.au_caf": "unit/data/audio/test_soundfiles.py",
    "data.audio.bare_frames": "unit/data/audio/test_mpeg.py",
    "data.audio.file_views": "unit/data/audio/test_soundfiles.py",
    "data.audio.signatures": "unit/data/audio/test_containers.py",
    # Steps of one work on a data directory, a list or a text, which is tested whole.
    "data.batches.selection": "unit/data/batches/test_shards.py",
    "data.corpus.archives": "whole/test_one_bad_item.py",
    "data.corpus.combination": "unit/data/corpus/test_companions.py",
    "data.corpus.ids": "unit/data/inputs/test_sources.py",
    "data.corpus.origins": "unit/data/corpus/test_ctm.py",
    "data.corpus.repair": "unit/data/corpus/test_datadir.py",
    "data.corpus.transcripts": "unit/data/text/test_tokenizer.py",
    "data.inputs.audio_items": "unit/data/inputs/test_sources.py",
    "data.inputs.names": "unit/data/corpus/test_texts.py",
    "data.text.syllables": "unit/data/text/test_lexicon.py",
    "data.corpus.tags": "unit/data/text/test_score.py",
    "decode.number_value": "unit/decode/test_itn.py",
    "decode.number_words": "unit/decode/test_itn.py",
    "decode.word_tree": "unit/decode/test_hotword_boost.py",
    # A server that speaks both protocols, and the hubs' own libraries beside it.
    "hub.huggingface": "unit/hub/test_libraries.py",
    "hub.modelscope": "unit/hub/test_libraries.py",
    "hub.repository": "unit/hub/test_download.py",
    "hub.transport": "unit/hub/test_download.py",
    "hub.weights": "unit/hub/test_directories.py",
    # What of the server is seen from outside alone.
    "server.client": "cli/test_client.py",
    "server.metrics": "unit/server/test_app.py",
    "server.web": "cli/test_serve.py",
    # Layers whose numbers are those of the blocks around them, and of the reference.
    "models.bicif": "parity/test_bicif.py",
    # Released directories are written, read and built in one go.
    "models.builders": "unit/models/test_release.py",
    "models.weights": "unit/models/test_release.py",
    # The choice of an engine and what every engine has, by the one that there is.
    "backends.torch_voices": "unit/decode/test_voices.py",
    "backends.engines": "unit/backends/test_torch_engine.py",
    "backends.face": "unit/backends/test_torch_engine.py",
    # A directory of graphs is written, run and read in one go.
    "export.onnx_file": "unit/export/test_directory.py",
    "export.proof": "unit/export/test_directory.py",
    "programs.export_onnx": "unit/export/test_directory.py",
    # Whatever fails in the whole package.
    "backends.halves": "whole/test_one_bad_item.py",
    "errors": "whole/test_faults.py",
    "progress": "unit/output/test_resume.py",
    # Programs that are tested beside those whose files they make or use.
    "programs.average_model": "unit/test_files.py",
    "programs.compute_cmvn": "cli/test_make_fbank.py",
    "programs.extend_model": "whole/test_finetune.py",
    "programs.find_lr": "whole/test_finetune.py",
    "programs.make_shards": "unit/data/batches/test_shards.py",
    "programs.score_punctuation": "cli/test_punctuate.py",
    "programs.select_model": "whole/test_finetune.py",
    "programs.train_punctuation": "recipes/test_punctuation.py",
    "programs.verify": "cli/test_embed.py",
    "cli.comparison": "cli/test_embed.py",
    "report.det_plot": "cli/test_embed.py",
    "data.corpus.der": "cli/test_score_der.py",
    "data.corpus.rttm": "cli/test_score_der.py",
    "programs.score_norm": "cli/test_embed.py",
    "programs.train_vad": "cli/test_score_vad.py",
    "programs.train_speaker": "unit/train/test_speakers.py",
    # Parts of programs.
    "programs.growing_archive": "cli/test_make_fbank.py",
    "programs.hydra_main": "unit/cli/test_arguments.py",
    "programs.schedule": "cli/test_score_vad.py",
    "models.side_files": "whole/test_finetune.py",
    "programs.utterances": "cli/test_train.py",
    "report.alignment_plot": "cli/test_plot_alignment.py",
    "report.figures": "cli/test_plot_alignment.py",
    "report.turns_plot": "cli/test_plot_turns.py",
    "train.parallel": "cli/test_train_parallel.py",
}


def mirrored(name: str) -> list[Path]:
    """Where the test file of a module's name may lie."""
    *rooms, leaf = name.split(".")
    places = [TESTS.joinpath("unit", *rooms, f"test_{leaf}.py")]
    if rooms[:1] in (["cli"], ["programs"]):
        places.append(TESTS / "cli" / f"test_{leaf}.py")
    return places


def leaves() -> list[str]:
    """The modules that hold something: all but the folders' door plates."""
    return [name for name, path in MODULES.items() if path.name != "__init__.py"]


@pytest.mark.parametrize("name", leaves())
def test_a_module_has_a_test_file_of_its_name_or_says_who_tests_it(name):
    found = any(place.is_file() for place in mirrored(name))
    assert found != (name in TESTED_BY), "a file of its name, or a row of TESTED_BY; not both"


def test_the_table_names_modules_that_there_are():
    assert set(TESTED_BY) <= set(leaves())


def reached(test: Path) -> set[str]:
    """The modules that a test file imports or starts as programs, and what these import in turn."""
    text = test.read_text(encoding="utf-8")
    words = set(re.findall(r"\w+", text))
    started = {f"programs.{word}" for word in words} | {"__main__" for word in words & {"funasr"}}
    left = (imports_of_ours(test) | started) & set(MODULES) - {""}
    found: set[str] = set()
    while left:
        name = left.pop()
        found.add(name)
        left |= imports_of_ours(MODULES[name]) - found
    return found


# A recipe's test names a script, and the script the programs.
@pytest.mark.parametrize(
    "test", sorted(test for test in set(TESTED_BY.values()) if not test.startswith("recipes/"))
)
def test_a_file_of_the_table_reaches_what_it_is_said_to_test(test):
    said = {name for name, file in TESTED_BY.items() if file == test}
    assert said <= reached(TESTS / test)


def test_every_file_of_the_mirror_has_something_that_it_reflects():
    """In tests/unit a file has a module's name, or the table names it as the one that tests it."""
    known = {place for name in leaves() for place in mirrored(name)}
    known |= {TESTS / file for file in TESTED_BY.values()}
    assert set((TESTS / "unit").rglob("test_*.py")) <= known


def test_the_mirror_has_the_rooms_of_the_package():
    rooms = {path.parent.relative_to(TESTS / "unit") for path in (TESTS / "unit").rglob("*.py")}
    assert all((ROOT / "paraformer" / room).is_dir() for room in rooms)
