"""Triton on a machine without Docker or GPU: the real `tritonserver` of a Python wheel, and a backend that runs TorchScript on the CPU."""
