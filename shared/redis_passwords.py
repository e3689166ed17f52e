"""Passwords of Redis's users where each is a file of its own, for its user alone: made once, and in no environment and no command line.

python -m shared.redis_passwords --acl users.acl gateway=/redis-gateway/password worker=/redis-worker/password ...
"""

import argparse
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import quote, urlsplit

from shared.redis_users import USERS, acl_file
from shared.videos import write_durably


def with_password(url: str, file: Path | None) -> str:
    """The URL of a Redis with the password that is in a file, whatever password it had; as it is without a file.

    Raises OSError when the file cannot be read.
    """
    if file is None:
        return url
    parts = urlsplit(url)
    user, _, host = parts.netloc.rpartition("@")
    name = user.partition(":")[0]
    return parts._replace(netloc=f"{name}:{quote(file.read_text().strip(), safe='')}@{host}").geturl()


def ensure(files: Mapping[str, Path], *, acl: Path) -> None:
    """Make the passwords that are not there yet, each in the file of its user, and write what those users may do for Redis.

    What they may do is written each time, since newer code may need more of Redis. Raises OSError.
    """
    for file in files.values():
        if not file.exists():
            write_durably(file, secrets.token_urlsafe(32).encode())
    write_durably(acl, acl_file({name: file.read_text() for name, file in files.items()}).encode())


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m shared.redis_passwords", description="Make a password for each user of Redis.")
    parser.add_argument("--acl", type=Path, required=True, help="where Redis reads who its users are")
    parser.add_argument("files", nargs="+", metavar="USER=FILE", help=f"where a user finds its password; users: {', '.join(USERS)}")
    asked = parser.parse_args(arguments)
    named = dict(each.partition("=")[::2] for each in asked.files)
    if named.keys() != USERS.keys():
        parser.error(f"the users are {', '.join(USERS)}, and each needs its file")
    ensure({name: Path(file) for name, file in named.items()}, acl=asked.acl)


if __name__ == "__main__":
    main()
