"""Who waits at an engine, and who else may."""


class Places:
    """Who holds a place, by caller.

    Where others hold all, a caller below its equal share of them is still let in: so no caller keeps another out. Never more than twice the
    limit wait, however many callers take turns in filling their shares; then a place of those above theirs must be left first.
    """

    def __init__(self) -> None:
        self.waiting = 0
        self._held: dict[str, int] = {}

    def add(self, caller: str) -> None:
        """One more of a caller's waits."""
        self.waiting += 1
        self._held[caller] = self._held.get(caller, 0) + 1

    def remove(self, caller: str) -> None:
        """One of a caller's waits no longer."""
        self.waiting -= 1
        self._held[caller] -= 1
        if not self._held[caller]:
            del self._held[caller]

    def has_room(self, caller: str, limit: int) -> bool:
        """Whether one more of a caller's may wait, where there are ``limit`` places."""
        if self.waiting < limit:
            return True
        if self.waiting >= 2 * limit:
            return False
        held = self._held.get(caller, 0)
        return (held + 1) * (len(self._held) + (not held)) <= limit

    def ahead(self, caller: str) -> int:
        """How many would be served before one more of a caller's, where callers take turns."""
        mine = self._held.get(caller, 0)
        return mine + sum(min(held, mine + 1) for other, held in self._held.items() if other != caller)
