"""Dagster's daemon, which starts anew when the clock is set back.

Its loops wait until the clock has gone on by an interval, and its storage holds when each sensor was evaluated last: a
clock that is set back by ten minutes stops all of them for ten minutes, without a word. Here a thread compares the
clock with one that nobody can set. After a step back it replaces the process by a new one, as if the daemon had been
killed, which loses nothing; and each start takes away what the storage has of the future (`future`).

A second thread ends sessions of the API's login that hold up the service (`export_pipelines.stores.blocking_sessions`).

``python -m export_pipelines.orchestration.daemon`` in place of ``dagster-daemon``, with the same arguments.
"""

import datetime as dt
import os
import sys
import threading
import time
from collections.abc import Callable

import structlog
from dagster import DagsterInstance
from dagster._daemon.cli import main as dagster_daemon

from export_pipelines.core.errors import ExportError
from export_pipelines.logs import configure_logs
from export_pipelines.orchestration.future import forget_future
from export_pipelines.settings import load_settings
from export_pipelines.stores.blocking_sessions import end_blocking_sessions
from export_pipelines.stores.service_state import boot_clock

STEP_BACK_SECONDS = 5.0  # less delays a tick by as much
_LOOK_SECONDS = 1.0
_SESSIONS_SECONDS = 10.0
_log = structlog.get_logger("export_pipelines.daemon")


def watch_clock(
    stepped: Callable[[float], None],
    *,
    wall: Callable[[], float] = time.time,
    steady: Callable[[], float] = lambda: boot_clock()[1],
    pause: Callable[[float], bool] | None = None,
) -> None:
    """Tell ``stepped`` by how many seconds the wall clock was set back, each time; until ``pause`` says it is over."""
    pause = pause or threading.Event().wait
    ahead = wall() - steady()
    while not pause(_LOOK_SECONDS):
        now = wall() - steady()
        if ahead - now > STEP_BACK_SECONDS:
            stepped(ahead - now)
        ahead = now


def start_anew(seconds: float) -> None:
    """Replace this process by the same command."""
    _log.warning("clock_stepped_back", seconds=round(seconds, 1), effect="the daemon starts anew")
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(sys.executable, sys.orig_argv)  # noqa: S606 - the command of this process


def watch_sessions(url: str, *, pause: Callable[[float], bool] | None = None) -> None:
    """End the API's sessions that hold up others, at every look; until ``pause`` says it is over."""
    pause = pause or threading.Event().wait
    while not pause(_SESSIONS_SECONDS):
        try:
            sessions = end_blocking_sessions(url)
        except ExportError as error:
            _log.warning("sessions_not_checked", error=str(error))
            continue
        for session in sessions:
            waited = round(session.waited_seconds, 1)
            if session.ended:
                _log.warning("blocking_session_ended", pid=session.pid, login=session.login, waited_seconds=waited)
            else:
                _log.error(
                    "blocking_session_remains",
                    pid=session.pid,
                    login=session.login,
                    waited_seconds=waited,
                    next_step="GRANT pg_signal_backend TO the login of EXPORT_CONTROL_URL, and end the session by hand",
                )


def main() -> None:
    configure_logs(as_json=True)
    control_url = load_settings().control_url
    if control_url is not None:
        arguments = (control_url.get_secret_value(),)
        threading.Thread(target=watch_sessions, args=arguments, name="sessions", daemon=True).start()
    threading.Thread(target=watch_clock, args=(start_anew,), name="clock", daemon=True).start()
    with DagsterInstance.get() as instance:
        found = forget_future(instance, dt.datetime.now(dt.UTC))
    if found:
        _log.warning("future_forgotten", items=found, effect="sensors and schedules go on now")
    dagster_daemon()


if __name__ == "__main__":
    main()
