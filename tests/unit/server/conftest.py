"""One model and one server for all tests of a process."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="session")
def model():
    from paraformer.api.auto import AutoModel
    from tests.serving import MODELS

    return AutoModel("paraformer-zh-mini", **MODELS)


@pytest.fixture(scope="session")
def served(model):
    """What makes the model of a server."""
    from paraformer.api.service import ServedModel

    return lambda before: ServedModel(model, before)


@pytest.fixture(scope="session")
def server(served):
    from tests.serving import running

    with running(served, max_sessions=20, max_queue=8) as found:
        yield found


@pytest.fixture(scope="session")
def texts(model):
    """What `generate` says of each clip."""
    from tests.serving import CLIPS, clip

    results = model.generate([str(clip(name)) for name in CLIPS])
    return {name: result["text"] for name, result in zip(CLIPS, results, strict=True)}
