"""What docker-compose.yml and the Dockerfile promise, read without a Docker engine; tests/e2e/compose.sh runs them."""

import hashlib
import re
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml
from fastapi import FastAPI
from pydantic_settings import BaseSettings

from services.gateway import settings as gateway
from services.preprocess import settings as preprocess
from services.training import settings as training
from services.web import keys, server
from shared.keys import KeyFolder, Role, presented
from shared.redis_users import USERS, acl_file

REPOSITORY = Path(__file__).resolve().parents[2]
DOCKERFILE = (REPOSITORY / "deploy" / "Dockerfile").read_text()
DOOR = (REPOSITORY / "deploy" / "compose" / "door.cfg").read_text()
REDIS_CONF = (REPOSITORY / "deploy" / "compose" / "redis.conf").read_text()

DEFAULT = re.compile(r"\$\{\w+:-([^}]*)\}")
"""`${NAME:-default}`, which Docker Compose takes from the environment."""

MEBIBYTES = {"m": 1, "g": 1024}
ONE_SHOTS = {"models", "api-keys", "redis-users"}
USER_OF = {"gateway": "gateway", "preprocess": "worker", "training": "training"}
"""Of Redis."""
SETTINGS: dict[str, type[BaseSettings]] = {
    "gateway": gateway.Settings,
    "preprocess": preprocess.Settings,
    "training": training.ServiceSettings,
}

COMPOSE: dict[str, Any] = yaml.safe_load(DEFAULT.sub(r"\1", (REPOSITORY / "docker-compose.yml").read_text()))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]

of_every_service = pytest.mark.parametrize("name", SERVICES)
of_every_server = pytest.mark.parametrize("name", sorted(SERVICES.keys() - ONE_SHOTS))
of_every_image_of_ours = pytest.mark.parametrize("name", [name for name, service in SERVICES.items() if "build" in service])


def networks(name: str) -> set[str]:
    return set(SERVICES[name].get("networks", ()))


def names_on(network: str) -> set[str]:
    """Every name that a container on this network is found by."""
    found = set()
    for name, service in SERVICES.items():
        joined = service.get("networks", ())
        if network in joined:
            options = joined[network] if isinstance(joined, dict) else None
            found |= {name, *(options or {}).get("aliases", ())}
    return found


def mounts(name: str) -> dict[str, str]:
    """Volume to mode, `rw` unless the file says otherwise."""
    parts = (volume.split(":") for volume in SERVICES[name].get("volumes", ()))
    return {volume: mode[0] if mode else "rw" for volume, _, *mode in parts}


def mebibytes(amount: str) -> int:
    return int(amount[:-1]) * MEBIBYTES[amount[-1]]


def seconds(duration: str) -> int:
    return int(duration.removesuffix("s"))


def stage(target: str) -> str:
    """The lines of one stage of the Dockerfile."""
    found = re.search(rf"^FROM \S+ AS {re.escape(target)}\n(.*?)(?=^FROM |\Z)", DOCKERFILE, re.MULTILINE | re.DOTALL)
    assert found, f"the Dockerfile has no target {target}"
    return found[1]


# --- what a container may do ------------------------------------------------------------------------------------------


@of_every_service
def test_nobody_is_root(name: str) -> None:
    user, group = SERVICES[name]["user"].split(":")
    assert int(user) >= 1000
    assert int(group) >= 1000


