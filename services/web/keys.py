"""API keys, from the command line: `python -m services.web.keys create|list|revoke|rotate --folder FOLDER`.

A key itself is shown once, alone on standard output, and cannot be shown again: what is kept is a digest.
"""

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from pydantic import ValidationError

from shared.errors import MienError
from shared.jobs import PUBLIC
from shared.keys import Basis, KeyFolder, NewKey, Purpose, Role
from shared.videos import storage_errors

DAY_S: Final = 24 * 3600
HOUR_S: Final = 3600


def main(arguments: Sequence[str] | None = None) -> int:
    asked = parser().parse_args(arguments)
    command: Callable[[KeyFolder, argparse.Namespace], None] = asked.command
    try:
        command(KeyFolder(asked.folder), asked)
    except MienError as error:
        say(f"error: {error.title()} {error.detail}")
        return 1
    except ValidationError as error:
        say(f"error: {error.errors()[0]['loc'][0]}: {error.errors()[0]['msg']}")
        return 1
    return 0


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m services.web.keys", description="Make, list, revoke and rotate API keys.")
    commands = parser.add_subparsers(required=True)

    def add(name: str, command: Callable[[KeyFolder, argparse.Namespace], None], summary: str) -> argparse.ArgumentParser:
        of = commands.add_parser(name, help=summary, description=summary)
        of.add_argument("--folder", type=Path, required=True, help="where the keys are: MIEN_API_KEYS of the services")
        of.set_defaults(command=command)
        return of

    one = add("create", create, "Make a key, and show it this once.")
    one.add_argument("--tenant", default=PUBLIC, help=f"whose analyses it sees (default: {PUBLIC})")
    one.add_argument("--role", dest="roles", action="append", type=Role, choices=list(Role), required=True, help="may be given again")
    one.add_argument("--purpose", type=Purpose, choices=list(Purpose), help="what expressions are recognised for; clients need one")
    one.add_argument("--basis", type=Basis, choices=list(Basis), help="why that is lawful at work or in education")
    one.add_argument("--expires-days", type=float, help="how long it lives (default: until it is revoked)")
    one.add_argument("--unless-any", action="store_true", help="do nothing where there is a key already")
    one.add_argument("--out", type=Path, help="a new file for the key, that nobody else may read, instead of standard output")
    add("list", show, "What is known about each key, a line of JSON each.")
    add("revoke", revoke, "A key is dead within 5 seconds.").add_argument("id")
    next_one = add("rotate", rotate, "Make a second key that may do the same, and let the first one end.")
    next_one.add_argument("id")
    next_one.add_argument("--overlap-hours", type=float, default=24.0, help="how long the first one lives on (default: 24)")
    next_one.add_argument("--out", type=Path, help="a new file for the key, that nobody else may read, instead of standard output")
    return parser


def create(keys: KeyFolder, asked: argparse.Namespace) -> None:
    if asked.unless_any and keys.has_any():
        say("there are keys already")
        return
    lives_s = None if asked.expires_days is None else asked.expires_days * DAY_S
    hand_over(keys.create(tenant=asked.tenant, roles=asked.roles, purpose=asked.purpose, basis=asked.basis, lives_s=lives_s), asked.out)


def show(keys: KeyFolder, _asked: argparse.Namespace) -> None:
    for key in keys.all():
        sys.stdout.write(json.dumps(key.model_dump(mode="json", exclude={"sha256"}, exclude_none=True)) + "\n")


def revoke(keys: KeyFolder, asked: argparse.Namespace) -> None:
    keys.revoke(asked.id)
    say(f"revoked {asked.id}")


def rotate(keys: KeyFolder, asked: argparse.Namespace) -> None:
    hand_over(keys.rotate(asked.id, overlap_s=asked.overlap_hours * HOUR_S), asked.out)
    say(f"{asked.id} ends in {asked.overlap_hours:g} h")


def hand_over(new: NewKey, out: Path | None) -> None:
    key = new.record
    use = "" if key.use_is_permitted() or Role.CLIENT not in key.roles else "; with its purpose, it may not post videos"
    say(f"made {key.id} for tenant {key.tenant}: {', '.join(key.roles)}{use}")
    if out is None:
        sys.stdout.write(new.written + "\n")
        return
    with storage_errors(), os.fdopen(os.open(out, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(new.written + "\n")
    say(f"it is in {out}")


def say(line: str) -> None:
    """For people; standard output is for what other programs read."""
    sys.stderr.write(line + "\n")


if __name__ == "__main__":
    sys.exit(main())
