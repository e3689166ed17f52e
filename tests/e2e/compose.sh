#!/usr/bin/env bash
# Proves that the images build, and that `docker compose --profile cpu up` analyses a video and takes a training run, on real containers:
#
#   apt-get install docker.io docker-compose debootstrap
#   tests/e2e/compose.sh [VIDEO]
#
# Not part of `make test`: it wants root, a network, 30 GB of disk and ten minutes the first time. It pulls no image: debootstrap
# makes stand-ins for the base images from Debian's own Python 3.11, Redis 7 and HAProxy 2.6. It starts a Docker engine unless one
# is running, and takes down all that it started; the images stay, so that the next run is quick.
set -euo pipefail
cd "$(dirname "$0")/../.."

# Debian's client brings BuildKit along; one that was installed by hand may come first on the PATH and lack it.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin:$PATH
export DOCKER_BUILDKIT=1 COMPOSE_DOCKER_CLI_BUILD=1 COMPOSE_PROJECT_NAME=mien-e2e
export PYTHON_IMAGE=mien-stand-in/python:3.11 REDIS_IMAGE=mien-stand-in/redis:7 HAPROXY_IMAGE=mien-stand-in/haproxy:2.6

url=http://127.0.0.1:8080
training=http://127.0.0.1:8090
certificates=/etc/ssl/certs/ca-certificates.crt
scratch=$(mktemp -d)
engine=
succeeded=

say() { printf '\n== %s\n' "$*"; }
fail() { printf 'compose.sh: %s\n' "$*" >&2; exit 1; }

compose() {
    if docker compose version >/dev/null 2>&1; then docker compose --profile cpu "$@"; else docker-compose --profile cpu "$@"; fi
}

# Retries a command once a second: wait_for SECONDS WHAT COMMAND...
wait_for() {
    local seconds=$1 what=$2
    shift 2
    for ((waited = 0; waited < seconds; waited++)); do
        "$@" >/dev/null 2>&1 && return
        sleep 1
    done
    fail "$what: not within $seconds s"
}

clean_up() {
    if [ -z "$succeeded" ]; then
        compose ps || true
        compose logs --no-color --tail 100 || true
        tail -n 40 "$scratch/dockerd.log" 2>/dev/null || true
    fi
    compose down --volumes --timeout 45 || true
    if [ -n "$engine" ]; then
        kill "$engine"
        wait "$engine" || true
    fi
    rm -rf "$scratch"
}

start_engine() {
    docker info >/dev/null 2>&1 && return
    say "starting a Docker engine"
    dockerd >"$scratch/dockerd.log" 2>&1 &
    engine=$!
    wait_for 60 "the Docker engine" docker info
}

# A base image of Debian packages: stand_in IMAGE PACKAGES. This machine's certificates go along, since a
# proxy may have put its own among them.
stand_in() {
    local image=$1 packages=$2 root=$scratch/root
    docker image inspect "$image" >/dev/null 2>&1 && return
    say "making $image from Debian's $packages"
    debootstrap --variant=minbase --include="$packages" bookworm "$root" >"$scratch/debootstrap.log"
    install -D --mode=644 "$certificates" "$root$certificates"
    tar --directory "$root" --create --exclude='./var/cache/apt/archives/*.deb' --exclude='./dev/*' . |
        docker import --change "ENV SSL_CERT_FILE=$certificates PIP_CERT=$certificates" - "$image"
    rm -rf "$root"
}

# One member of the JSON object on standard input.
member() { python3 -c 'import json, sys; print(json.load(sys.stdin)[sys.argv[1]])' "$1"; }

# curl, with the first API key.
ask() { curl --header "Authorization: Bearer $key" "$@"; }

post() { ask --fail-with-body --silent --show-error --request POST --upload-file "$1" --header 'Content-Type: application/octet-stream' "$url/v1/analyses" | member id; }

state() { ask --fail --silent --show-error "$url/v1/analyses/$1" | member state; }

has_ended() { [[ $(state "$1") =~ ^(succeeded|failed|canceled)$ ]]; }

# Waits for an analysis and requires that it found what is in the clip: one face, all the way through.
expect_one_track() {
    wait_for 300 "the end of analysis $1" has_ended "$1"
    [ "$(state "$1")" = succeeded ] || fail "the analysis ended so: $(ask --silent "$url/v1/analyses/$1")"
    ask --fail --silent --show-error "$url/v1/analyses/$1/results" >"$scratch/result.json"
    python3 - "$scratch/result.json" "$(ask --fail --silent --show-error "$url/v1/analyses/$1" | member attempts)" <<'END'
import json, sys
result, attempts = json.load(open(sys.argv[1])), sys.argv[2]
(track,) = result["tracks"]
assert result["coverage"]["frames_used"] == track["frames"] > 0, result["coverage"]
assert abs(sum(track["verdict"]["scores"].values()) - 1) < 1e-3, track["verdict"]
print(f"{track['frames']} frames, {track['start_ms']}-{track['end_ms']} ms: {track['verdict']['label']}; attempt {attempts}")
END
}

