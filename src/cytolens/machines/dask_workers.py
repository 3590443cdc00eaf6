"""Workers of Dask: processes of this machine, of a scheduler that runs already, or jobs of SLURM.

A task is one part of a stage (`study.apart`), which the worker reads from the run folder and stores
there; the run must lie where all workers see it. What a worker that dies was at is made by another.
Nothing but names and settings is sent. Dask unpickles what it is sent, so who reaches a scheduler
or a worker can run code there: local ones listen on this machine only, others speak TLS.
"""

import logging
import multiprocessing
import os
import sys
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import ExitStack, contextmanager, suppress
from importlib import import_module
from multiprocessing import forkserver
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import urlsplit

from cytolens.errors import MissingExtra, RunError, SettingError
from cytolens.study.apart import make_part
from cytolens.study.parts import Task, Workers

_HERE = ("127.0.0.1", "::1", "localhost")
_NO_DASHBOARD = {"dashboard": False, "dashboard_address": f"{_HERE[0]}:0"}
_MEMORY = "8 GiB"  # of a job, where neither the user nor Dask's own settings say
KEEP_MEMORY = {"MALLOC_TRIM_THRESHOLD_": 1 << 26, "MALLOC_MMAP_THRESHOLD_": 1 << 25}
"""For the environment of workers. Dask has them give freed memory back at once, from 64 KB on: the
parts of the stage "faithfulness" took 2.4 times the CPU time by that."""
_SILENT = {"logging": {"distributed": "critical", "distributed.client": "critical"}}
_PLAIN = {
    "distributed.nanny.pre-spawn-environ.MALLOC_TRIM_THRESHOLD_": None,
    "distributed.worker.profile.enabled": False,
}
_LOADED = ["distributed", "faiss", "sklearn.cluster", "cytolens.features.optimisation",
           "cytolens.classifier.training", "cytolens.study.apart"]  # fmt: skip
_WAIT = 20  # seconds for a scheduler to answer
_KINDS = "local:2 (processes here), slurm:8 (jobs), or the address of a scheduler, tls://HOST:PORT"


@contextmanager
def workers(
    scheduler: str, *, insecure: bool = False, sbatch: Sequence[str] = ()
) -> Generator[Workers]:
    """What has parts made by Dask; processes and jobs that were started end with the block.

    ``scheduler``: "local:2" for so many processes, "slurm:8" for so many jobs, each with the
    ``sbatch`` options given, or an address. ``insecure`` allows other machines without TLS. Raises
    SettingError for anything else and where no scheduler answers, MissingExtra without Dask.
    """
    kind, rest = check_scheduler(scheduler, insecure=insecure)
    with ExitStack() as stack:
        settings = _library("dask").config
        stack.enter_context(settings.set(_SILENT))  # read when distributed is loaded
        distributed = _library("distributed")
        stack.enter_context(settings.set(_PLAIN))  # over what it brings
        place: Any = scheduler
        if kind == "local":
            stack.enter_context(settings.set(_fork_from_one(settings)))
            place = distributed.LocalCluster(
                n_workers=int(rest),
                threads_per_worker=1,
                host=_HERE[0],
                dashboard_address=_NO_DASHBOARD["dashboard_address"],
                scheduler_kwargs=_NO_DASHBOARD,
                memory_limit=0,
                silence_logs=logging.ERROR,
            )
            stack.callback(_close, place)
        elif kind == "slurm":
            shared = stack.enter_context(TemporaryDirectory(dir=Path.cwd(), prefix=".tls-"))
            place = stack.enter_context(slurm_jobs(sbatch, Path(shared), insecure=insecure))
            place.scale(jobs=int(rest))
        try:
            client = stack.enter_context(
                distributed.Client(place, timeout=_WAIT, set_as_default=False)
            )
        except (OSError, TypeError, ValueError) as error:
            reason = " ".join(str(error).split())
            raise SettingError(f"--scheduler {scheduler}: it does not answer ({reason})") from error
        yield lambda tasks: _made(client, tasks)


