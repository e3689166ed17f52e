"""The training service: runs and releases over HTTP, for ML engineers."""
