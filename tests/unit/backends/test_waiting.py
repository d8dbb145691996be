"""How threads wait is settled before torch is loaded, and a user's own choice stays."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from paraformer.backends.waiting import MOST_SPINS, POLICY, SETTLED, SPINS


def policy(code: str, **given: str) -> str:
    """What OpenMP would read in a process that runs this code."""
    code += f"; import os; print(*[os.environ.get(name, '-') for name in ('{POLICY}', '{SPINS}')])"
    clean = {name: value for name, value in os.environ.items() if name not in SETTLED}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env={**clean, **given}, capture_output=True, check=True)
    return done.stdout.decode().strip()


@pytest.mark.parametrize(
    ("code", "given", "expected"),
    [
        ("import paraformer", {}, f"passive {MOST_SPINS}"),
        ("import paraformer.programs.decode", {}, f"passive {MOST_SPINS}"),
        ("import paraformer", {POLICY: "active"}, "active -"),
        ("import paraformer", {SPINS: "100"}, "- 100"),
        ("import sys; sys.modules['torch'] = None; import paraformer", {}, "- -"),
    ],
)
def test_threads_sleep_unless_a_user_or_an_earlier_torch_has_settled_it(code, given, expected):
    assert policy(code, **given) == expected
