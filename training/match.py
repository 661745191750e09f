"""Train film_lite's matching, which finds flows, alone."""

from __future__ import annotations

import torch
from torch import Tensor

from ov_film.matching import REACH_X, REACH_Y

from .film_torch import Film
from .pairs import REAL, Pairs
from .run import Plan, Run, chosen_device, mixed_precision, options, started, train

RATE, WARM_UP, AVERAGE = 8e-4, 100, 0.998
POWER = 0.6  # of the error of a flow: below 1, so that small errors weigh much, and what can't be known less
FLOW_WEIGHTS = 0.2, 0.3, 0.4  # of the flows as weighed, and as refined
LOGIT_WEIGHTS = 0.1, 0.15  # of the logits of the descriptors alone, and of all
SPREAD = 0.45  # pixels of matched_2: of the logits that are wanted, around the true flow


def at_centres(flows: Tensor, size: int) -> Tensor:
    """Flows (B,4,H,W) at the middle of each pixel of a smaller size, in pixels of that."""
    return flows[:, :, size // 2 :: size, size // 2 :: size] / size


def flow_loss(flows: Tensor, wanted: Tensor) -> Tensor:
    """Mean of the error, robust; where none is known, nothing."""
    known = wanted.isfinite().all(1, keepdim=True)
    error = (torch.nan_to_num(wanted) - flows).abs() + 0.01
    return (error.pow(POWER) * known).sum() / known.sum().clamp_min(1)


def logit_loss(logits: Tensor, wanted: Tensor, grid: Tensor) -> Tensor:
    """Cross entropy of logits (B,flows,h,w) against a bell around the flow; nothing where it is out of reach."""
    flow = (wanted[:, :2] - wanted[:, 2:]) / 2
    within = reachable(wanted)
    distance = (grid[None, :, :, None, None] - torch.nan_to_num(flow)[:, :, None]).square().sum(1)
    shares = (-distance / (2 * SPREAD**2)).softmax(1)
    entropy = -(shares * logits.log_softmax(1)).sum(1)
    return (entropy * within).sum() / within.sum().clamp_min(1)


def reachable(wanted: Tensor) -> Tensor:
    """Where flows (B,4,h,w) are known and within the matching's reach: (B,h,w)."""
    flow = torch.nan_to_num(wanted[:, :2] - wanted[:, 2:]) / 2
    return wanted.isfinite().all(1) & (flow[:, 0].abs() <= REACH_X) & (flow[:, 1].abs() <= REACH_Y)


class MatchRun(Run):
    """A run of the matching; all else stays as it is."""

    def __init__(self, model: Film, plan: Plan, device: torch.device) -> None:
        assert model.matcher
        super().__init__(model, model.matcher.parameters(), plan, device)
        self.matcher = model.matcher

    def loss(self, batch: tuple[Tensor, Tensor]) -> tuple[Tensor, tuple[float, ...]]:
        """Of small frames (n,2,3,h,w) and flows (n,4,h,w).

        The figures are mean errors, in pixels of matched_2, of the flows as weighed and as refined: of
        synthetic pairs, then of real ones.
        """
        frames, flows = (part.to(self.device) for part in batch)
        ends = (frame.contiguous(memory_format=torch.channels_last) for frame in frames.unbind(1))
        with mixed_precision(self.device):
            matched = self.matcher(*ends)
        coarse, fine = at_centres(flows, 4), at_centres(flows, 2)
        loss = torch.zeros((), device=self.device)
        for weight, logits in zip(LOGIT_WEIGHTS, (matched.alike, matched.logits), strict=True):
            loss = loss + weight * logit_loss(logits, coarse, self.matcher.grid)
        within = coarse.masked_fill(~reachable(coarse)[:, None], torch.nan)
        for weight, found, wanted in zip(FLOW_WEIGHTS, matched.flows, (within, coarse, fine), strict=True):
            loss = loss + weight * flow_loss(found, wanted)
        figures = []
        for part in (slice(REAL, None), slice(None, REAL)):
            for found, wanted, scale in zip(matched.flows, (coarse, coarse, fine), (1, 1, 2), strict=True):
                error = (found - wanted)[part, :2].detach().norm(dim=1) / scale
                figures.append(float(error[error.isfinite()].sum() / error.isfinite().sum().clamp_min(1)))
        return loss, tuple(figures)


def main() -> None:
    """Train film_lite's matching; the same command goes on where a stopped run was."""
    args = options(main.__doc__).parse_args()
    torch.manual_seed(args.seed)
    plan = Plan(args.steps, args.seed, RATE, WARM_UP, AVERAGE)
    train(MatchRun(started(args.start), plan, chosen_device()), Pairs(args.data, args.steps, args.seed), args.run)


if __name__ == "__main__":
    main()