def check_scheduler(scheduler: str, *, insecure: bool) -> tuple[str, str]:
    """The kind of a scheduler, "local", "slurm" or "tls" …, and the number or address after it.

    Raises SettingError for what is none of these, and for another machine without TLS.
    """
    kind, _, rest = scheduler.partition(":")
    if kind in ("local", "slurm") and rest.isdigit() and 1 <= int(rest) <= 1000:
        return kind, rest
    if "://" not in scheduler or not urlsplit(scheduler).hostname:
        raise SettingError(f"--scheduler '{scheduler}': give {_KINDS}")
    if kind != "tls" and urlsplit(scheduler).hostname not in _HERE and not insecure:
        raise SettingError(
            f"--scheduler {scheduler} is on another machine and not encrypted: whoever reaches it "
            "can run code as you; give a tls:// address, or --insecure-scheduler in a network that "
            "is yours alone"
        )
    return kind, rest


def slurm_jobs(sbatch: Sequence[str], shared: Path, *, insecure: bool = False) -> Any:
    """A cluster of jobs, none of them submitted yet: each one process with one thread of Dask's.

    What is not among the ``sbatch`` options is as Dask's settings say (``jobqueue.slurm``). Jobs
    and scheduler speak TLS, with certificates of their own in the folder ``shared``.
    """
    jobqueue, config = _library("dask_jobqueue"), _library("dask").config

    def configured(name: str, usual: Any) -> Any:
        return config.get(f"jobqueue.slurm.{name}", None) or usual

    exports = [f"export {name}={size}" for name, size in KEEP_MEMORY.items()]
    if not insecure:
        _library("cryptography")
    return jobqueue.SLURMCluster(
        cores=1,
        processes=1,
        memory=configured("memory", _MEMORY),
        job_extra_directives=[*configured("job-extra-directives", ()), *sbatch],
        job_script_prologue=[*configured("job-script-prologue", ()), *exports],
        worker_extra_args=["--memory-limit", "0"],  # SLURM keeps the limit
        security=None if insecure else True,
        shared_temp_directory=str(shared),
        scheduler_options={**configured("scheduler-options", {}), **_NO_DASHBOARD},
        silence_logs=logging.ERROR,
    )


def _close(cluster: Any) -> None:
    """End all workers. One that is just being started again cannot be waited for, says Dask."""
    with suppress(AssertionError):
        cluster.close()


def _fork_from_one(settings: Any) -> dict[str, str]:
    """Load what parts need once, in a process that workers of this machine are forked from.

    Given back are settings of Dask. Not on systems where a process cannot be forked safely.
    """
    if sys.platform != "linux":
        return {}
    wanted = settings.get("distributed.nanny.pre-spawn-environ")
    given = {name: str(value) for name, value in wanted.items() if value is not None}
    held = {name: os.environ.get(name) for name in given}
    os.environ.update(given)  # as Dask does, which comes too late for what loads libraries
    multiprocessing.get_context("forkserver").set_forkserver_preload(_LOADED)
    forkserver.ensure_running()
    for name, value in held.items():  # what else this process does is as it was
        if value is None:
            del os.environ[name]
        else:
            os.environ[name] = value
    return {"distributed.worker.multiprocessing-method": "forkserver"}


def _library(module: str) -> Any:
    try:
        return import_module(module)
    except ImportError as error:
        raise MissingExtra("--scheduler", "cluster") from error


def _made(client: Any, tasks: Sequence[Task]) -> Iterator[int]:
    distributed = _library("distributed")
    futures = client.map(make_part, tasks, pure=False)
    try:
        for done, future in enumerate(distributed.as_completed(futures, loop=client.loop), 1):
            future.result()
            yield done
    except distributed.KilledWorker as error:
        raise RunError(
            f"a part of '{tasks[0].stage}' ended every worker that was at it; give workers more "
            "memory, or do without --scheduler"
        ) from error
    except CancelledError as error:
        raise RunError(
            "the scheduler has gone; parts that were made are kept, and the same command goes on"
        ) from error
    finally:
        client.cancel(futures)
