"""The tenant that a command is for."""

from __future__ import annotations

import pytest

from export_pipelines.commands.ordering import require_tenant_id
from export_pipelines.core.errors import RequestRejected


@pytest.mark.parametrize(
    ("tenant", "message"),
    [
        ("", "--tenant: is empty; give the ID of a tenant"),
        ("  ", "--tenant: is empty; give the ID of a tenant"),
        ("t" * 201, "--tenant: has 201 characters; ids of tenants have at most 200"),
    ],
)
def test_an_id_that_no_tenant_can_have_is_refused_by_its_option(tenant: str, message: str) -> None:
    with pytest.raises(RequestRejected) as caught:
        require_tenant_id(tenant)
    assert str(caught.value) == message


def test_an_id_of_the_longest_length_is_one() -> None:
    require_tenant_id("t" * 200)