# The containers that are up: of one service, healthy ones...
containers() { docker ps --quiet --filter label=com.docker.compose.project="$COMPOSE_PROJECT_NAME" "$@"; }

container() { containers --filter label=com.docker.compose.service="$1" | head -n 1; }

workers() { containers --filter label=com.docker.compose.service=preprocess "$@"; }

all_are_healthy() { [ "$(containers)" = "$(containers --filter health=healthy)" ]; }

# A command in the container of a service: inside SERVICE COMMAND...
inside() {
    local service=$1
    shift
    docker exec --interactive "$(container "$service")" "$@"
}

both_workers_are_healthy() { [ "$(workers --filter health=healthy | wc -l)" = 2 ]; }

# What the worker in this container tells Prometheus, as a whole number.
succeeded_by() {
    docker exec "$1" python -c '
import re, urllib.request
metrics = urllib.request.urlopen("http://127.0.0.1:9100/metrics").read().decode()
print(sum(int(float(count)) for count in re.findall(r"^mien_attempts_total\{outcome=\"succeeded\",.*\} (\S+)$", metrics, re.M)))'
}

is_ready() { ask --fail --silent "$url/readyz" && ask --fail --silent "$training/readyz"; }

# What is signed serves, and nobody but who publishes can read what it is signed with.
expect_signed() {
    inside preprocess sh -c 'test -s /models/mien_[0-9]*[0-9]/release.json.sig && test -s /trust/trusted.pem' || fail "no signature"
    ! inside preprocess grep -q ' /keys ' /proc/mounts || fail "the worker sees the private key"
    ! inside training sh -c 'echo >>/keys/signing.pem' 2>/dev/null || fail "the training service can change the private key"
}

run_state() { ask --fail --silent --show-error "$training/v1/runs/$1" | member state; }

has_run() { [ "$(run_state "$1")" = succeeded ]; }

# Pictures of every class, cut by the worker's code, learnt from by the training service, which is another user.
expect_training() {
    local faces=$scratch/faces run
    .venv/bin/python - "$video" "$faces" <<'END'
import itertools, pathlib, sys
import av
labels = ("angry", "disgust", "fear", "happy", "neutral", "sad", "surprise")
with av.open(sys.argv[1]) as clip:
    for number, frame in enumerate(itertools.islice(clip.decode(video=0), 0, 42)):
        folder = pathlib.Path(sys.argv[2], labels[number % len(labels)])
        folder.mkdir(parents=True, exist_ok=True)
        frame.to_image().save(folder / f"{number}.png")
END
    chmod -R a+rX "$scratch"
    compose run --rm --no-deps -T --volume "$faces:/in:ro" preprocess \
        python -m services.preprocess.harvest pictures /in --name faces --licence CC0 --size 32 --out /crops/faces
    run=$(ask --fail-with-body --silent --show-error --json \
        '{"name": "tiny", "labelled": [{"store": "faces", "held_out": 0.3}], "rounds": 0,
          "teacher_recipe": {"design": {"width": 0.125}, "stretches": [{"epochs": 1, "size": 32}], "batch": 16}}' \
        "$training/v1/runs" | member id)
    wait_for 300 "the end of run $run" has_run "$run"
    ask --fail --silent --show-error "$training/v1/runs/$run/report"
}

expect_hardened() {
    for service in gateway preprocess training redis triton-cpu triton-door; do
        # shellcheck disable=SC2016
        inside "$service" sh -c '[ "$(id -u)" -ge 10000 ]' || fail "$service runs as a user of the system"
        inside "$service" grep -Eq '^\S+ / \S+ ro[, ]' /proc/mounts || fail "$service can write to its image"
        inside "$service" grep -Eq '^CapBnd:\s*0+$' /proc/self/status || fail "$service has capabilities"
    done
}

