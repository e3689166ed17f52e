"""Job in, result out: takes jobs from the queue, looks at their videos, asks Triton, and writes down what it says."""
