"""The released predictor V3: a second pair of eyes on frames of 20 ms, which times the tokens."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from paraformer.errors import ConfigError
from paraformer.nn.cif import LEAST_TOTAL, CifOutput, CifPredictor, running_sum
from paraformer.nn.mask import length_mask

# Weight at which a token begins: the reference's, a little below 1 so that rounding loses none.
FIRE = 1.0 - 1e-4
UPSAMPLERS = ("cnn", "cnn_blstm")  # the reference's third, cnn_attn, stops with an error there


class Timeline(NamedTuple):
    """Weights over time steps of which the tokens of a batch are to be found."""

    weights: Tensor  # (B, S), 0 past lengths
    peaks: Tensor  # (B, S): what a step holds before it fires; FIRE or more where it does
    lengths: Tensor  # (B,) steps
    rate: int  # steps of one encoder frame

    def cpu(self) -> Timeline:
        """The same on the CPU."""
        weights, peaks, lengths = (each.cpu() for each in self[:3])
        return Timeline(weights, peaks, lengths, self.rate)

    def places(self, row: int, count: int) -> tuple[Tensor, Tensor]:
        """The steps at which a row fires, and its weights (S,); where it fires another number of
        tokens than `count`, weights are scaled until it is that, which helps but for more tokens
        than steps.
        """
        size = int(self.lengths[row])
        weights, peaks = self.weights[row, :size], self.peaks[row, :size]
        places = (peaks >= FIRE).nonzero().flatten()
        if len(places) != count and size:
            scaled = scale_to(weights[None], torch.tensor([count]))
            places = (single_fire_peaks(scaled)[0] >= FIRE).nonzero().flatten()
            weights = scaled[0]
        return places, weights


def plain_timeline(heard: CifOutput, memory_lengths: Tensor) -> Timeline:
    """The timeline of a model without second head; the tail counts as a frame.

    As in the reference, which gives the two to its function in the wrong order, the weights are
    what each frame holds, and tokens begin where equal parts of that are reached.
    """
    return Timeline(heard.peaks, heard.alphas, memory_lengths + 1, 1)


def scale_to(weights: Tensor, counts: Tensor) -> Tensor:
    """Weights (B, S) -> the same in float64, summing to counts (B,); all 0 stays 0."""
    weights = weights.double()
    return weights * (counts / weights.sum(1).clamp(min=LEAST_TOTAL))[:, None]


def single_fire_peaks(weights: Tensor) -> Tensor:
    """Weights (B, S) -> (B, S) float64: what each step holds before it fires.

    Unlike in `fire_peaks` a step fires once at most, and what it has above FIRE stays for the next.
    Of the tokens that the sum has reached, F(t) = min over s <= t of reached(s) + t - s have fired.

    >>> single_fire_peaks(torch.tensor([[0.5, 1.9998, 0.0, 0.0]])).tolist()[0][1:] >= [FIRE] * 2
    True
    """
    sums = running_sum(weights)
    step = torch.arange(1, sums.size(1) + 1, device=sums.device)
    behind = ((sums / FIRE).floor() - step).cummin(1).values if sums.size(1) else sums
    fired = step + behind.clamp(max=0.0)
    return sums - FIRE * F.pad(fired, (1, 0))[:, :-1]


class CifPredictorV3(CifPredictor):
    """`CifPredictorV2` with a second head: frames upsampled, weighed anew, so that each token has a
    time.
    """

    def __init__(
        self,
        idim: int,
        l_order: int = 1,
        r_order: int = 1,
        dropout_rate: float = 0.1,
        smooth_factor: float = 1.0,
        noise_threshold: float = 0.0,
        tail_threshold: float = 0.0,
        smooth_factor2: float = 1.0,
        noise_threshold2: float = 0.0,
        upsample_times: int = 5,
        upsample_type: str = "cnn",
        use_cif1_cnn: bool = True,
    ) -> None:
        if upsample_type not in UPSAMPLERS:
            raise ConfigError(
                f"config.yaml: predictor_conf.upsample_type={upsample_type}: not known; "
                f"known: {', '.join(UPSAMPLERS)}"
            )
        super().__init__(
            idim, l_order, r_order, dropout_rate, smooth_factor, noise_threshold, tail_threshold
        )
        self.upsample_cnn = nn.ConvTranspose1d(idim, idim, upsample_times, upsample_times)
        self.looks_around = upsample_type == "cnn_blstm"
        if self.looks_around:
            self.blstm = nn.LSTM(idim, idim, batch_first=True, bidirectional=True)
        self.cif_output2 = nn.Linear(2 * idim if self.looks_around else idim, 1)
        self.upsample_times = upsample_times
        self.smooth_factor2, self.noise_threshold2 = smooth_factor2, noise_threshold2
        self.use_cif1_cnn = use_cif1_cnn

    def fine_weights(self, hidden: Tensor, lengths: Tensor) -> Tensor:
        """Encoder output (B, T, D), 0 past lengths -> weights (B, R * T), R steps a frame, 0 past
        R * lengths. Their sum is what the second head counts as tokens.
        """
        steps = lengths * self.upsample_times
        with torch.autocast(hidden.device.type, enabled=False):  # half precision misplaces
            x = hidden.float().transpose(1, 2)
            if self.use_cif1_cnn:
                x = torch.relu(self.cif_conv1d(F.pad(x, self.pad)))
            x = self.upsample_cnn(x).transpose(1, 2)
            x = self._look_around(x, steps) if self.looks_around else x
            score = self.cif_output2(x).squeeze(-1)
        weights = torch.relu(self.smooth_factor2 * torch.sigmoid(score) - self.noise_threshold2)
        return weights * length_mask(steps, x.size(1))

    def timeline(self, hidden: Tensor, lengths: Tensor, counts: Tensor) -> Timeline:
        """Encoder output -> fine weights scaled so that counts (B,) tokens fire."""
        weights = scale_to(self.fine_weights(hidden, lengths), counts)
        steps = lengths * self.upsample_times
        return Timeline(weights, single_fire_peaks(weights), steps, self.upsample_times)

    def _look_around(self, x: Tensor, steps: Tensor) -> Tensor:
        """(B, S, D) -> (B, S, 2 * D) with the steps before and behind in view.

        The backward direction has to begin at the end of each utterance, not in its padding.
        """
        if x.device.type == "cpu":  # packed sequences take 1.6 times as long there
            turned = _turn(self._one_way(_turn(x, steps), "_reverse"), steps)
            return torch.cat((self._one_way(x, ""), turned), dim=-1)
        packed = nn.utils.rnn.pack_padded_sequence(
            x, steps.clamp(min=1).cpu(), batch_first=True, enforce_sorted=False
        )
        return nn.utils.rnn.pad_packed_sequence(
            self.blstm(packed)[0], batch_first=True, total_length=x.size(1)
        )[0]

    def _one_way(self, x: Tensor, direction: str) -> Tensor:
        """One direction of the LSTM, from the first step on: (B, S, D) -> (B, S, D)."""
        names = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
        weights = [getattr(self.blstm, name + direction) for name in names]
        state = x.new_zeros(1, x.size(0), x.size(2))
        return torch.lstm(x, (state, state), weights, True, 1, 0.0, False, False, True)[0]


def _turn(x: Tensor, steps: Tensor) -> Tensor:
    """The first steps (B,) of each row of (B, S, D) in reverse order, the others where they are."""
    place = torch.arange(x.size(1), device=x.device)
    source = torch.where(place < steps[:, None], steps[:, None] - 1 - place, place)
    return x.gather(1, source[..., None].expand(-1, -1, x.size(2)))
