"""FSMN-VAD (arXiv 1803.05030 for the memory): which frames are silence, by looking back 200 ms in
each of four layers. Names of parameters are those of the released checkpoint.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from paraformer.errors import ConfigError

# Keys of a released configuration that change nothing: the reference does not read them, or they
# say once more what others say (frames are the front end's, sil_pdf_ids count themselves).
UNUSED_OPTIONS = (
    "sample_rate",
    "snr_mode",
    "do_start_point_detection",
    "do_end_point_detection",
    "nn_eval_block_size",
    "dcd_block_size",
    "fe_prior_thres",
    "silence_pdf_num",
    "speech_noise_thresh_low",
    "speech_noise_thresh_high",
    "output_frame_probs",
    "frame_length_ms",
    "rstride",
)


@dataclass(frozen=True)
class VadOptions:
    """`model_conf` of a released VAD, under its names: times in ms, thresholds in decibel.

    `max_end_silence_time` ends a segment; `speech_noise_thres` is by how much the probability of
    speech must exceed that of noise; detect_mode 0 finds the first segment alone.
    """

    detect_mode: int = 1
    max_end_silence_time: int = 800
    max_start_silence_time: int = 3000
    window_size_ms: int = 200
    sil_to_speech_time_thres: int = 150
    speech_to_sil_time_thres: int = 150
    speech_2_noise_ratio: float = 1.0
    do_extend: int = 1
    lookback_time_start_point: int = 200
    lookahead_time_end_point: int = 100
    max_single_segment_time: int = 60000
    snr_thres: float = -100.0
    noise_frame_num_used_for_snr: int = 100
    decibel_thres: float = -100.0
    speech_noise_thres: float = 0.6
    sil_pdf_ids: tuple[int, ...] = (0,)
    frame_in_ms: int = 10

    def __post_init__(self) -> None:
        object.__setattr__(self, "sil_pdf_ids", tuple(self.sil_pdf_ids))
        if self.detect_mode not in (0, 1):
            raise ConfigError(f"detect_mode={self.detect_mode}: 0 (one segment) or 1 (all)")
        if min(self.frame_in_ms, self.noise_frame_num_used_for_snr) < 1:
            raise ConfigError("frame_in_ms and noise_frame_num_used_for_snr must be above 0")
        for name in ("window_size_ms", "max_single_segment_time"):
            if getattr(self, name) < self.frame_in_ms:
                raise ConfigError(f"{name}={getattr(self, name)}: a frame is {self.frame_in_ms} ms")
        if not self.sil_pdf_ids:
            raise ConfigError("sil_pdf_ids: is empty; name the outputs that are silence, [0]")

    def in_frames(self, ms: int) -> int:
        """Whole frames in a time."""
        return int(ms) // self.frame_in_ms


class FsmnState(NamedTuple):
    """The frames that each layer still looks back to: memory (B, layers, proj_dim, order - 1)."""

    memory: Tensor


# Inside, time is the last dimension: products and the memory then run along it, a quarter faster.


class Affine(nn.Module):
    """A linear layer over channels, under the name that it has in the checkpoint."""

    def __init__(self, in_width: int, width: int, bias: bool = True) -> None:
        super().__init__()
        self.linear = nn.Linear(in_width, width, bias)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_width, T) -> (B, width, T)."""
        y = self.linear.weight @ x
        return y if self.linear.bias is None else y + self.linear.bias[:, None]


class MemoryFilter(nn.Module):
    """Each channel plus a weighted sum of its last `order` frames, the current one included."""

    def __init__(self, width: int, order: int) -> None:
        super().__init__()
        self.conv_left = nn.Conv2d(width, width, (order, 1), groups=width, bias=False)

    def forward(self, heard: Tensor) -> tuple[Tensor, Tensor]:
        """order - 1 frames and those after them, (B, P, order - 1 + T) -> (B, P, T), the last
        order - 1.
        """
        taps = self.taps()
        count = heard.size(2) - taps.size(2) + 1
        past = heard[..., count:]
        if count == 0:
            return heard[..., :0], past
        return F.conv1d(heard, taps, groups=len(taps)), past

    def taps(self) -> Tensor:
        """Weights of a frame and of those before it, (P, 1, order), the latest last."""
        taps = self.conv_left.weight[..., 0].clone()
        taps[..., -1] += 1.0  # the frame itself is one more of the sum
        return taps


class FsmnLayer(nn.Module):
    """Projection, memory, and a rectified affine back to the layer's width."""

    def __init__(self, width: int, proj_width: int, order: int) -> None:
        super().__init__()
        self.linear = Affine(width, proj_width, bias=False)
        self.fsmn_block = MemoryFilter(proj_width, order)
        self.affine = Affine(proj_width, width)

    def forward(self, x: Tensor, past: Tensor) -> tuple[Tensor, Tensor]:
        """x (B, D, T), past (B, P, order - 1) -> (B, D, T), the new past."""
        projected, past = self.fsmn_block(torch.cat([past, self.linear(x)], dim=2))
        return self.affine(projected).relu_(), past


