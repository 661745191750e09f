"""Train film_lite's encoder and fusion, by flows that it finds as it is; batches are half real, half synthetic."""

from __future__ import annotations

import itertools

import torch
import torch.nn.functional as F
from torch import Tensor

from .film_torch import Film
from .run import Plan, Run, chosen_device, mixed_precision, options, started, train
from .samples import Samples

RATE = 5e-4
TUNING, TUNING_BEGINS = 0.3, 0.5  # share of that rate, and where in a run's stages it begins


def charbonnier(difference: Tensor) -> Tensor:
    """Smooth mean absolute value."""
    return torch.sqrt(difference * difference + 1e-6).mean()


def laplacian_loss(image: Tensor, target: Tensor, levels: int = 3) -> Tensor:
    """Compare (B,3,H,W) band by band, so that edges count as much as areas."""
    total = image.new_zeros(())
    for _ in range(levels):
        difference = image - target
        image, target = F.avg_pool2d(image, 2), F.avg_pool2d(target, 2)
        total = total + charbonnier(difference - F.interpolate(image - target, scale_factor=2))
    return total


class FusionRun(Run):
    """A run of the encoder and the fusion, or for the first steps of the fusion alone."""

    def __init__(self, model: Film, plan: Plan, device: torch.device, alone: int = 0) -> None:
        parts = (model.encoder, model.projections, model.fusion, model.head)
        super().__init__(model, itertools.chain(*(part.parameters() for part in parts)), plan, device)
        self.alone = alone

    def loss(self, batch: Tensor) -> tuple[Tensor, tuple[float, ...]]:
        """Of frames (n,3,3,S,S) in [0,1]; the figure is the mean error of the midpoint."""
        first, target, last = (
            frame.to(self.device).contiguous(memory_format=torch.channels_last) for frame in batch.unbind(1)
        )
        with mixed_precision(self.device):
            with torch.set_grad_enabled(self.step >= self.alone):
                images, features = self.model.encode(torch.cat([first, last]))
            output = self.model.fuse(images, features, self.model.estimate_flows(images, features))
        image = output.image.float()
        error = float((image - target).detach().abs().mean())
        return charbonnier(image - target) + laplacian_loss(image, target), (error,)


def main() -> None:
    """Train film_lite's encoder and fusion; the same command goes on where a stopped run was."""
    parser = options(main.__doc__)
    parser.add_argument(
        "--alone", type=int, default=0, help="first steps, which train the fusion alone (default: %(default)s)"
    )
    parser.add_argument(
        "--tuning", action="store_true", help="go on with what was trained: at a lower rate, as a run's second half"
    )
    args = parser.parse_args()
    begins, share = (TUNING_BEGINS, TUNING) if args.tuning else (0, 1)
    torch.manual_seed(args.seed)
    run = FusionRun(started(args.start), Plan(args.steps, args.seed, RATE * share), chosen_device(), args.alone)
    train(run, Samples(args.data, args.steps, args.seed, begins), args.run)


if __name__ == "__main__":
    main()
