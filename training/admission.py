"""A candidate is looked at from outside: whether it is harmless, vouched for and whole, before any of it is loaded.

candidate/
  release.json          shared.releases.Release, naming the digests of the two below
  release.json.sig      by a trusted key
  weights.safetensors
  MODEL_CARD.md         optional
"""

import os
from pathlib import Path
from typing import Final

from shared.errors import CandidateHostile, CandidateUnsigned, ModelContractMismatch, ReleaseUnsigned
from shared.releases import CARD, MANIFEST, SIGNATURE, WEIGHTS, Release, check_files, check_servable, parse
from shared.signatures import TrustedKeys
from shared.videos import storage_errors

MOST_BYTES: Final = {MANIFEST: 4 * 2**20, SIGNATURE: 64, WEIGHTS: 2**30, CARD: 2**20}
"""What a candidate may hold, and how large each may be: all but the weights are read as a whole. None of it can carry code."""


def admitted(candidate: Path, *, trusted: TrustedKeys) -> Release:
    """The candidate's release, once its folder is known to hold nothing else, by somebody trusted.

    Raises CandidateHostile, CandidateUnsigned, ModelDigestMismatch, ModelContractMismatch, or ModelVersionUnavailable where there
    is no candidate at all.
    """
    with storage_errors():
        _check_harmless(candidate)
        try:
            release = parse(trusted.check(candidate))
        except ReleaseUnsigned as error:
            raise CandidateUnsigned(error.detail, reasons=[error.detail]) from error
        _check_names(release)
        check_servable(release)
        if WEIGHTS not in release.files:
            raise ModelContractMismatch(f"{MANIFEST} does not name {WEIGHTS}")
        check_files(release, candidate)
    return release


def _check_harmless(candidate: Path) -> None:
    if not candidate.is_dir():
        return  # what is not there does no harm, and is missed next
    reasons = [reason for entry in sorted(os.scandir(candidate), key=lambda entry: entry.name) if (reason := _objection(entry))]
    if reasons:
        raise CandidateHostile("; ".join(reasons), reasons=reasons)


def _check_names(release: Release) -> None:
    """Every name is opened and copied later on, so one like `../../x` would lead elsewhere."""
    reasons = [
        f"{MANIFEST} names {name!r}, which does not belong into a candidate" for name in sorted(release.files.keys() - {WEIGHTS, CARD})
    ]
    if reasons:
        raise CandidateHostile("; ".join(reasons), reasons=reasons)


def _objection(entry: "os.DirEntry[str]") -> str:
    """Why this may not be in a candidate; empty when it may."""
    if entry.name not in MOST_BYTES:
        return f"{entry.name!r} does not belong into a candidate"
    if not entry.is_file(follow_symlinks=False):
        return f"{entry.name} is no plain file"
    if entry.stat(follow_symlinks=False).st_size > MOST_BYTES[entry.name]:
        return f"{entry.name} is larger than {MOST_BYTES[entry.name]} bytes"
    return ""
