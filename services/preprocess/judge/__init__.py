"""Faces in, verdicts out: asks Triton, remembers features, judges windows and tracks."""
