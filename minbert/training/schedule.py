"""Learning-rate schedules: pure functions of the step."""

import math


def warmup_steps(warmup: float, total: int) -> int:
    """Return the steps of warm-up: below 1 it is a share of all steps."""
    # 0.29 * 100 is a little less than 29
    return int(warmup * total + 1e-9) if warmup < 1 else int(warmup)


def describe_long_warmup(warmup: float, total: int) -> str:
    """Return what happens in a run that ends before its warm-up does; "" if it does not."""
    if (w := warmup_steps(warmup, total)) <= total:
        return ""
    end = f"the rate ends at {total / w:.0%} of --lr"
    return f"--warmup {warmup:g} is longer than the run, {total} steps: {end}"


def learning_rate(step: int, total: int, base: float, schedule: str, warmup: float) -> float:
    """Return the rate of step t = 0 .. total-1; after w steps of warm-up s = (t - w) / (total - w):

        warm-up    base (t + 1) / w
        constant   base
        linear     base (1 - s)                  (Devlin et al., 2018, appendix A.2)
        cosine     base (1 + cos(pi s)) / 2      (Loshchilov and Hutter, 2017, without restarts)

    The first rate is not 0 and neither is the last: every step trains.
    """
    w = warmup_steps(warmup, total)
    if step < w:
        return base * (step + 1) / w
    progress = (step - w) / max(1, total - w)
    if schedule == "constant":
        return base
    if schedule == "linear":
        return base * (1 - progress)
    if schedule == "cosine":
        return base * 0.5 * (1 + math.cos(math.pi * progress))
    raise ValueError(f"schedule {schedule!r}")
