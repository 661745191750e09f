"""Flow without a pyramid: both frames, made small, are matched against each other wherever things may have gone.

A pyramid loses what is small and goes far, as its coarse levels do not show it. Here each frame is described at a
sixteenth of its size, and at each of the midpoint's pixels every flow of up to REACH_X by REACH_Y pixels is weighed (as
cost volumes are: Dosovitskiy et al., "FlowNet", ICCV 2015; half of the flow to either frame, as the midpoint lies
between them) and the best is taken. Then each pixel is led by those that it seems to belong to, the more the less sure
it is itself (in the way of Xu et al., "GMFlow", CVPR 2022), and the flow is refined at an eighth, from what both frames
have there. In large frames both sizes are smaller (see `matched_size`).

All is (1,h,w,channels). matched_0 is the small frame, matched_1 and matched_2 what describes it at a half and a quarter
of that size, descriptors first; flows are (x, y) in pixels of their level, forward before backward.
"""

SMALLER = 4  # how many times the small frame is smaller, or a multiple by powers of two
MOST_WIDE = 240  # pixels of the small frame's longer side
REACH_X, REACH_Y = 12, 8  # pixels of matched_2 that a flow may lead
REFINING_REACH = 2  # pixels of matched_1 that it is then looked for over
FINE_DESCRIPTORS, FINE_CONTEXT = 32, 24  # channels of matched_1
COARSE_DESCRIPTORS, COARSE_CONTEXT = 64, 32  # of matched_2
MATCHED_0 = 0.45, 2.0  # what is taken from the small frame's values, and what they are multiplied by then
MATCHED_CHANNELS = {"matched_1": FINE_DESCRIPTORS + FINE_CONTEXT, "matched_2": COARSE_DESCRIPTORS + COARSE_CONTEXT}
FLOWS = (2 * REACH_X + 1) * (2 * REACH_Y + 1)
COMPARED = (2 * REFINING_REACH + 1) ** 2
QUERIED = 32  # channels of what tells which pixels' flows belong together
HANDED = 32  # channels of what the refining knows of the matching
UNSEEN = -15.0  # logit of a flow that leads out of a frame
LED_LESS = 3.0  # of the logit of how much a pixel is led by others
FLOW_SCALE = 1 / 8  # of flows among what a convolution reads
_ENCODED, _DEEP, _WIDE, _NARROW = 48, 96, 128, 64  # channels: of both sizes, of the matching, of the refining

# Kernels' sides, inputs and outputs; all have biases. Of blocks, two convolutions each are added to what they read.
CONVOLUTIONS = {
    "match/encode_0": (3, 3, 32), "match/encode_1": (3, 32, 32), "match/encode_2": (3, 32, _ENCODED),
    "match/deepen_0": (3, _ENCODED, _DEEP), **{f"match/deepen_{step}": (3, _DEEP, _DEEP) for step in range(1, 5)},
    "match/describe_1": (1, _ENCODED, FINE_DESCRIPTORS + FINE_CONTEXT),
    "match/describe_2": (1, _DEEP, COARSE_DESCRIPTORS + COARSE_CONTEXT),
    "match/gather": (1, 2 * FLOWS, _WIDE), "match/weigh_0": (3, _WIDE + 2 * COARSE_CONTEXT, _WIDE),
    **{f"match/weigh_{step}": (3, _WIDE, _WIDE) for step in range(1, 9)},
    "match/logits": (1, _WIDE, FLOWS), "match/hand": (1, _WIDE, HANDED),
    "match/query": (1, _WIDE, QUERIED), "match/key": (1, _WIDE, QUERIED), "match/source": (1, _WIDE, 1),
    "match/lead": (1, _WIDE, 1),
    "match/refine_0": (3, COMPARED + 2 * FINE_CONTEXT + 4 + HANDED, _NARROW),
    **{f"match/refine_{step}": (3, _NARROW, _NARROW) for step in range(1, 9)},
    "match/residual": (1, _NARROW, 4),
}
SHARPNESS = "match/sharpness"  # what products are multiplied by as logits, and what their means around a pixel are

# What a squared distance, in pixels of matched_2, takes from a pixel's weight in another one's flow, and what its
# confidence, the logarithm of its best flow's share, gives; and what its own takes from how much a pixel is led.
PROPAGATION = "match/propagation"  # (3,)


def matched_size(height: int, width: int) -> tuple[int, int]:
    """Return the height and width of the small frame: multiples of 4, of which the longer is at most MOST_WIDE."""
    smaller = SMALLER
    while max(height, width) > smaller * MOST_WIDE:
        smaller *= 2
    return -(-height // (4 * smaller)) * 4, -(-width // (4 * smaller)) * 4


def expected_shapes() -> dict[str, tuple[int, ...]]:
    """Return the shape of every tensor of the matching, by name."""
    shapes: dict[str, tuple[int, ...]] = {f"{SHARPNESS}/bias": (2,), f"{PROPAGATION}/bias": (3,)}
    for name, (size, inputs, outputs) in CONVOLUTIONS.items():
        shapes |= {f"{name}/kernel": (size, size, inputs, outputs), f"{name}/bias": (outputs,)}
    return shapes
