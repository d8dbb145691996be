"""Threads that wait for work sleep, which is settled before torch is loaded.

GNU OpenMP, by which torch shares a product among threads, lets those that have done their part spin
until the next product comes. Where other processes are at work too, that takes the cores from the
threads that have something to do: a list of short clips took twice as long and 2.6 times the CPU.
"""

from __future__ import annotations

import os
import sys

POLICY = "OMP_WAIT_POLICY"
# A user who names one of these has settled it.
SETTLED = (POLICY, "GOMP_SPINCOUNT", "KMP_BLOCKTIME")


def sleep_while_waiting() -> None:
    """Ask OpenMP for threads that sleep; it reads this once, when torch is loaded."""
    if "torch" not in sys.modules and not any(name in os.environ for name in SETTLED):
        os.environ[POLICY] = "passive"
