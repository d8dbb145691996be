"""The front end for audio that comes in pieces: the same features as of the whole, in their order.

A frame is given out as soon as all that it is made of has come, so with low frame rate stacking
some frames wait for those behind them until the stream ends.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from paraformer.data.features.frontend import Frontend
from paraformer.errors import ConfigError


class FrontendState(NamedTuple):
    """The rest of a stream that no feature has used up: less than a frame of samples (R,), and
    log-mel frames (K, n_mels), of which the next feature begins at row `offset`.
    """

    samples: Tensor
    frames: Tensor
    offset: int = 0


def frame_samples(frontend: Frontend) -> tuple[int, int]:
    """Length and shift of a frame in samples; a stream needs whole numbers and `snip_edges`."""
    sizes = [frontend.fs * ms / 1000 for ms in (frontend.frame_length, frontend.frame_shift)]
    if not frontend.snip_edges or any(size != int(size) for size in sizes):
        raise ConfigError(
            f"frontend: frames of {sizes[0]:g} samples every {sizes[1]:g}, snip_edges "
            f"{str(frontend.snip_edges).lower()}: a stream needs whole numbers and snip_edges true"
        )
    return int(sizes[0]), int(sizes[1])


def initial_state(frontend: Frontend) -> FrontendState:
    """The state of a stream that has not begun."""
    frame_samples(frontend)
    return FrontendState(torch.zeros(0), torch.zeros(0, frontend.n_mels))


def forward_chunk(
    frontend: Frontend, samples: Tensor, state: FrontendState, final: bool = False
) -> tuple[Tensor, FrontendState]:
    """samples (N,), any number of them -> features (n, n_mels * lfr_m) that are complete now.

    `final` ends the stream: what waits is given out with the last frame repeated, as `Frontend`
    does it, and the state is a fresh one. All pieces together are `Frontend` of the whole.

    >>> frontend = Frontend(lfr_m=7, lfr_n=6)
    >>> feats, state = forward_chunk(frontend, torch.zeros(16000), initial_state(frontend))
    >>> feats.shape, forward_chunk(frontend, torch.zeros(0), state, final=True)[0].shape
    (torch.Size([16, 560]), torch.Size([1, 560]))
    """
    length, shift = frame_samples(frontend)
    buffer = torch.cat([state.samples.to(samples.device), samples.float()])
    begun = len(state.frames) > 0
    if len(buffer) >= length:
        new = frontend.fbank(buffer)
        buffer = buffer[len(new) * shift :]
    elif final and not begun:
        new = frontend.fbank(buffer)  # the whole input is shorter than a frame
    else:
        new = samples.new_zeros(0, frontend.n_mels, dtype=torch.float32)
    left = (frontend.lfr_m - 1) // 2
    kept = state.frames.to(new.device) if begun else new[:1].repeat(left, 1)
    frames = torch.cat([kept, new])
    feats, used = _stack(frontend, frames, state.offset, final)
    if final:
        return feats, initial_state(frontend)
    # The last frame stays even where it is used up: the end of the stream may repeat it.
    first = max(0, min(len(frames) - 1, used))
    state = FrontendState(buffer.clone(), frames[first:].clone(), used - first)
    return feats, state


def _stack(frontend: Frontend, frames: Tensor, offset: int, final: bool) -> tuple[Tensor, int]:
    """Join frames (T, n_mels) from row `offset` on: features (n, D), the row of the next one."""
    m, n = frontend.lfr_m, frontend.lfr_n
    ready = len(frames) - offset
    # At the end a feature needs its middle frame only.
    least = (m - 1) // 2 + 1 if final else m
    count = (ready - least) // n + 1 if ready >= least else 0
    if count == 0:
        return frames.new_zeros(0, frontend.output_size), offset
    lacking = max(0, (count - 1) * n + m - ready)
    if lacking:
        frames = torch.cat([frames, frames[-1:].expand(lacking, -1)])
    width = frames.shape[1]
    frames = frontend.normalize_frames(frames[offset:])
    rows = frames.flatten().unfold(0, m * width, n * width)[:count]
    return frontend.normalize_stacked(rows).contiguous(), offset + count * n
