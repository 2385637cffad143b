"""`inbetween-server`: runs each process of the service, manages API keys, and explains the settings.

Every command reads the settings from the environment (`inbetween-server settings` lists them). What is wrong outside
the program is told in one line, with the exit codes of worker/process/exit_codes.py.
"""

from __future__ import annotations

import argparse
import gc
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

import structlog
from pydantic import SecretStr

from server import health, reference, restore
from service.api.edge.server import Config, EdgeServer, give_memory_back, raise_file_limit
from service.auth import CALLER, LOCAL, ApiKeys, Key, OpenDoor, Scope, refuse_empty_ring, refuse_open_door
from service.database.connections import connect
from service.database.identity import Database
from service.jobs.store import Jobs
from service.observe import logs, tracing
from service.observe.redaction import redacted
from service.settings import ServiceSettings
from service.storage import StorageUnavailable, open_storage
from worker.process import exit_codes

log = structlog.get_logger(__name__)

SWITCH_SECONDS = 0.0005
"""A thread at work keeps the API's event loop waiting for no longer. Python's own 5 ms are as long as an answer."""


def main(arguments: Sequence[str] | None = None) -> int:
    chosen = _parser().parse_args(arguments)
    try:
        return _run(chosen)
    except KeyboardInterrupt:
        return 130


def _run(chosen: argparse.Namespace) -> int:
    if chosen.command == "settings":
        return _print_settings()
    if chosen.command == "reference":
        print(reference.markdown(), end="")
        return 0
    settings = exit_codes.settings()
    logs.configure(settings)
    try:
        tracing.load(settings)
    except tracing.CannotTrace as error:
        return exit_codes.explain(str(error), exit_codes.CONFIG)
    match chosen.command:
        case "api":
            return _api(settings)
        case "worker":
            from worker import launcher

            return launcher.run(settings)
        case "keeper":
            return _keeper(settings)
        case "webhooks":
            from worker import webhook_workers

            return webhook_workers.run(settings)
        case "health":
            fault = health.fault(settings, chosen.role)
            return 0 if fault is None else exit_codes.explain(fault, exit_codes.UNAVAILABLE)
        case "ready":
            return _ready(settings)
        case "database":
            return _database(settings, adopt=chosen.action == "adopt")
        case "up":
            from server import up

            return up.run(chosen.area)
    return _keys(settings, chosen)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="inbetween-server", description="The inbetweening service. Settings come from the environment."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    commands.add_parser("api", help="answer HTTP requests on HOST:PORT")
    commands.add_parser("worker", help="run jobs: an engine with MODEL, and work-horses beside it")
    commands.add_parser("keeper", help="take over from dead workers, expire results, hand over webhooks")
    commands.add_parser("webhooks", help="deliver webhooks; every worker does too, so run it where there may be none")
    part = commands.add_parser("health", help="whether a process on this machine does its part: 0, or 69 and why not")
    part.add_argument("role", choices=health.ROLES)
    commands.add_parser("ready", help="whether the worker of this ENGINE_DIR has its model warm: 0, or 69 and why not")
    database = commands.add_parser("database", help="whether Redis is the database that was there before")
    acts = database.add_subparsers(dest="action", required=True, metavar="ACTION")
    acts.add_parser("show", help="what Redis and storage say: 0, or 69 and how they differ")
    acts.add_parser(
        "adopt",
        help="take the database that is there for the known one",
        description="For after a restore, or where Redis' data are lost for good. Nothing is erased: files of jobs "
        "that this database does not have stay in storage. Jobs of it whose files are gone are expired.",
    )
    up = commands.add_parser("up", help="all of these at once, with a redis-server of their own")
    up.add_argument("--area", type=Path, default=Path("var"), help="folder for everything it keeps (default: var)")
    commands.add_parser("settings", help="every setting, its meaning and its present value")
    commands.add_parser("reference", help="settings and metrics as docs/reference.md has them")
    keys = commands.add_parser("keys", help="create, list and revoke API keys")
    actions = keys.add_subparsers(dest="action", required=True, metavar="ACTION")
    create = actions.add_parser("create", help="make a key; its secret is shown this once")
    create.add_argument("name", help="whose key it is, for people")
    create.add_argument("--owner", help="owner whose jobs it shares (default: a new one)")
    create.add_argument(
        "--scope",
        action="append",
        choices=[scope.value for scope in Scope],
        help="may be repeated (default: submit and read)",
    )
    create.add_argument("--rate", type=_amount, help="requests a minute, 0 for any number (default: RATE_LIMIT)")
    create.add_argument(
        "--active-jobs", type=_amount, help="jobs queued or running, 0 for any number (default: MAX_ACTIVE_JOBS)"
    )
    create.add_argument(
        "--gpu-seconds", type=_amount, help="of GPU a day, 0 for any number (default: GPU_SECONDS_PER_DAY)"
    )
    actions.add_parser("list", help="every key, without its secret")
    revoke = actions.add_parser("revoke", help="make a key useless from now on")
    revoke.add_argument("id", help="such as key_0123456789abcdef")
    rotate = actions.add_parser(
        "webhook-secret",
        help="make and show the secret that signs an owner's webhooks",
        description="Makes a new secret and shows it, for the receiver to check signatures with as Standard Webhooks "
        "describe. Events are signed with it and with the one before it, so that a receiver can change over.",
    )
    rotate.add_argument("--show", action="store_true", help="show the secrets that are live, newest first; change none")
    rotate.add_argument("owner", help=f"as `keys list` shows it; with AUTH=off it is `{LOCAL.owner}`")
    return parser


