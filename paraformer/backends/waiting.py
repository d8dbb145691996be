"""Threads that wait for work soon sleep, which is settled before torch is loaded.

GNU OpenMP, by which torch shares a product among threads, lets those that have done their part spin
until the next product comes. Where other processes are at work too, that takes the cores from the
threads that have something to do: a list of short clips took twice as long and 2.6 times the CPU.
To wake a thread that sleeps takes its time too, though, most of all in a virtual machine: 5 s of
audio by a large model on two quiet cores took 0.060 of real time with long spinning, 0.084 with
none and 0.067 as it is here; beside two other busy processes 0.4, 0.14 and 0.19.
"""

from __future__ import annotations

import os
import sys

POLICY = "OMP_WAIT_POLICY"
SPINS = "GOMP_SPINCOUNT"
# A user who names one of these has settled it.
SETTLED = (POLICY, SPINS, "KMP_BLOCKTIME")
# Rounds before a thread sleeps: some tens of microseconds, which pass between two products.
MOST_SPINS = "10000"


def sleep_while_waiting() -> None:
    """Ask OpenMP for threads that soon sleep; it reads this once, when torch is loaded. GNU's goes
    by the number, others by the policy.
    """
    if "torch" not in sys.modules and not any(name in os.environ for name in SETTLED):
        os.environ |= {POLICY: "passive", SPINS: MOST_SPINS}
