"""The gate: who a caller is, and what it may do. Every transport asks here, and nowhere else."""

import ipaddress
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hmac import compare_digest

from service.access.keys import Key, Role, digest
from service.access.quotas import Admission, Quotas
from service.errors import OperatorError, PermissionDenied, Unauthenticated

NEEDED = "A key is needed, as a bearer token: Authorization: Bearer KEY."


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks. ``key``: None for those who need none."""

    key: Key | None = None

    @property
    def name(self) -> str:
        """The key's; empty where there is none."""
        return self.key.name if self.key else ""


class Gate:
    """Knows the keys.

    ``keys``: those in force now. ``anonymous``: whether callers without a key may ask. ``lenient``: whether a key that is not known is
    taken for none; clients that must send some key then work where nobody needs one.
    """

    def __init__(
        self,
        keys: Callable[[], Sequence[Key]] = tuple,
        anonymous: bool = True,
        lenient: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._keys = keys
        self._anonymous = anonymous
        self._lenient = lenient
        self._clock = clock
        self._quotas = Quotas()
        self._known: Sequence[Key] = ()

    def identify(self, authorization: str | None) -> Caller:
        """Who sends this header, or metadata. Errors: Unauthenticated."""
        kind, _, sent = (authorization or "").partition(" ")
        if kind.lower() == "bearer":
            key = self._found(sent.strip())
            if key:
                return Caller(key)
            if not (self._anonymous and self._lenient):
                raise Unauthenticated("The key is not known here: it was mistyped, or is no longer in force.")
        if not self._anonymous:
            raise Unauthenticated(NEEDED)
        return Caller()

    def administrator(self, caller: Caller) -> None:
        """Let an administrator pass. Errors: Unauthenticated, PermissionDenied."""
        if caller.key and caller.key.role is Role.ADMIN:
            return
        if not any(each.role is Role.ADMIN for each in self._keys()):
            raise PermissionDenied("What is served is changed only where an admin_key is set, or a key has the role admin.")
        if caller.key is None:
            raise Unauthenticated("The key of an administrator is needed, as a bearer token: Authorization: Bearer KEY.")
        raise PermissionDenied("The key is not that of an administrator.")

    def admit(self, caller: Caller) -> Admission:
        """Count a visit. Errors: RateLimited."""
        if caller.key is None:
            return Admission(None, self._clock)
        self._forget()
        return Admission(self._quotas.of(caller.key, self._clock()), self._clock)

    def _found(self, sent: str) -> Key | None:
        """Each is compared, found or not: time tells nothing of the keys."""
        given, found = digest(sent), None
        for key in self._keys():
            if compare_digest(key.digest, given):
                found = key
        return found

    def _forget(self) -> None:
        keys = self._keys()
        if keys is not self._known:
            self._known = keys
            self._quotas.keep({each.name for each in keys})


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches what listens there."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def anonymous_allowed(asked: bool | None, hosts: Sequence[str], keys: Sequence[Key], from_file: bool) -> bool:
    """Whether callers without a key may ask.

    ``asked``: what the operator says; None: only on this machine, and where no file holds keys. Errors: OperatorError, where others could
    reach the service and nothing says who may.
    """
    if asked is not None:
        if not asked and not keys:
            raise OperatorError("anonymous is false and there is no key: nobody could call. Set api_keys_file or admin_key.")
        return asked
    far = [each for each in hosts if not is_loopback(each)]
    if far and not keys:
        raise OperatorError(
            f"others can reach {far[0]}, and nothing says who may call: give keys with api_keys_file (PALISERVE_API_KEYS_FILE), or let "
            "everybody call with anonymous = true (PALISERVE_ANONYMOUS=true), or listen on 127.0.0.1 with --host."
        )
    return not far and not from_file