class FsmnEncoder(nn.Module):
    """The stack of released `FSMN`; only looking back, by consecutive frames."""

    def __init__(
        self,
        input_dim: int = 400,
        input_affine_dim: int = 140,
        fsmn_layers: int = 4,
        linear_dim: int = 250,
        proj_dim: int = 128,
        lorder: int = 20,
        rorder: int = 0,
        lstride: int = 1,
        output_affine_dim: int = 140,
        output_dim: int = 248,
    ) -> None:
        super().__init__()
        if rorder or lstride != 1 or lorder < 1:
            raise ConfigError(
                f"encoder FSMN: lorder {lorder}, lstride {lstride}, rorder {rorder} are not known; "
                "use an lorder above 0, lstride 1, rorder 0"
            )
        self.input_dim = input_dim
        self.output_dim = output_dim
        self.past_shape = (fsmn_layers, proj_dim, lorder - 1)
        self.in_linear1 = Affine(input_dim, input_affine_dim)
        self.in_linear2 = Affine(input_affine_dim, linear_dim)
        layers = [FsmnLayer(linear_dim, proj_dim, lorder) for _ in range(fsmn_layers)]
        self.fsmn = nn.ModuleList(layers)
        self.out_linear1 = Affine(linear_dim, output_affine_dim)
        self.out_linear2 = Affine(output_affine_dim, output_dim)

    def forward(self, x: Tensor, state: FsmnState) -> tuple[Tensor, FsmnState]:
        """Features (B, T, input_dim) -> logits (B, T, output_dim)."""
        x = self.in_linear2(self.in_linear1(x.transpose(1, 2))).relu_()
        memory = []
        for layer, past in zip(self.fsmn, state.memory.unbind(1), strict=True):
            x, past = layer(x, past)
            memory.append(past)
        logits = self.out_linear2(self.out_linear1(x)).transpose(1, 2)
        return logits, FsmnState(torch.stack(memory, dim=1))


class FsmnVad(nn.Module):
    """Posteriors of 248 sound classes, of which the first is silence (released
    `FsmnVADStreaming`).
    """

    def __init__(self, encoder: FsmnEncoder) -> None:
        super().__init__()
        self.encoder = encoder

    def initial_state(self, batch: int = 1) -> FsmnState:
        """Silence before a stream: zeros, on the device of the weights."""
        weight = self.encoder.in_linear1.linear.weight
        return FsmnState(weight.new_zeros(batch, *self.encoder.past_shape))

    def forward(self, x: Tensor) -> Tensor:
        """Features (B, T, input_dim) -> posteriors (B, T, output_dim)."""
        return self.forward_chunk(x, self.initial_state(len(x)))[0]

    def forward_chunk(self, x: Tensor, state: FsmnState) -> tuple[Tensor, FsmnState]:
        """The same of the frames that follow those that led to `state`."""
        logits, state = self.encoder(x, state)
        return logits.softmax(dim=2), state


class _PackedLayer(NamedTuple):
    project: Tensor  # (P, D)
    taps: Tensor  # (P, 1, order)
    expand: Tensor  # (D, P)
    floor: Tensor  # (D, 1)


class SilenceNetwork:
    """A `FsmnVad` for decoding, one stream at a time: the probability of silence alone.

    The same sums in a quicker order (to 2e-6). Rectifying x + b gives max(x, -b) + b, and what that
    last b adds to the next projection is a constant: it goes through the memory into the next b, so
    biases take no time. The memory holds frames less their constant. The two layers of the output,
    which nothing bends between, are one, and its classes count from the first silent one.

    The weights are those at the time of making.
    """

    @torch.no_grad()
    def __init__(self, model: FsmnVad, classes: Sequence[int]) -> None:
        encoder = model.encoder
        self.classes = list(classes)
        first, second = encoder.in_linear1.linear, encoder.in_linear2.linear
        self.first, self.second = first.weight, second.weight
        bias = second.weight @ first.bias + second.bias
        self.floor = -bias[:, None]
        self.layers, constants = [], []
        for layer in cast(Iterable[FsmnLayer], encoder.fsmn):
            taps, expand = layer.fsmn_block.taps(), layer.affine.linear
            constant = layer.linear.linear.weight @ bias
            constants.append(constant)
            bias = expand.weight @ (constant * taps.sum((1, 2))) + expand.bias
            self.layers.append(
                _PackedLayer(layer.linear.linear.weight, taps, expand.weight, -bias[:, None])
            )
        before = encoder.past_shape[2]
        memory = -torch.stack(constants)[None, :, :, None].expand(-1, -1, -1, before)
        self.initial_state = FsmnState(memory.contiguous())
        inner, outer = encoder.out_linear1.linear, encoder.out_linear2.linear
        weight = outer.weight @ inner.weight
        bias = outer.weight @ inner.bias + outer.bias + weight @ bias
        logits = torch.cat([weight, bias[:, None]], dim=1)
        self.logits = logits - logits[self.classes[0]]

    @torch.no_grad()
    def __call__(self, feats: Tensor, state: FsmnState) -> tuple[Tensor, FsmnState]:
        """Features (T, input_dim) of the frames that follow those that led to `state` -> summed
        posterior of the silent classes (T,).
        """
        count = len(feats)
        if count == 0:
            return feats.new_zeros(0), state
        wide = feats.new_empty(self.logits.size(1), count)
        wide[-1] = 1.0  # for the bias
        hidden = wide[:-1]
        torch.mm(self.second, self.first @ feats.T, out=hidden)
        torch.maximum(hidden, self.floor, out=hidden)
        memory = []
        for layer, past in zip(self.layers, state.memory[0], strict=True):
            before = past.size(1)
            heard = feats.new_empty(1, len(past), before + count)
            heard[0, :, :before] = past
            torch.mm(layer.project, hidden, out=heard[0, :, before:])
            memory.append(heard[0, :, count:])
            summed = F.conv1d(heard, layer.taps, groups=len(past))[0]
            torch.mm(layer.expand, summed, out=hidden)
            torch.maximum(hidden, layer.floor, out=hidden)
        return self._silence((self.logits @ wide).float()), FsmnState(torch.stack(memory)[None])

    def _silence(self, logits: Tensor) -> Tensor:
        """Logits (classes, T) less that of the first silent class -> (T,)."""
        if len(self.classes) > 1:
            return logits.softmax(dim=0)[self.classes].sum(0)
        return logits.exp_().sum(0).reciprocal_()  # what is too large for a float gives 0
