"""Results go to their folder, then to whoever asked; ids that were left out come along in order."""

from __future__ import annotations

import logging

from paraformer.data.inputs.sources import Item, ListedItems
from paraformer.options import CallOptions
from paraformer.output.result import Result
from paraformer.output.sink import Output
from paraformer.output.tables import SPEECH

ITEMS = ListedItems(Item(key, None) for key in "abcde")


def run(folder, items=ITEMS, resume=False, wrong=()):
    call = CallOptions(output_dir=str(folder), resume=resume)
    output = Output(call, items.total, SPEECH)
    given = []

    def results():
        for item in output.pending(items.keyed()):
            given.append((item.key, item.skipped))
            error = "lost" if item.key in wrong else None
            yield Result.of(item, text=item.key * 2, error=error, rows=[{"text": item.key * 2}])

    found = output.stream(results())
    return found, given


def test_a_line_is_written_before_its_result_is_given(tmp_path, caplog):
    found, _ = run(tmp_path, wrong="b")
    table = tmp_path / "1best_recog" / "text"
    with caplog.at_level(logging.ERROR):
        for key in "ab":
            assert next(found)["key"] == key
            assert table.read_text().splitlines()[-1] == f"{key} {key}{key}"
    assert caplog.messages == ["'b': lost"]
    found.close()
    assert (tmp_path / "failed").read_text() == "b lost\n"


def test_what_is_left_out_travels_with_the_next_one(tmp_path):
    first, _ = run(tmp_path, ListedItems(ITEMS[1:3]))
    assert len(list(first.found)) == 2
    again, given = run(tmp_path, resume=True)
    assert [result.key for result in again.found] == ["a", "d", "e"]
    assert given == [("a", ()), ("d", ("b", "c")), ("e", ())]
    assert again.skipped == 2
    lines = (tmp_path / "1best_recog" / "text").read_text().split()[::2]
    assert lines == list("abcde")
