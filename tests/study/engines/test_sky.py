"""The files of managed jobs: valid by SkyPilot's published schema, and run by bash here."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
import yaml

from ness_cli.console import Progress
from ness_cli.errors import SettingsError
from ness_cli.settings.engines.sky import Options
from ness_cli.study.engines.base import Job
from ness_cli.study.engines.sky import Sky
from ness_cli.workplace import Workplace


def _job(folder: Path, name: str) -> Job:
    command = ("run", "--out", str(folder / name), "--seed", "1", "note=it's")
    return Job(name, command, folder / name, folder / f"{name}.log", folder / f"{name}.exit")


def _engine(folder: Path, **options) -> Sky:
    return Sky(folder, Options(**options), 2, Workplace(folder, progress=Progress()))


def test_a_file_has_what_skypilot_documents_and_no_more(tmp_path):
    folder = tmp_path / "My_study"
    jobs = [_job(folder, "eps1=1e-3/seed-1"), _job(folder, "b/seed-1")]
    engine = _engine(folder, bucket="runs", accelerators="L4:1", infra="aws", memory="16+")
    text = engine.dry_run(jobs)
    assert not engine.run(jobs, lambda: None)
    first, second = yaml.safe_load_all(text)
    assert first == yaml.safe_load((folder / ".sky" / "eps1=1e-3" / "seed-1.yaml").read_text())
    assert second["name"] == "my-study-b-seed-1"
    assert first.keys() == {"name", "resources", "file_mounts", "setup", "run"}
    assert first["name"] == "my-study-eps1-1e-3-seed-1"
    assert first["resources"] == {
        "cpus": "2+",
        "use_spot": True,
        "job_recovery": {"recover_on_exit_codes": [75]},
        "accelerators": "L4:1",
        "infra": "aws",
        "memory": "16+",
    }
    assert first["file_mounts"] == {"/ness": {"name": "runs", "mode": "MOUNT"}}
    assert first["setup"] == "pip install /ness/ness_cli-*.whl\n"


@pytest.mark.parametrize("code", [0, 75])
def test_its_commands_run_in_the_bucket_and_end_with_the_code_of_ness(tmp_path, code):
    programs, bucket = tmp_path / "programs", tmp_path / "bucket"
    programs.mkdir()
    (programs / "ness").write_text(f'#!/bin/bash\nprintf "%s\\n" "$@" >&2\nexit {code}\n')
    (programs / "ness").chmod(0o755)
    job = _job(tmp_path / "out", "a/seed-1")
    engine = _engine(tmp_path / "out", bucket="runs", mount=str(bucket))
    commands = yaml.safe_load(engine.dry_run([job]))["run"]
    environment = {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}"}
    ended = subprocess.run(["bash", "-c", commands], env=environment, check=False)
    assert ended.returncode == code
    place = bucket / "out" / "a"
    words = ["run", "--out", str(place / "seed-1"), "--seed", "1", "note=it's"]
    assert (place / "seed-1.log").read_text().splitlines() == words
    assert (place / "seed-1.exit").read_text() == f"{code}\n"


def test_a_bucket_is_needed(tmp_path):
    with pytest.raises(SettingsError, match=r"engines\.sky\.bucket"):
        _engine(tmp_path).dry_run([_job(tmp_path, "a")])