# From where gateway and worker are on the network, with the worker's gRPC client: the door lets neither change Triton, and there is no
# other way to it.
expect_a_closed_door() {
    local address
    address=$(docker inspect --format '{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}' "$(container triton-cpu)")
    for service in gateway preprocess; do
        docker run --rm --interactive --network "container:$(container "$service")" --entrypoint python mien-preprocess - "$address" <<'END' || fail "$service reaches more of Triton than it may"
import socket, sys, urllib.error, urllib.request
from tritonclient.grpc import InferenceServerClient
from tritonclient.utils import InferenceServerException

model, door = "mien_000001_frames", "http://triton-door:8000"
refused = []
for method, path in (
    ("POST", "/v2/repository/index"), ("POST", f"/v2/repository/models/{model}/load"), ("POST", f"/v2/repository/models/{model}/unload"),
    ("GET", "/v2/systemsharedmemory/status"), ("GET", "/v2/trace/setting"), ("POST", "/v2/logging"), ("GET", f"/v2/models/{model}/config"),
    ("GET", f"/v2/models/{model}/stats"),
):
    try:
        urllib.request.urlopen(urllib.request.Request(door + path, data=b"{}" if method == "POST" else None, method=method), timeout=10)
    except urllib.error.HTTPError as error:
        refused.append(error.code)
assert refused == [403] * 8, refused
assert urllib.request.urlopen(f"{door}/v2/health/ready", timeout=10).status == 200
client, refused = InferenceServerClient("triton-door:8001"), []
for call in (
    client.get_model_repository_index, lambda: client.load_model(model), lambda: client.unload_model(model), client.get_trace_settings,
    client.get_log_settings, client.get_system_shared_memory_status, lambda: client.get_model_config(model),
    client.get_inference_statistics,
):
    try:
        call()
    except InferenceServerException as error:
        refused.append(error.status())
assert refused == ["StatusCode.PERMISSION_DENIED"] * 8, refused
assert client.is_server_ready()
assert b"nv_inference" in urllib.request.urlopen("http://triton-door:8002/metrics", timeout=10).read()
for host in ("triton", "triton-cpu", sys.argv[1]):
    for port in (8000, 8001, 8002):
        try:
            socket.create_connection((host, port), timeout=3)
        except OSError:
            continue
        raise SystemExit(f"{host}:{port} answers")
END
    done
    echo "from gateway and worker: 8 calls by HTTP and 8 by gRPC refused, health answered, Triton itself out of reach"
}

# Nobody is let in without a name, each service is its own user with its own password, and what users may do ends at their work.
expect_users_of_redis() {
    inside redis redis-cli ping 2>&1 | grep -q NOAUTH || fail "Redis answers who has no name"
    inside gateway python - <<'END' || fail "the gateway's user of Redis may do more than its work"
import os, pathlib, redis
from shared.redis_passwords import with_password

url, file = os.environ["MIEN_REDIS_URL"], pathlib.Path(os.environ["MIEN_REDIS_PASSWORD_FILE"])
assert file.read_text() not in " ".join(os.environ.values())
client = redis.Redis.from_url(with_password(url, file))
assert client.ping()
for command in ("FLUSHALL", "KEYS *", "CONFIG SET dir /tmp", "ACL LIST", "SHUTDOWN NOSAVE", "SET other 1"):
    try:
        client.execute_command(*command.split())
    except redis.exceptions.NoPermissionError:
        continue
    raise SystemExit(command)
for name in ("default", "worker", "training", "health"):
    try:
        redis.Redis.from_url(with_password(url.replace("gateway", name), file)).ping()
    except redis.AuthenticationError:
        continue
    raise SystemExit(name)
END
    echo "Redis refuses default, other users' names, FLUSHALL, KEYS, CONFIG SET, ACL and SHUTDOWN to the gateway's user"
}

trap clean_up EXIT
start_engine
stand_in "$PYTHON_IMAGE" python3,python3-venv,libpython3.11
stand_in "$REDIS_IMAGE" redis-server
stand_in "$HAPROXY_IMAGE" haproxy

say "making the clip"
deploy/setup.sh
video=${1:-$scratch/portrait.mp4}
[ -n "${1:-}" ] || .venv/bin/python -c 'import pathlib, sys; from deploy.clip import make_clip; make_clip(pathlib.Path(sys.argv[1]))' "$video"

say "building the images"
compose build

say "bringing the stack up"
compose up -d
key=$(compose run --rm --no-deps -T api-keys cat /first-api-key/key)
wait_for 300 "a ready stack" is_ready
[ "$(curl --silent --output /dev/null --write-out '%{http_code}' "$url/v1/analyses")" = 401 ] || fail "the gateway asks for no key"
expect_hardened
expect_signed
wait_for 120 "a health check of every server" all_are_healthy
expect_a_closed_door
expect_users_of_redis

say "one analysis"
id=$(post "$video")
expect_one_track "$id"

say "from pictures to a trained network"
expect_training

say "two workers share six analyses"
compose up -d --scale preprocess=2
wait_for 120 "a second worker" both_workers_are_healthy
for n in 1 2 3 4 5 6; do ids[n]=$(post "$video"); done
for id in "${ids[@]}"; do expect_one_track "$id"; done
for worker in $(workers); do
    done_here=$(succeeded_by "$worker")
    ((done_here > 0)) || fail "one worker did nothing"
    echo "one worker: $done_here"
done

say "three analyses during which Redis, Triton and its door restart"
ids=()
for n in 1 2 3; do ids[n]=$(post "$video"); done
compose restart --timeout 45 triton-cpu triton-door redis
for id in "${ids[@]}"; do expect_one_track "$id"; done

say "the result, as people read it"
MIEN_URL=$url MIEN_API_KEY=$key .venv/bin/python -m deploy.demo "$video"

succeeded=yes
say "compose.sh: passed"
