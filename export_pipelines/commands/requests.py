"""``requests list|show|cancel|retry``: the request table from the command line."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer
from rich.table import Column
from rich.table import Table as Grid

from export_pipelines.commands import output
from export_pipelines.commands.control import at_work, open_control, record
from export_pipelines.commands.passwords import PasswordFile, asked_password, given_password
from export_pipelines.core.access import Action
from export_pipelines.core.status import RequestStatus
from export_pipelines.packaging.omissions import account, notable
from export_pipelines.pipeline.verification.published import published_omissions
from export_pipelines.settings import load_settings
from export_pipelines.stores.passwords import is_sealed
from export_pipelines.stores.requests import RequestStore

app = typer.Typer(no_args_is_help=True, help="Look at, cancel and retry export requests.")

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
RequestId = Annotated[str, typer.Argument(help="Id of the request.")]


@app.command("list")
def list_requests(
    tenant: Annotated[str | None, typer.Option(help="Only this tenant.")] = None,
    status: Annotated[RequestStatus | None, typer.Option(help="Only this status.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000)] = 20,
    as_json: AsJson = False,
) -> None:
    """Newest first."""
    with output.reported(as_json=as_json), open_control() as control:
        found = RequestStore(control).list(tenant_id=tenant, status=status, limit=limit)
        if as_json:
            output.say_json([asdict(request) for request in found])
            return
        identity = Column("id", no_wrap=True, min_width=36)
        grid = Grid(identity, "tenant", "status", "%", "rows", "size", "attempt", "created", "error")
        for request in found:
            grid.add_row(
                request.id,
                output.plain(request.tenant_id),
                request.status,
                f"{request.percentage:.0f}",
                f"{request.package_rows or request.rows_processed:,}",
                output.size(request.package_bytes) if request.package_bytes else "",
                str(request.attempt),
                f"{request.created_at:%Y-%m-%d %H:%M}",
                output.plain(request.error_message or ""),
            )
        output.out.print(grid)


@app.command()
def show(request_id: RequestId, as_json: AsJson = False) -> None:
    """One request with its events, files and deliveries."""
    with output.reported(as_json=as_json), at_work(load_settings()) as services:
        requests, deliveries = services.requests, services.deliveries
        request = requests.get(request_id)
        events, files, sent = (
            requests.events(request_id),
            deliveries.files_of(request_id),
            deliveries.of_request(request_id),
        )
        stated = None
        if request.status is RequestStatus.COMPLETED:
            stated = published_omissions(request, services.store)
        if as_json:
            listed = {"events": events, "files": files, "deliveries": sent}
            output.say_json({**asdict(request), **listed, "left_out": account(stated)})
            return
        for name, value in asdict(request).items():
            if value is not None:
                output.say(f"{name:18} {value}")
        for event in events:
            line = f"{event['at']:%Y-%m-%d %H:%M:%S}  {event['old_status'] or '':10} → {event['new_status']:10}"
            output.say(f"{line} attempt {event['attempt']} {event['detail'] or ''}")
        for file in files:
            output.say(f"{file['path']:50} {file['rows']:>12,} rows {output.size(file['size_bytes'])}")
        for line in notable(stated) if stated else ():
            output.say(line)
        for delivery in sent:
            line = f"{delivery['kind']} by {delivery['method']} to {delivery['recipient']}: {delivery['status']}"
            output.say(f"{line} {delivery['error_message'] or ''}")


@app.command()
def cancel(request_id: RequestId) -> None:
    """Cancel a queued request now; ask a running one to stop. A cancelled export publishes nothing."""
    with output.reported(), open_control() as control:
        requests = RequestStore(control)
        with control.transaction():
            status, tenant_id = requests.request_cancel(request_id), requests.get(request_id).tenant_id
            record(control, Action.CANCEL, target=("export", request_id), tenant_id=tenant_id)
        output.say("cancelled" if status is RequestStatus.CANCELLED else "asked to stop; it ends within seconds")


@app.command()
def retry(request_id: RequestId, password_file: PasswordFile = None) -> None:
    """Queue a failed or cancelled request again; the daemon of `up` runs it. A password is to be given again."""
    with output.reported(), at_work(load_settings()) as services:
        requests, control = services.requests, services.control
        password = None
        request = requests.get(request_id)
        if is_sealed(request.config):
            password = given_password(password_file, services.settings) or asked_password(new=True)
        with control.transaction():
            attempt = requests.retry(request_id, password=password)
            target = ("export", request_id)
            record(control, Action.RETRY, target=target, tenant_id=request.tenant_id, detail={"attempt": attempt})
        output.say(f"queued again as attempt {attempt}")
