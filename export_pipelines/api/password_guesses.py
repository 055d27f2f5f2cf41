"""How often passwords of links may be wrong. `docs/access.md`, "Links", argues the numbers.

Only wrong ones count. Whoever guesses slows down the address that the guesses come from; who comes from an address that
was not wrong lately gets in even while others guess, within a bound on all wrong ones of a link together.
"""

from __future__ import annotations

from collections.abc import Callable

from export_pipelines.api.link_passwords import HASHING
from export_pipelines.core.errors import TooMany
from export_pipelines.core.rates import Rate
from export_pipelines.stores.rate_limits import (
    RateLimits,
    subject_of_address,
    subject_of_address_at_link,
    subject_of_link,
)
from export_pipelines.stores.tenant_session import ControlPool

# Of one address at one link: ten at once, then one in 90 seconds; beyond forty in a day one in 36 minutes.
AT_LINK = Rate(capacity=10, per_seconds=900)
AT_LINK_IN_A_DAY = Rate(capacity=40, per_seconds=86_400)
OF_ADDRESS = Rate(capacity=60, per_seconds=900)  # at all links; the address may be that of an office
# Of one link, from all addresses. Beyond that, an address that was wrong waits until that is forgotten.
OF_LINK = Rate(capacity=10, per_seconds=900)
OF_LINK_IN_A_DAY = Rate(capacity=2000, per_seconds=86_400)  # bounds what thousands of addresses guess together
GUESSES = "passwords of links"
_IN_A_DAY = f"{GUESSES} in a day"


def guarded(pool: ControlPool, link_id: str, ip: str | None, is_right: Callable[[], bool]) -> bool:
    """Whether the password is right. `TooMany`, without a look at it, while this address has to wait."""
    address, here = subject_of_address(ip, GUESSES), subject_of_address_at_link(ip, link_id, GUESSES)
    here_in_a_day = subject_of_address_at_link(ip, link_id, _IN_A_DAY)
    link, link_in_a_day = subject_of_link(link_id, GUESSES), subject_of_link(link_id, _IN_A_DAY)
    rates = {
        address: OF_ADDRESS,
        here: AT_LINK,
        here_in_a_day: AT_LINK_IN_A_DAY,
        link: OF_LINK,
        link_in_a_day: OF_LINK_IN_A_DAY,
    }
    with HASHING.held(here, address):
        with pool.tenant_session(None) as control:
            found = {subject: RateLimits(control).look(subject, rate) for subject, rate in rates.items()}
        waits = [taken.retry_after_seconds for subject, taken in found.items() if subject != link]
        # While others guess too, what was wrong here has to be forgotten: no wait where nothing was.
        waits.append(min(found[link].retry_after_seconds, found[here].reset_seconds))
        if max(waits) > 0:
            raise TooMany("too many wrong passwords", retry_after_seconds=max(waits))
        if is_right():
            return True
        with pool.tenant_session(None) as control:
            for subject, rate in rates.items():
                RateLimits(control).take(subject, rate)
    return False
