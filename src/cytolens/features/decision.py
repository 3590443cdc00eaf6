"""What a classifier decides by: how far one class's logit stands out from the others'."""

from torch import Tensor


def decision(logits: Tensor, given: Tensor | None = None) -> Tensor:
    """The logit (N,) of each image's class minus the mean of the others', of logits (N, K).

    ``given`` (N,) are the classes, by default those that the logits predict. With a single logit,
    that one.
    """
    given = logits.argmax(1) if given is None else given
    own = logits.gather(1, given[:, None])[:, 0]
    if logits.shape[1] == 1:
        return own
    return own - (logits.sum(1) - own) / (logits.shape[1] - 1)