def _api(settings: ServiceSettings) -> int:
    try:
        refuse_open_door(settings)
    except OpenDoor as error:
        return exit_codes.explain(str(error), exit_codes.CONFIG)
    with exit_codes.need_redis(settings) as connection:
        fault = exit_codes.storage_fault(settings, connection, ask=False)
        try:
            refuse_empty_ring(settings, ApiKeys(connection, settings))
        except OpenDoor as error:
            return exit_codes.explain(str(error), exit_codes.CONFIG)
    if fault is not None:
        return exit_codes.explain(fault, exit_codes.CONFIG)
    taken = exit_codes.cannot_listen(settings)
    if taken is not None:
        return exit_codes.explain(taken, exit_codes.CANNOT_LISTEN)
    threading.Thread(target=_prove, args=(settings,), daemon=True).start()
    raise_file_limit()
    give_memory_back()
    sys.setswitchinterval(SWITCH_SECONDS)
    # By name: the worker package never imports the application.
    config = Config(settings, "service.api.app:create_app", factory=True)
    config.load()
    # What there is now stays: a full collection, which stops everything, took some 80 ms of going through it.
    gc.collect()
    gc.freeze()
    server = EdgeServer(config)
    server.run()
    return 0 if server.started else exit_codes.UNAVAILABLE


def _prove(settings: ServiceSettings) -> None:
    """Say in the log when files cannot be kept, or not be erased. The API starts all the same: it outlives outages."""
    with connect(settings) as connection:
        fault = exit_codes.storage_fault(settings, connection, ask=True)
    if fault is not None:
        log.error("the storage does not keep files as it should", error=fault)


def _keeper(settings: ServiceSettings) -> int:
    from worker import keeper

    with exit_codes.need_redis(settings) as connection:
        fault = exit_codes.storage_fault(settings, connection, ask=True)
    if fault is not None:
        return exit_codes.explain(fault, exit_codes.UNAVAILABLE)
    keeper.run(settings)
    return 0


def _database(settings: ServiceSettings, adopt: bool) -> int:
    with exit_codes.need_redis(settings) as connection:
        fault = exit_codes.storage_fault(settings, connection, ask=True)
        if fault is not None:
            return exit_codes.explain(fault, exit_codes.UNAVAILABLE)
        storage = open_storage(settings, connection)
        database = Database(connection, settings, lambda: storage)
        if adopt:
            print(restore.adopt(database, Jobs(connection, settings), storage))
            return 0
        try:
            difference, found = database.difference(), database.found()
        except StorageUnavailable as error:
            return exit_codes.explain(str(error), exit_codes.UNAVAILABLE)
    if difference is not None:
        line = f"{difference}. `inbetween-server database adopt` takes it as it is."
        return exit_codes.explain(line, exit_codes.UNAVAILABLE)
    print(f"database {found.id}, epoch {found.epoch}" if found else "a new database, which nothing is known of yet")
    return 0


def _ready(settings: ServiceSettings) -> int:
    from worker import readiness

    fault = readiness.fault(settings)
    return 0 if fault is None else exit_codes.explain(fault, exit_codes.UNAVAILABLE)


def _keys(settings: ServiceSettings, chosen: argparse.Namespace) -> int:
    keys = ApiKeys(exit_codes.need_redis(settings), settings)
    match chosen.action:
        case "create":
            scopes = [Scope(scope) for scope in chosen.scope or CALLER]
            own = {"rate": chosen.rate, "active_jobs": chosen.active_jobs, "gpu_seconds": chosen.gpu_seconds}
            key, secret = keys.create(chosen.name, scopes, chosen.owner, **own)
            print(_shown(key))
            print(f"Send it as `Authorization: Bearer {secret}`. It is not shown again.")
        case "list":
            for key in keys.list():
                print(f"{_shown(key)}  {key.name}")
        case "revoke":
            if not keys.revoke(chosen.id):
                return exit_codes.explain(f"there is no key {chosen.id}", 1)
        case "webhook-secret":
            if chosen.owner not in {LOCAL.owner, *(key.owner for key in keys.list())}:
                return exit_codes.explain(f"no key belongs to an owner {chosen.owner}", 1)
            if chosen.show:
                print("\n".join(keys.webhook_secrets(chosen.owner)))
            else:
                print(keys.rotate_webhook_secret(chosen.owner))
    return 0


def _shown(key: Key) -> str:
    """Show a key in one line, with the limits that are its own."""
    own = {"rate": key.rate, "active-jobs": key.active_jobs, "gpu-seconds": key.gpu_seconds}
    limits = "".join(f"  {name} {value:g}" for name, value in own.items() if value is not None)
    return f"{key.id}  owner {key.owner}  scopes {','.join(sorted(key.scopes))}{limits}"


def _amount(text: str) -> int:
    if not (text.isascii() and text.isdecimal()):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0 up")
    return int(text)


def _print_settings() -> int:
    """Print one paragraph per variable: name, present value unless it is a secret, what it means."""
    present = exit_codes.settings()
    for name, field in ServiceSettings.model_fields.items():
        value = getattr(present, name)
        shown = "(set)" if isinstance(value, SecretStr) else ",".join(value) if isinstance(value, tuple) else value
        print(f"{name.upper()}={'' if shown is None else redacted(str(shown))}")
        print(f"    {field.description}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
