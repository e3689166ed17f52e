"""`python -m training`: everything that ML engineers do, at a command line and without the service.

python -m training run plan.json              noisy-student rounds, from a plan to a candidate; killed, the same command goes on
torchrun --nproc-per-node 2 -m training run plan.json
python -m training runs list|show|watch|cancel|resume|delete [RUN]
python -m training publish RUN                gate, export, sign, warm up, move the alias
python -m training publications list|show|cancel [PUBLICATION]
python -m training releases list|show|compare [VERSION ...]
python -m training promote VERSION            and `rollback`
python -m training stores
python -m training tables ...                 the paper's tables
"""

import argparse
import logging
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from shared.errors import MienError
from shared.jobs import Failure
from training.commands import Answer, Commands, say
from training.settings import Settings

HANDED_BACK: Final = 75
"""Exit status of a process that was told to stop and whose work goes on another time; sysexits.h calls it EX_TEMPFAIL."""

FOLDERS: Final = ("runs", "crops", "models")

Command = Callable[[Commands, argparse.Namespace], Answer]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command. Exit status: 0 done, 1 failed or refused, 2 not understood, 75 told to stop."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments[:1] == ["tables"]:
        return tables(arguments[1:])
    root = parser()
    options = root.parse_args(arguments)
    try:
        settings = Settings(**{name: value for name in FOLDERS if (value := getattr(options, name)) is not None})
    except ValidationError as error:
        root.error("; ".join(f"MIEN_{one['loc'][0]}: {one['msg']}".upper() for one in error.errors()))
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stderr)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(HANDED_BACK))
    try:
        answer: Answer = options.command(Commands(settings), options)
    except MienError as error:
        if options.json:
            print(Failure.of(error).model_dump_json())  # noqa: T201
        print(f"{error.code()}: {error.title()} {error.detail}".strip(), file=sys.stderr)  # noqa: T201
        return 1
    except KeyboardInterrupt:
        return HANDED_BACK
    say(answer, as_json=options.json)
    return 0 if answer.ok else 1


def tables(arguments: list[str]) -> int:
    from training import tables  # torch takes seconds, which no other command has to wait for

    return tables.main(arguments)


def parser() -> argparse.ArgumentParser:
    """Every command but `tables`, which has arguments of its own."""
    root = argparse.ArgumentParser(prog="python -m training", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = root.add_subparsers(required=True, metavar="COMMAND")
    run = add(commands, "run", lambda do, given: do.run(given.target), "work on a run to its end")
    run.add_argument("target", help="PLAN.json, or a run's id or folder")
    add(commands, "stores", lambda do, _: do.list_stores(), "the crop stores there are")
    publish = add(
        commands, "publish", lambda do, given: do.publish(given.target, promote=not given.no_promote), "make a candidate a release"
    )
    publish.add_argument("target", help="a run, or a candidate's folder")
    publish.add_argument("--no-promote", action="store_true", help="leave the champion as it is")
    promote = add(commands, "promote", lambda do, given: do.promote(given.version), "make a release champion")
    promote.add_argument("version", type=int)
    add(commands, "rollback", lambda do, _: do.rollback(), "make the champion before this one champion again")
    add_runs(commands.add_parser("runs", help="what training runs do and did").add_subparsers(required=True, metavar="COMMAND"))
    add_publications(
        commands.add_parser("publications", help="what was asked to become a release").add_subparsers(required=True, metavar="COMMAND")
    )
    add_releases(commands.add_parser("releases", help="what is published").add_subparsers(required=True, metavar="COMMAND"))
    commands.add_parser("tables", help="the paper's tables", add_help=False)
    return root


def add_runs(commands: Any) -> None:
    add(commands, "list", lambda do, _: do.list_runs(), "newest first")
    of_one: dict[str, tuple[Command, str]] = {
        "show": (lambda do, given: do.show_run(given.run), "how a run is doing"),
        "watch": (lambda do, given: do.watch_run(given.run), "every epoch as it ends"),
        "cancel": (lambda do, given: do.cancel_run(given.run), "stop a run"),
        "resume": (
            lambda do, given: do.resume_run(given.run),
            "let a run that failed or was canceled go on, when the service or `run` takes it up",
        ),
        "delete": (lambda do, given: do.delete_run(given.run), "remove a run that has ended"),
    }
    for name, (command, what) in of_one.items():
        add(commands, name, command, what).add_argument("run", help="its id or folder")


def add_publications(commands: Any) -> None:
    add(commands, "list", lambda do, _: do.list_publications(), "newest first")
    of_one: dict[str, tuple[Command, str]] = {
        "show": (lambda do, given: do.show_publication(given.publication), "how a publication is doing"),
        "cancel": (lambda do, given: do.cancel_publication(given.publication), "stop a publication whose release has no name yet"),
    }
    for name, (command, what) in of_one.items():
        add(commands, name, command, what).add_argument("publication", help="its id or folder")


def add_releases(commands: Any) -> None:
    add(commands, "list", lambda do, _: do.list_releases(), "oldest first")
    show = add(commands, "show", lambda do, given: do.show_release(given.version), "release.json")
    show.add_argument("version", type=int)
    compare = add(commands, "compare", lambda do, given: do.compare_releases(given.left, given.right), "two releases side by side")
    compare.add_argument("left", type=int)
    compare.add_argument("right", type=int)


def add(commands: Any, name: str, command: Command, what: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(name, help=what, description=what)
    parser.set_defaults(command=command)
    parser.add_argument("--json", action="store_true", help="answer with JSON, also when it fails")
    for folder in FOLDERS:
        parser.add_argument(f"--{folder}", type=Path, metavar="FOLDER", help=f"instead of MIEN_{folder.upper()}")
    return parser


if __name__ == "__main__":
    sys.exit(main())
