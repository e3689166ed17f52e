"""The whole serving road on real parts: gateway, Redis, worker, Triton. Each test is a client with one good or bad idea."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

REPOSITORY = Path(__file__).parents[2]
SHARED_DATA = Path(os.environ.get("MIEN_SHARED_DATA") or REPOSITORY.parent / "shared" / "data")
EXPRESSIONS = ["angry", "disgust", "fear", "happy", "neutral", "sad", "surprise"]


# --- clips -----------------------------------------------------------------------------------------------------------


def noise_clip(path: Path) -> Path:
    """A second of coloured noise: a good video of nobody."""
    pictures = np.random.default_rng(7).integers(0, 256, (25, 180, 320, 3), dtype=np.uint8)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 320, 180, "yuv420p"
        for picture in pictures:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    return path


def tone(path: Path) -> Path:
    """Half a second of a tone, in the container that videos come in, without a picture."""
    rate, samples = 16_000, 1024
    wave = np.sin(np.arange(8 * samples) * 2 * np.pi * 440 / rate).astype(np.float32)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=rate, layout="mono")
        for start in range(0, len(wave), samples):
            frame = av.AudioFrame.from_ndarray(wave[None, start : start + samples], format="fltp", layout="mono")
            frame.sample_rate, frame.pts, frame.time_base = rate, start, Fraction(1, rate)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def cut_off(clip: Path, path: Path, *, share: float) -> bytes:
    """The first part of a clip whose index is in front, as an upload leaves it that broke off."""
    with av.open(str(clip)) as source, av.open(str(path), "w", options={"movflags": "faststart"}) as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
    whole = path.read_bytes()
    return whole[: int(len(whole) * share)]


def check_sums(result: dict[str, Any]) -> None:
    """What must add up in any result."""
    seen = result["coverage"]
    assert seen["faces_found"] == seen["faces_used"] + sum(seen["dropped"].values())
    assert seen["frames_used"] <= seen["frames_with_face"] <= seen["frames_sampled"] <= result["media"]["frames_decoded"]
    assert seen["faces_used"] == sum(track["frames"] for track in result["tracks"])
    for track in result["tracks"]:
        assert sum(window["frames"] for window in track["timeline"]) == track["frames"]
        for verdict in (track["verdict"], *track["timeline"]):
            assert list(verdict["scores"]) == EXPRESSIONS
            assert sum(verdict["scores"].values()) == pytest.approx(1, abs=1e-3)
        for weights in (track["explanation"]["regions"], *(frame["regions"] for frame in track["explanation"]["frames"])):
            assert list(weights) == ["face", "eyes", "mouth"]
            assert sum(weights.values()) == pytest.approx(1, abs=1e-3)


# --- good videos -----------------------------------------------------------------------------------------------------


def test_a_face_is_followed_judged_and_explained(mien, portrait):
    job_id = mien.accepted(portrait)
    result = mien.result(job_id)
    check_sums(result)
    assert result["media"] | {"container": ""} == {
        "duration_ms": 2000, "width": 640, "height": 360, "frames_decoded": 50, "codec": "h264", "container": "", "rotation_degrees": 0,
    }  # fmt: skip
    assert result["coverage"]["frames_sampled"] == 16
    assert result["coverage"]["frames_with_face"] == 16
    (track,) = result["tracks"]
    assert (track["track_id"], track["start_ms"], track["frames"]) == ("t1", 0, 16)
    assert [window["start_ms"] for window in track["timeline"]] == [0, 500, 1000, 1500]
    if mien.shipped:
        assert track["verdict"]["label"] == "happy", "she smiles, in colour"
    assert result["warnings"] == []
    assert "not a determination of a person's inner state" in result["disclosure"]


def test_the_record_of_a_finished_job_is_complete(mien, portrait):
    job = mien.final(mien.accepted(portrait, sample_fps=4, end_ms=1500, min_face=40))
    assert job["state"] == "succeeded"
    assert job["attempts"] == 1
    assert job["options"] == {
        "start_ms": 0, "end_ms": 1500, "sample_fps": 4, "min_face": 40, "max_faces": 32, "enhance": "auto", "model_version": None,
        "training_consent": False, "keep_video": False,
    }  # fmt: skip
    assert job["progress"] == {"stage": "done", "frames_done": 6, "frames_total": 6, "percent": 100, "seconds_left": 0}
    assert job["created_ms"] <= job["started_ms"] <= job["ended_ms"]
    assert job["timings"]["queue"] <= job["started_ms"] - job["created_ms"] + 100
    timings = job["timings"]
    assert all(timings[name] for name in ("decode", "detect", "infer"))
    front = sum(timings[name] for name in ("decode", "enhance", "detect", "follow"))  # the model works beside them
    assert front <= timings["total"] <= job["ended_ms"] - job["started_ms"] + 100
    assert job["links"]["results"] == f"/v1/analyses/{job['id']}/results"


def test_what_is_judged_can_be_read_while_it_is_judged(mien, long_portrait):
    job_id = mien.accepted(long_portrait, end_ms=60_000)
    here, seen = f"/v1/analyses/{job_id}/windows", []
    mien.until(job_id, lambda _: mien.http.get(here).json()["windows"])
    page = mien.http.get(here).json()
    assert page["state"] == "running"
    assert mien.until(job_id, lambda job: job["progress"]["seconds_left"])["state"] == "running"
    while True:
        seen += page["windows"]
        if page["next_page_token"] is None:
            break
        page = mien.http.get(here, params={"page_token": page["next_page_token"]}).json()
    (track,) = mien.result(job_id)["tracks"]
    assert [{name: window[name] for name in track["timeline"][0]} for window in seen] == track["timeline"]


def test_a_release_can_be_asked_for(mien, portrait):
    version = mien.http.get("/v1/models/champion").json()["version"]
    assert mien.result(mien.accepted(portrait, model_version=version))["model"]["release"] == version
    refused = mien.http.post(
        "/v1/analyses", params={"model_version": 999}, content=portrait.read_bytes(), headers={"Content-Type": "video/mp4"}
    )
    assert (refused.status_code, refused.json()["code"]) == (404, "model-version-unavailable")


def test_the_model_that_judged_is_the_champion_and_its_release_can_be_read(mien, portrait):
    result = mien.result(mien.accepted(portrait))
    model = mien.http.get(result["links"]["model"]).raise_for_status().json()
    assert (model["version"], model["aliases"]) == (result["model"]["release"], ["champion"])
    assert model["files"].keys() >= {"weights.safetensors", "frames/1/model.pt", "clip/1/model.pt"}
    assert model == mien.http.get("/v1/models/champion").raise_for_status().json()


def test_the_same_video_gets_the_same_answer(mien, portrait):
    first, second = (mien.result(mien.accepted(portrait)) for _ in range(2))
    assert first["id"] != second["id"]
    assert first["coverage"] == second["coverage"]
    scores = [list(result["tracks"][0]["verdict"]["scores"].values()) for result in (first, second)]
    assert scores[0] == pytest.approx(scores[1], abs=1e-3)


def test_a_video_without_a_face_succeeds_with_no_tracks(mien, tmp_path, worker_lives):
    result = mien.result(mien.accepted(noise_clip(tmp_path / "noise.mp4")))
    assert result["tracks"] == []
    assert result["coverage"]["faces_used"] == 0
    assert result["coverage"]["frames_sampled"] == 8
    check_sums(result)


def test_neutral_turns_to_happy_on_a_real_face(mien):
    clip = SHARED_DATA / "single_face.mp4"
    if not clip.is_file():
        pytest.skip("the real clip is not part of the project")
    if not mien.shipped:
        pytest.skip("random weights have no opinion")
    result = mien.result(mien.accepted(clip))
    check_sums(result)
    track = max(result["tracks"], key=lambda each: each["frames"])
    end_ms = track["timeline"][-1]["end_ms"]
    assert track["timeline"][0]["label"] == "neutral"
    assert {window["label"] for window in track["timeline"] if window["start_ms"] >= end_ms - 1000} == {"happy"}


# --- bad videos ------------------------------------------------------------------------------------------------------


def test_an_empty_body_is_refused(mien, worker_lives):
    answer = mien.submit(b"")
    assert (answer.status_code, answer.json()["code"]) == (422, "media-empty")


def test_a_text_file_fails_as_unrecognised(mien, worker_lives):
    job = mien.final(mien.accepted(b"Dear sir or madam,\n" * 500))
    assert (job["state"], job["failure"]["code"], job["attempts"]) == ("failed", "media-unrecognised", 1)
    assert not job["failure"]["retryable"]
    answer = mien.http.get(f"/v1/analyses/{job['id']}/results")
    assert (answer.status_code, answer.json()["code"]) == (409, "state-conflict")


def test_sound_without_a_picture_fails_as_no_video_stream(mien, tmp_path, worker_lives):
    job = mien.final(mien.accepted(tone(tmp_path / "tone.mp4")))
    assert (job["state"], job["failure"]["code"]) == ("failed", "media-no-video-stream")


def test_a_video_that_breaks_off_is_judged_as_far_as_it_goes(mien, portrait, tmp_path, worker_lives):
    result = mien.result(mien.accepted(cut_off(portrait, tmp_path / "cut.mp4", share=0.6)))
    assert result["warnings"] == ["partial-decode"]
    assert 0 < result["media"]["frames_decoded"] < 50
    check_sums(result)


def test_a_video_without_its_index_fails_with_a_reason(mien, portrait, worker_lives):
    content = portrait.read_bytes()
    job = mien.final(mien.accepted(content[: len(content) // 2]))
    assert job["state"] == "failed"
    assert job["failure"]["code"] in {"media-corrupt", "media-unrecognised"}


def test_random_bytes_fail_with_a_reason(mien, worker_lives):
    job = mien.final(mien.accepted(np.random.default_rng(7).bytes(100_000)))
    assert (job["state"], job["failure"]["code"]) == ("failed", "media-unrecognised")


# --- bad questions ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["", "/results"])
@pytest.mark.parametrize("job_id", ["an_" + "0" * 32, "nonsense"])
def test_an_unknown_analysis_is_not_found(mien, job_id, path):
    answer = mien.http.get(f"/v1/analyses/{job_id}{path}")
    assert (answer.status_code, answer.json()["code"]) == (404, "job-not-found")
    assert answer.headers["content-type"] == "application/problem+json"


def test_a_result_is_not_ready_before_its_time_and_a_running_job_can_be_canceled(mien, long_portrait, worker_lives):
    job_id = mien.accepted(long_portrait)
    answer = mien.http.get(f"/v1/analyses/{job_id}/results")
    assert (answer.status_code, answer.json()["code"]) == (409, "result-not-ready")
    mien.until(job_id, lambda job: job["state"] == "running")
    assert mien.http.post(f"/v1/analyses/{job_id}:cancel").status_code == 200
    assert mien.final(job_id)["state"] == "canceled"


def test_a_deleted_analysis_leaves_nothing(mien, portrait):
    job_id = mien.accepted(portrait)
    mien.result(job_id)
    folder = mien.stack.data / "analyses" / job_id
    assert list(folder.glob("result-*.json"))
    assert mien.http.delete(f"/v1/analyses/{job_id}").is_success
    assert not folder.exists()
    assert mien.http.get(f"/v1/analyses/{job_id}").status_code == 410


# --- parts that die --------------------------------------------------------------------------------------------------


@pytest.fixture
def recovers(mien) -> Iterator[None]:
    """The stack is whole again before the next test."""
    yield
    mien.wait_until_ready()


def test_a_job_waits_for_triton_and_its_attempts_are_not_burned(mien, portrait, worker_lives, recovers):
    with mien.stack.programs.down("triton"):
        answer = mien.stack.readiness()
        assert (answer.status_code, answer.json()["dependency"]) == (503, "model")
        assert "mien_" in answer.json()["detail"]
        job_id = mien.accepted(portrait)
        time.sleep(4)
        assert mien.job(job_id)["state"] in {"queued", "running"}
    assert len(mien.result(job_id)["tracks"]) == 1
    assert mien.job(job_id)["attempts"] == 1


def test_triton_may_die_in_the_middle_of_a_job(mien, long_portrait, worker_lives, recovers):
    job_id = mien.accepted(long_portrait)
    mien.until(job_id, lambda job: job["progress"]["frames_done"] > 0)
    with mien.stack.programs.down("triton"):
        pass
    assert len(mien.result(job_id)["tracks"]) == 1


def test_without_redis_nothing_is_accepted_and_nothing_accepted_is_lost(mien, portrait, worker_lives, recovers):
    job_id = mien.accepted(portrait)
    with mien.stack.programs.down("redis"):
        answer = mien.submit(portrait)
        assert (answer.status_code, answer.json()["code"], answer.json()["dependency"]) == (503, "dependency-unavailable", "redis")
        assert answer.json()["retryable"]
        assert "Retry-After" in answer.headers
        assert "redis" in mien.stack.readiness().json()["dependency"].split(",")
        assert mien.http.get("/healthz").status_code == 200
    mien.wait_until_ready()
    later = mien.accepted(portrait)
    for each in (job_id, later):
        assert len(mien.result(each)["tracks"]) == 1
    assert len(list((mien.stack.data / "incoming").iterdir())) == 0


def test_a_job_survives_its_worker_and_succeeds_once(mien, long_portrait, recovers):
    job_id = mien.accepted(long_portrait)
    mien.until(job_id, lambda job: job["progress"]["frames_done"] > 0)
    killed = mien.stack.programs.pid("worker")
    os.kill(killed, 9)
    result = mien.result(job_id)
    check_sums(result)
    job = mien.job(job_id)
    assert (job["state"], job["attempts"]) == ("succeeded", 2)
    assert mien.stack.programs.pid("worker") != killed
    assert mien.http.get("/v1/analyses", params={"state": "running"}).json()["analyses"] == []


# --- the demo --------------------------------------------------------------------------------------------------------


def demo(mien, *arguments: object) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "deploy.demo", *map(str, arguments)]
    environment = os.environ | {"MIEN_URL": mien.stack.url}
    return subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, timeout=120, check=False)


def test_the_demo_makes_its_own_clip_and_prints_what_it_shows(mien):
    ended = demo(mien)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    for expected in (
        "t1",
        "0.0-4.0 s",
        "32 frames",
        "portrait.mp4: 4.0 s, 640x360, h264, 100 frames",
        f"release {mien.release}",
        "dropped: none",
    ):
        assert expected in ended.stdout
    assert "inner state" in " ".join(ended.stdout.split())


def test_the_demo_says_why_a_video_cannot_be_analysed(mien, tmp_path):
    letter = tmp_path / "letter.txt"
    letter.write_text("Dear sir or madam")
    ended = demo(mien, letter)
    assert ended.returncode == 1
    assert "The upload is not a video in any accepted container." in ended.stdout
    assert "logs" in ended.stdout
