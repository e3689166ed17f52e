"""`torchrun`, which says by its exit status when it was told to stop: `python -m training.together --nproc-per-node 2 -m training run RUN`.

torchrun passes a SIGTERM on to the processes that it started, waits for them, and then ends with 1, as if one of them had died. Whoever
counts deaths has to know the two apart: a run that is stopped goes on later, one that keeps dying does not.
"""

import os
import sys
from collections.abc import Sequence

from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.run import main as torchrun


def main(arguments: Sequence[str]) -> int:
    """The exit status: 75 (EX_TEMPFAIL) when it was told to stop."""
    try:
        torchrun(list(arguments))
    except SignalException:
        return os.EX_TEMPFAIL
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