@of_every_service
def test_a_container_writes_to_named_volumes_and_a_small_tmp_only(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert [mount.partition(":")[0] for mount in service["tmpfs"]] == ["/tmp"]  # noqa: S108
    assert "size=" in service["tmpfs"][0]
    assert "exec" not in service["tmpfs"][0], "a tmpfs is noexec unless it is asked not to be"
    assert mounts(name).keys() <= COMPOSE["volumes"].keys(), "no folder of the machine, and so no docker.sock"


@of_every_service
def test_a_container_has_no_power_over_the_machine(name: str) -> None:
    service = SERVICES[name]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert not service.keys() & {"privileged", "cap_add", "devices", "pid", "ipc", "userns_mode", "cgroup_parent", "volumes_from"}
    assert service.get("network_mode", "none") == "none"


@of_every_service
def test_a_container_cannot_use_up_the_machine(name: str) -> None:
    service = SERVICES[name]
    assert 0 < service["pids_limit"] <= 1024
    assert 0 < mebibytes(service["mem_limit"]) <= 12 * 1024
    assert service["memswap_limit"] == service["mem_limit"], "a larger one would be swap"
    assert service["ulimits"]["core"] == 0
    assert service["logging"]["options"].keys() == {"max-size", "max-file"}


def test_only_what_people_use_publishes_a_port_and_only_on_loopback() -> None:
    published = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    assert published == {"gateway": ["127.0.0.1:8080:8080"], "training": ["127.0.0.1:8090:8090"]}


def test_only_what_publishes_a_port_reaches_out_of_the_machine() -> None:
    outward = {network for network, options in COMPOSE["networks"].items() if not options.get("internal")}
    assert outward == {"edge"}
    assert {name for name in SERVICES if "edge" in networks(name)} == {"gateway", "training"}
    assert all(networks(name) or SERVICES[name]["network_mode"] == "none" for name in SERVICES), "no list means Docker's own network"


def test_redis_is_reached_by_its_clients_and_triton_by_who_publishes_and_its_door() -> None:
    assert names_on("queue") == {"gateway", "preprocess", "training", "redis"}
    assert names_on("inference") == {"gateway", "preprocess", "triton-door"}
    assert names_on("control") == {"training", "triton-door", "triton", "triton-cpu"}


def test_the_door_is_where_its_clients_and_its_own_container_look_for_it() -> None:
    assert SERVICES["gateway"]["environment"]["MIEN_TRITON_HTTP"] == "http://triton-door:8000"
    assert SERVICES["preprocess"]["environment"]["MIEN_TRITON_GRPC"] == "triton-door:8001"
    assert {address.rpartition(":")[2] for address in re.findall(r"-([\w.]*:\d+)}", DOOR)} == {"8000", "8001", "8002", "8404"}
    assert set(re.findall(r"/dev/tcp/([\d.]+)/(\d+)", SERVICES["triton-door"]["healthcheck"]["test"][-1])) == {("127.0.0.1", "8404")}
    assert "COPY --chmod=755 deploy/compose/door.cfg /etc/mien/door.cfg" in stage("triton-door")
    assert "STOPSIGNAL SIGUSR1" in stage("triton-door"), "any other signal cuts off what is under way"


# --- how the containers fit together ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SETTINGS)
def test_the_environment_is_what_the_service_reads(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    given = {variable: value for variable, value in SERVICES[name]["environment"].items() if variable.startswith("MIEN_")}
    known = {f"MIEN_{field.upper()}" for field in SETTINGS[name].model_fields}
    assert given.keys() <= known
    for variable, value in given.items():
        monkeypatch.setenv(variable, str(value))
    settings = SETTINGS[name]()
    assert {str(value) for value in given.values() if value} <= {str(value) for value in settings.model_dump().values()}


@pytest.mark.parametrize("name", SETTINGS)
def test_every_address_is_a_name_on_a_network_of_the_service(name: str) -> None:
    environment = SERVICES[name]["environment"]
    addresses = {variable: value for variable, value in environment.items() if re.search(r"_(URL|HTTP|GRPC)$", variable)}
    assert addresses
    reachable = set[str]().union(*(names_on(network) for network in networks(name)))
    for value in addresses.values():
        assert urlsplit(value if "//" in value else f"//{value}").hostname in reachable


def modes(volume: str) -> dict[str, str]:
    """Who has the volume, and may they write to it."""
    return {name: mounts(name)[volume] for name in SERVICES if volume in mounts(name)}


def test_only_who_publishes_writes_the_model_repository() -> None:
    readers = {"gateway": "ro", "preprocess": "ro", "triton-cpu": "ro", "triton": "ro"}
    assert modes("models") == {"models": "rw", "training": "rw", **readers}
    for name in modes("models").keys() - {"models"}:
        assert SERVICES[name]["depends_on"]["models"] == {"condition": "service_completed_successfully"}


def test_the_private_key_is_seen_by_who_publishes_and_nobody_else() -> None:
    assert modes("keys") == {"models": "rw", "training": "ro"}
    assert modes("trust") == {"models": "rw", "training": "ro", "preprocess": "ro", "gateway": "ro"}
    assert "--mode=700 /keys" in stage("python")
    environment = SERVICES["training"]["environment"]
    assert environment["MIEN_SIGNING_KEY"] == "/keys/signing.pem"
    command = SERVICES["models"]["command"][-1]
    assert f"--out /keys --public {environment['MIEN_TRUSTED_KEYS']}" in command
    assert f"--key {environment['MIEN_SIGNING_KEY']}" in command
    for name in ("gateway", "preprocess"):
        assert SERVICES[name]["environment"]["MIEN_TRUSTED_KEYS"] == environment["MIEN_TRUSTED_KEYS"]


def test_every_service_that_others_reach_has_an_api_key_of_which_it_sees_a_digest_alone() -> None:
    assert modes("api-keys") == {"api-keys": "rw", "gateway": "ro", "training": "ro"}
    assert modes("first-api-key") == {"api-keys": "rw"}
    assert "--mode=700 /first-api-key" in stage("python")
    for name in ("gateway", "training"):
        assert SERVICES[name]["environment"]["MIEN_API_KEYS"] == "/api-keys"
        assert SERVICES[name]["depends_on"]["api-keys"] == {"condition": "service_completed_successfully"}


def test_the_first_api_key_is_made_once_and_opens_everything(tmp_path: Path) -> None:
    here = {"/api-keys": tmp_path / "api-keys", "/first-api-key": tmp_path}
    command = SERVICES["api-keys"]["command"]
    for folder, place in here.items():
        command = [word.replace(f"={folder}", f"={place}") for word in command]
    assert command[:3] == ["python", "-m", "services.web.keys"]
    assert [keys.main(command[3:]) for _ in range(2)] == [0, 0]
    (key,) = KeyFolder(tmp_path / "api-keys").all()
    assert set(key.roles) == set(Role)
    assert key.use_is_permitted()
    shown = presented((tmp_path / "key").read_text().strip())
    assert shown is not None
    assert (shown.key_id, key.fits(shown.secret)) == (key.id, True)


def test_crops_are_cut_by_the_worker_and_runs_are_the_training_service_s_own() -> None:
    assert modes("crops") == {"preprocess": "rw", "training": "ro"}
    assert modes("runs") == {"training": "rw"}


@pytest.mark.parametrize("name", [*SETTINGS, *sorted(ONE_SHOTS)])
def test_an_empty_volume_belongs_to_the_user_who_writes_to_it(name: str) -> None:
    image = stage("python") + stage(SERVICES[name]["build"]["target"])
    made = re.findall(r"install --directory --owner=(\d+) --group=(\d+) ([^\n\\]+)", image)
    owners = {folder: f"{user}:{group}" for user, group, folders in made for folder in folders.split()}
    written = {volume for volume, mode in mounts(name).items() if mode == "rw"}
    for volume in written:
        assert owners[f"/{volume}"] == SERVICES[name]["user"]


def test_the_services_that_share_media_are_one_user() -> None:
    users = {SERVICES[name]["user"] for name in SERVICES if "data" in mounts(name)}
    assert len(users) == 1
    assert {name for name in SERVICES if "data" in mounts(name)} == {"gateway", "preprocess"}


@of_every_server
def test_every_server_is_watched_and_brought_back(name: str) -> None:
    service = SERVICES[name]
    assert service["restart"] == "unless-stopped"
    assert service["healthcheck"]["test"][0] == "CMD"
    assert service["healthcheck"].keys() == {"test", "interval", "timeout", "retries", "start_period"}


def test_each_service_is_a_user_of_redis_and_sees_its_own_password_alone() -> None:
    (told,) = (line.split()[1] for line in REDIS_CONF.splitlines() if line.startswith("aclfile "))
    command = SERVICES["redis-users"]["command"]
    assert command[:4] == ["python", "-m", "shared.redis_passwords", f"--acl={told}"]
    files = dict(each.split("=") for each in command[4:])
    assert files.keys() == USERS.keys()
    for service, user in USER_OF.items():
        environment = SERVICES[service]["environment"]
        assert environment["MIEN_REDIS_URL"] == f"redis://{user}@redis:6379/0"
        assert environment["MIEN_REDIS_PASSWORD_FILE"] == files[user]
        assert modes(f"redis-{user}") == {"redis-users": "rw", service: "ro"}
        assert [volume for volume in mounts(service) if volume.startswith("redis")] == [f"redis-{user}"]
    assert modes("redis-users") == {"redis-users": "rw", "redis": "ro"}
    assert SERVICES["redis"]["depends_on"] == {"redis-users": {"condition": "service_completed_successfully"}}
    assert files["health"] in SERVICES["redis"]["healthcheck"]["test"][-1]


def test_another_redis_is_made_when_its_users_may_do_something_else() -> None:
    rules = hashlib.sha256(acl_file(dict.fromkeys(USERS, "")).encode()).hexdigest()
    assert SERVICES["redis"]["labels"] == {"mien.redis-rules": rules[:12]}


def drain_s(name: str) -> int | float | None:
    """How long the server takes at most to finish what it has begun, once it was told to stop."""
    if name == "gateway":
        return server.config(FastAPI(), host="", port=0).timeout_graceful_shutdown
    if name == "training":
        streams = server.config(FastAPI(), host="", port=0).timeout_graceful_shutdown
        assert streams
        return streams + training.ServiceSettings().training_grace_s
    if name == "triton-door":
        return int(re.findall(r"hard-stop-after (\d+)s", DOOR)[0])
    if name == "preprocess":
        return preprocess.Settings().grace_s
    (told,) = re.findall(
        r'--exit-timeout-s(?:ecs=|", ")(\d+)', stage(name) if "build" in SERVICES[name] else " ".join(SERVICES[name]["command"])
    )
    return int(told)


@pytest.mark.parametrize("name", ["gateway", "preprocess", "training", "triton-cpu", "triton", "triton-door"])
def test_a_server_is_killed_only_after_it_had_the_time_to_finish(name: str) -> None:
    drain = drain_s(name)
    assert drain
    assert seconds(SERVICES[name]["stop_grace_period"]) >= drain + 10


def test_a_profile_chooses_the_triton_and_nothing_else() -> None:
    assert {name: service["profiles"] for name, service in SERVICES.items() if "profiles" in service} == {
        "triton-cpu": ["cpu"],
        "triton": ["gpu"],
    }
    assert {name for name, service in SERVICES.items() if "deploy" in service} == {"triton"}
    (device,) = SERVICES["triton"]["deploy"]["resources"]["reservations"]["devices"]
    assert device == {"driver": "nvidia", "count": 1, "capabilities": ["gpu"]}


def test_redis_forgets_no_job() -> None:
    settings = dict(line.split(maxsplit=1) for line in REDIS_CONF.splitlines() if line and not line.startswith("#"))
    assert settings["appendonly"] == "yes"
    assert settings["appendfsync"] == "always"
    assert settings["maxmemory-policy"] == "noeviction"
    assert mebibytes(settings["maxmemory"].removesuffix("b")) < mebibytes(SERVICES["redis"]["mem_limit"])
    assert SERVICES["redis"]["volumes"][0] == f"redis:{settings['dir']}"


# --- the images -------------------------------------------------------------------------------------------------------


@of_every_image_of_ours
def test_an_image_runs_as_the_same_user_with_and_without_compose(name: str) -> None:
    users = re.findall(r"^USER (\S+)$", stage(SERVICES[name]["build"]["target"]), re.MULTILINE)
    assert users == [SERVICES[name]["user"]]


@of_every_image_of_ours
def test_build_arguments_have_the_defaults_of_the_dockerfile(name: str) -> None:
    declared = dict(re.findall(r"^ARG (\w+)=(.*)$", DOCKERFILE, re.MULTILINE))
    given = {argument: value or "" for argument, value in SERVICES[name]["build"]["args"].items()}
    assert given
    assert given.items() <= declared.items()


def test_an_image_holds_its_own_service_only() -> None:
    copied = {
        target: " ".join(re.findall(r"^COPY \S+ (.*) \S+$", stage(target), re.MULTILINE))
        for target in ("gateway", "preprocess", "training")
    }
    assert copied == {
        "gateway": "shared services/__init__.py services/web services/gateway",
        "preprocess": "shared services/__init__.py services/preprocess",
        "training": "shared training services/__init__.py services/web services/training",
    }
