"""The Slurm script, run whole on stand-ins for Slurm's programs, Ray and kdcache."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kdcache.config import Settings, load_config
from kdcache.extract import ExtractConfig
from kdcache.train import TrainSettings
from tests.command_lines import check_command

NODES = ["n1", "n2", "n3"]
PATIENCE = 60.0

STAND_INS = {
    # `scontrol show hostnames LIST`
    "scontrol": 'tr , "\\n" <<<"$3"',
    # With a node named, there; else on every node at once. The worst exit code is its own.
    "srun": """
        printf '%s\\n' "srun $*" >>"$LOG/srun"
        on=$SLURM_JOB_NODELIST
        while [[ $1 == -* ]]; do
          case $1 in --nodelist=*) on=${1#*=} ;; esac
          shift
        done
        code=0 tasks=()
        for node in ${on//,/ }; do NODE=$node "$@" & tasks+=($!); done
        for task in "${tasks[@]}"; do wait "$task" || code=$?; done
        exit "$code"
    """,
    # `ray symmetric-run … -- COMMAND`: on the head the command, elsewhere nothing of interest.
    "ray": """
        [[ ${BROKEN_RAY:-} ]] && exit 0
        for word in "$@"; do
          case $word in --address=*) head=${word#*=} ;; esac
        done
        [[ $NODE == "${head%:*}" ]] || exit 0
        printf '%s\\n' "$@" >"$LOG/ray"
        while [[ $1 != -- ]]; do shift; done
        shift
        "$@"
    """,
    "kdcache": """
        printf '%s\\n' kdcache "$@" >"$LOG/kdcache.part"
        echo "$NODE $RAY_AUTH_MODE $RAY_AUTH_TOKEN" >"$LOG/environment"
        mv "$LOG/kdcache.part" "$LOG/kdcache"
        [[ ${EXIT:-} ]] && exit "$EXIT"
        trap 'exit 143' TERM
        while :; do sleep 0.02; done
    """,
}


class Slurm:
    """A job of the script with stand-ins on its path."""

    def __init__(self, script: Path, place: Path) -> None:
        self.script, self.log, self.temporary = script, place / "log", place / "tmp"
        programs = place / "bin"
        for folder in (programs, self.log, self.temporary):
            folder.mkdir()
        for name, body in STAND_INS.items():
            (programs / name).write_text(f"#!/usr/bin/env bash\nset -u\n{body}\n")
            (programs / name).chmod(0o755)
        self.environment = {
            "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
            "LOG": str(self.log),
            "TMPDIR": str(self.temporary),
            "SLURM_JOB_ID": "77",
            "SLURM_JOB_NODELIST": ",".join(NODES),
            "SLURM_CPUS_PER_TASK": "16",
        }

    def start(self, *arguments: str, **more: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            ["bash", str(self.script), *arguments],
            env=self.environment | more,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: str, **more: str) -> tuple[int, str]:
        job = self.start(*arguments, **more)
        error = job.communicate(timeout=PATIENCE)[1]
        return job.returncode, error

    def told(self, program: str) -> list[str]:
        return (self.log / program).read_text().splitlines()


@pytest.fixture
def script(repository: Path) -> Path:
    return repository / "cluster" / "slurm" / "kdcache.sbatch"


@pytest.fixture
def slurm(script: Path, tmp_path: Path) -> Slurm:
    return Slurm(script, tmp_path)


def test_it_is_bash_that_shellcheck_likes(script: Path) -> None:
    assert subprocess.run(["bash", "-n", script], check=False).returncode == 0
    checker = shutil.which("shellcheck") or shutil.which(
        "shellcheck", path=str(Path(sys.executable).parent)
    )
    if checker is None:
        pytest.skip("shellcheck is not installed")
    checked = subprocess.run([checker, script], capture_output=True, text=True, check=False)
    assert checked.stdout == ""


@pytest.mark.parametrize(
    ("command", "where", "more"),
    [("extract", "ray.address", "actors=3"), ("train", "ray_address", "workers=3")],
)
def test_the_head_runs_a_command_that_exists(
    slurm: Slurm, repository: Path, command: str, where: str, more: str
) -> None:
    assert slurm.run(command, "a b.yaml", "--set", more, EXIT="0") == (0, "")
    words = slurm.told("kdcache")
    assert words == ["kdcache", command, "a b.yaml", "--set", f"{where}=n1:6379", "--set", more]
    check_command(words)
    settings: type[Settings] = ExtractConfig if command == "extract" else TrainSettings
    load_config(repository / "cluster" / f"{command}.yaml", settings, words[4::2])


def test_nobody_else_is_let_into_the_cluster(slurm: Slurm) -> None:
    tokens = set()
    for _ in range(2):
        assert slurm.run("extract", "x.yaml", EXIT="0")[0] == 0
        node, mode, token = slurm.told("environment")[0].split()
        assert (node, mode, len(token)) == ("n1", "token", 64)
        tokens.add(token)
    assert len(tokens) == 2


def test_ray_takes_the_arguments(slurm: Slurm) -> None:
    from ray.scripts.scripts import start
    from ray.scripts.symmetric_run import curate_and_validate_ray_start_args, symmetric_run

    assert slurm.run("extract", "x.yaml", EXIT="0", SLURM_GPUS_ON_NODE="8")[0] == 0
    name, *words = slurm.told("ray")
    assert name == "symmetric-run"
    ours = words[: words.index("--")]
    settings = symmetric_run.make_context("symmetric-run", list(ours)).params
    assert (settings["address"], settings["min_nodes"]) == ("n1:6379", len(NODES))
    started = start.make_context("start", ["--head", *curate_and_validate_ray_start_args(ours)])
    assert (started.params["num_cpus"], started.params["num_gpus"]) == (16, 8)


def test_ray_runs_once_on_every_node(slurm: Slurm) -> None:
    assert slurm.run("extract", "x.yaml", EXIT="0")[0] == 0
    (step,) = (line for line in slurm.told("srun") if "symmetric-run" in line)
    assert step.startswith("srun --nodes=3 --ntasks=3 --cpus-per-task=16 ")
    assert "--num-gpus=0" in step


def test_the_head_s_address_can_be_given(slurm: Slurm) -> None:
    slurm.environment["SLURM_JOB_NODELIST"] = "10.0.0.7,n2"
    assert slurm.run("extract", "x.yaml", EXIT="0", KDCACHE_HEAD="10.0.0.7")[0] == 0
    assert "ray.address=10.0.0.7:6379" in slurm.told("kdcache")


@pytest.mark.parametrize("code", [0, 1, 2, 3, 143])
def test_the_exit_code_is_that_of_kdcache(slurm: Slurm, code: int) -> None:
    assert slurm.run("extract", "x.yaml", EXIT=str(code)) == (code, "")


def test_told_to_end_it_tells_kdcache(slurm: Slurm) -> None:
    job = slurm.start("extract", "x.yaml")
    deadline = time.monotonic() + PATIENCE
    while not (slurm.log / "kdcache").exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    job.send_signal(signal.SIGTERM)
    assert job.communicate(timeout=PATIENCE)[1] == ""
    assert job.returncode == 143


def test_a_ray_that_does_not_start_is_a_failure(slurm: Slurm) -> None:
    code, error = slurm.run("extract", "x.yaml", BROKEN_RAY="1")
    assert code == 1
    assert "Nothing was begun" in error


def test_so_it_is_when_the_job_had_run_before(slurm: Slurm) -> None:
    (slurm.temporary / "kdcache-77-0.pid").write_text("1")  # cut off with its node
    code, error = slurm.run("extract", "x.yaml", BROKEN_RAY="1", SLURM_RESTART_COUNT="1")
    assert code == 1
    assert "Nothing was begun" in error


def test_nothing_is_left_behind(slurm: Slurm) -> None:
    slurm.run("extract", "x.yaml", EXIT="3")
    assert list(slurm.temporary.iterdir()) == []


@pytest.mark.parametrize("given", [(), ("train",), ("cluster/extract.yaml",), ("score", "x.yaml")])
def test_without_a_command_and_a_configuration_it_says_how(
    slurm: Slurm, given: tuple[str, ...]
) -> None:
    code, error = slurm.run(*given)
    assert code != 0
    assert "usage: sbatch cluster/slurm/kdcache.sbatch extract|train CONFIG" in error


def test_the_training_on_the_page_finds_a_place(repository: Path) -> None:
    page = (repository / "cluster" / "slurm" / "README.md").read_text().replace("\\\n", " ")
    (line,) = (line for line in page.splitlines() if "kdcache.sbatch train" in line)
    words = line.split()
    nodes, gpus, cpus = (
        int(words[words.index(flag) + 1])
        for flag in ("--nodes", "--gpus-per-node", "--cpus-per-task")
    )
    overrides = words[words.index("--set") + 1 :]
    student = load_config(repository / "cluster" / "train.yaml", TrainSettings, overrides)
    assert student.workers == nodes * gpus
    assert student.micro_batches_per_step >= student.workers
    assert gpus * student.cpus_per_worker <= cpus
    assert "--no-kill=off" in words, "a training wants all its workers"


def test_the_job_asks_to_go_on(script: Path) -> None:
    asked = {line.split()[1] for line in script.read_text().splitlines() if "#SBATCH" in line}
    assert asked >= {"--requeue", "--no-kill", "--exclusive", "--signal=B:TERM@300"}
