"""HTTP in, job out: takes videos, hands them to the queue, and answers how they are doing. No torch, no numpy."""
