"""Membership of a secure aggregation: checks of keys and deals, and the view, alike at sites and center."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from shared_models.secure_aggregation.groups import TRAINING, all_groups, large_enough, learned, members
from shared_models.secure_aggregation.parameters import Quorum
from shared_models.secure_aggregation.question import Question
from shared_models.secure_aggregation.secrets import shared_secrets
from shared_models.secure_aggregation.signing import Signed, digest, digest_all, public_key
from shared_models.secure_aggregation.statements import Deal, Enrolment, Keys, View
from shared_models.secure_aggregation.wire import ProtocolError


def require(held: bool, otherwise: str) -> None:
    """Refuses to continue.

    Raises:
        ProtocolError: If something does not hold.
    """
    if not held:
        raise ProtocolError(otherwise)


def distinct(points: Iterable[str]) -> bool:
    """Whether public keys are all different, and none is another's negative, which agrees on the same secrets."""
    abscissae = [point[2:] for point in points]
    return len(set(abscissae)) == len(abscissae)


def check_enrolment(signed: Signed[Enrolment], approval: str) -> None:
    """One site of a roster: it approved the same, and signed that itself."""
    one = signed.statement
    public_key(one.node_key)
    require(one.approval == approval, "a site in the roster approved something else")
    require(signed.verify(one.node_key), "a site in the roster did not sign its enrolment")


def check_member_keys(signed: Signed[Keys], site: Enrolment, of: tuple[str, str, int]) -> None:
    """One site's keys: of this approval, run and sum, for all of its groups, signed, and points of the curve."""
    one = signed.statement
    require((one.approval, one.run, one.sum) == of, "keys are of another sum")
    require(one.name == site.name, "keys are of another site")
    require(set(one.seeds) == all_groups(site.facts), "keys are for other groups than the site has")
    require(signed.verify(site.node_key), "a site did not sign its keys")
    public_key(one.mask_key)
    public_key(one.share_key)


@dataclass(frozen=True)
class Dealing:
    """What every deal of one sum must say.

    Attributes:
        roster: H(R).
        all_keys: H(all K).
        threshold: t.
        keys: K by site.
        node_keys: Public keys of the sites, by name.
    """

    roster: str
    all_keys: str
    threshold: int
    keys: Mapping[str, Keys]
    node_keys: Mapping[str, str]

    @classmethod
    def of(cls, keys: Sequence[Keys], roster: Sequence[Enrolment], threshold: int) -> Dealing:
        """For the keys of one sum."""
        node_keys = {site.name: site.node_key for site in roster}
        return cls(digest_all(roster), digest_all(keys), threshold, {one.name: one for one in keys}, node_keys)

    def check(self, signed: Signed[Deal]) -> None:
        """One site's deal: for these keys and this roster, with a share of each secret for everyone, signed.

        Raises:
            ProtocolError: If it is none.
        """
        deal = signed.statement
        own = self.keys.get(deal.name)
        if own is None:
            msg = "a deal is of no member of the sum"
            raise ProtocolError(msg)
        signed_over = (deal.roster, deal.keys, deal.threshold)
        require(signed_over == (self.roster, self.all_keys, self.threshold), "a deal is of another sum")
        require(deal.own_keys == digest(own), "a deal is of other keys of its site")
        everyone = set(deal.shares) == set(self.keys) and set(deal.envelopes) == set(self.keys) - {deal.name}
        require(everyone, "a deal leaves out a member")
        secrets = shared_secrets(own)
        require(all(set(shares) == secrets for shares in deal.shares.values()), "a deal leaves out a secret")
        require(signed.verify(self.node_keys[deal.name]), "a site did not sign its deal")


def make_view(
    keys: Sequence[Keys],
    roster: Sequence[Enrolment],
    quorum: Quorum,
    question: Question,
    present: Mapping[str, str],
    layout: str = "",
) -> View:
    """V of a question.

    Args:
        keys: All K of the sum.
        roster: R.
        quorum: What holds for the question's kind.
        question: As it was asked.
        present: H(D) of the sites that dealt, by name.
        layout: H(layout, encoding).
    """
    return View(
        approval=keys[0].approval,
        run=keys[0].run,
        roster=digest_all(roster),
        sum=keys[0].sum,
        message=question.kind,
        round=question.round,
        attempt=question.attempt,
        model=question.model,
        statistics=question.statistics,
        request=question.request,
        layout=layout,
        sites=quorum.sites,
        colluders=quorum.colluders,
        threshold=quorum.threshold,
        keys=digest_all(keys),
        present=dict(present),
        groups=large_enough(members(question.kind, roster, present), quorum.least_group),
    )


def surviving(view: View, survivors: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Of each group that is opened over the survivors, the members among them."""
    left = {group: tuple(name for name in sites if name in survivors) for group, sites in view.groups.items()}
    return large_enough(left, view.colluders + 2)


def require_learned(view: View, groups: Iterable[str]) -> None:
    """Opens no sum of a training for a target that too few of those are left who know it; it is tried again without.

    Raises:
        ProtocolError: If there is such a target.
    """
    left = learned(view.groups) <= learned(groups)
    require(view.message != TRAINING or left, "too few sites are left that know a target which was trained for")
