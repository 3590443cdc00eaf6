"""cleanlab's ranking of the labels, from the same probabilities; see benchmarks/suspects.py.

PEER/bin/python benchmarks/peers/with_cleanlab.py FILE.npz
FILE holds ``labels`` (n,) and ``probabilities`` (n, K); the order of suspicion is written to
FILE.npz.order.npy, one row per method of cleanlab.
"""

import sys

import numpy as np
from cleanlab.rank import get_label_quality_scores

METHODS = ("self_confidence", "normalized_margin", "confidence_weighted_entropy")


def main() -> None:
    given = np.load(sys.argv[1])
    labels, shares = given["labels"], given["probabilities"].astype(float)
    shares /= shares.sum(axis=1, keepdims=True)
    ranked = [
        np.argsort(get_label_quality_scores(labels, shares, method=m), kind="stable")
        for m in METHODS
    ]
    np.save(f"{sys.argv[1]}.order.npy", np.stack(ranked))


if __name__ == "__main__":
    main()
