"""The training service: runs and releases over HTTP, for ML engineers. The work itself is done by processes that it starts."""
