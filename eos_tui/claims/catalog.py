"""The claims that can be reproduced, by name."""

import difflib

from eos_tui.claims import gd_edge, heavy_tails, mnist_flow, normalized, stochastic_edge, super_consistency
from eos_tui.claims.statements import Claim
from runners.errors import EosError, ExitCode

CLAIMS = {
    claim.name: claim
    for claim in (gd_edge.CLAIM, normalized.CLAIM, mnist_flow.CLAIM, stochastic_edge.CLAIM, super_consistency.CLAIM, heavy_tails.CLAIM)
}


class UnknownClaimError(EosError):
    """There is no claim of that name."""

    exit_code = ExitCode.USAGE


def find(name: str) -> Claim:
    """The claim of that name.

    Raises:
        UnknownClaimError: If there is none; names those that there are.
    """
    if name in CLAIMS:
        return CLAIMS[name]
    near = difflib.get_close_matches(name, CLAIMS, n=1)
    raise UnknownClaimError(f"{name!r}: no such claim.{f' Did you mean {near[0]!r}?' if near else ''} There are: {', '.join(CLAIMS)}.")
