"""Which request sits in which slot."""

from service.engine.request import Request


class SlotTable:
    """Live requests in slots 0..n-1, without holes, so that a decode step reads one contiguous part of the KV table."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.live: list[Request] = []

    @property
    def free(self) -> int:
        """How many more requests fit."""
        return self.size - len(self.live)

    def take(self, requests: list[Request]) -> int:
        """Seat the requests behind the live ones; returns the slot of the first."""
        if len(requests) > self.free:
            raise ValueError(f"{len(requests)} requests do not fit into {self.free} free slots")
        first = len(self.live)
        self.live.extend(requests)
        return first

    def release(self, leaving: set[Request]) -> list[tuple[int, int]]:
        """Empty the slots of those who leave. The moves (source, target) to be made in this order keep the rest without holes."""
        moves = []
        slot = 0
        while slot < len(self.live):
            if self.live[slot] not in leaving:
                slot += 1
                continue
            last = self.live.pop()
            if slot < len(self.live):
                self.live[slot] = last
                if last not in leaving:
                    moves.append((len(self.live), slot))
        return moves
