"""One PaliServe in virtual time: the process that reads and answers, admission, the vision cache, and the workers."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from typing import Protocol

from load_tests.capacity.desk import Desk, Shown, Status
from load_tests.capacity.front import Front
from load_tests.capacity.service_times import ReplicaTimes
from load_tests.capacity.traffic import Arrival
from load_tests.capacity.virtual_device import VirtualWorker
from service.engine.device import Report, Submission
from service.engine.generation import Generated, Generation, Picture, Prompt
from service.engine.worker_link import AFFINITY


class Agenda(Protocol):
    """Virtual time, and what is to be done when."""

    now: float

    def at(self, moment: float, work: Callable[[], None]) -> None: ...


Finished = Callable[[Arrival, Status], None]


@dataclass(slots=True)
class Ticket:
    """A request inside."""

    arrival: Arrival
    deadline: float
    shown: Shown
    key: int
    started: float | None = None


class Replica:
    """Takes arrivals, and tells ``finished`` how each ended, at that time. ``timeout``: seconds that a request may take."""

    def __init__(self, number: int, times: ReplicaTimes, agenda: Agenda, finished: Finished, timeout: float = 60.0) -> None:
        self.number = number
        self.in_flight = 0
        self.times = times
        self.front = Front(times.front)
        self.desks = {name: Desk(each.kept_pictures) for name, each in times.instances.items()}
        self.workers = [VirtualWorker(seat, times.instances, self._told) for seat in range(times.workers)]
        self._agenda = agenda
        self._finished = finished
        self._timeout = timeout
        self._tickets: dict[int, Ticket] = {}
        self._numbers = count(1)
        self._prompts: dict[int, tuple[int, ...]] = {}

    @property
    def waiting(self) -> int:
        """Requests that hold a place and no slot: ``paliserve_requests_waiting``."""
        return sum(desk.waiting for desk in self.desks.values())

    @property
    def running(self) -> int:
        """Requests that hold a slot: ``paliserve_requests_running``."""
        return sum(desk.running for desk in self.desks.values())

    def arrive(self, arrival: Arrival) -> None:
        """A request has come."""
        self.in_flight += 1
        read = self.front.work(self._agenda.now, _of(self.times.front.before, arrival.kind))
        self._agenda.at(read, lambda: self._reserve(arrival))

    def _reserve(self, arrival: Arrival) -> None:
        now, desk = self._agenda.now, self.desks[arrival.instance]
        deadline = arrival.time + self._timeout
        refused = desk.refuses(now, deadline, self.times.queue)
        if refused is not None:
            self._answer(arrival, refused, self.times.front.refusal)
            return
        desk.waiting += 1
        key, shown = desk.hold(arrival.picture)
        ticket = Ticket(arrival, deadline, shown, key)
        if shown.made:
            self._submit(ticket)
            return
        shown.waiting.append(lambda: self._submit(ticket))
        if len(shown.waiting) == 1:
            self._agenda.at(self.front.decode(now), lambda: self._decoded(shown))

    @staticmethod
    def _decoded(shown: Shown) -> None:
        shown.made = True
        waiting, shown.waiting = shown.waiting, []
        for go_on in waiting:
            go_on()

    def _submit(self, ticket: Ticket) -> None:
        number, arrival = next(self._numbers), ticket.arrival
        self._tickets[number] = ticket
        worker = self._choose(ticket.shown)
        picture = ticket.shown.copies.setdefault(worker.seat, Picture(None, (1, 1)))
        tokens = self._prompts.setdefault(arrival.prompt, (1,) * arrival.prompt)
        generation = Generation(Prompt((picture,), tokens), arrival.written, deadline=ticket.deadline)
        worker.running.add(number)
        submission = Submission(number, generation, self._agenda.now)

        def receive() -> None:
            worker.submit(arrival.instance, submission)
            self._turn(worker)

        self._agenda.at(self._agenda.now + self.times.front.hop / 2, receive)

    def _choose(self, shown: Shown) -> VirtualWorker:
        """``Workers._choose``'s rules."""
        least = min(self.workers, key=lambda worker: len(worker.running))
        known = [each for each in self.workers if each.seat in shown.copies and len(each.running) <= len(least.running) + AFFINITY]
        return min(known, key=lambda worker: len(worker.running), default=least)

    def _turn(self, worker: VirtualWorker) -> None:
        if not worker.is_busy and worker.has_work:
            self._agenda.at(worker.turn(self._agenda.now), lambda: self._finish(worker))

    def _finish(self, worker: VirtualWorker) -> None:
        worker.finish()
        self._turn(worker)

    def _told(self, instance: str, report: Report) -> None:
        self._agenda.at(self._agenda.now + self.times.front.hop / 2, lambda: self._deliver(self.desks[instance], report))

    def _deliver(self, desk: Desk, report: Report) -> None:
        """``Engine._deliver``'s rules."""
        now = self._agenda.now
        desk.waiting -= len(report.started)
        desk.running += len(report.started)
        for number in report.started:
            self._tickets[number].started = now
        for number, outcome in report.ended:
            ticket = self._tickets.pop(number)
            if ticket.started is None:
                desk.waiting -= 1
            else:
                desk.pace.ended(now, desk.waiting)
                desk.running -= 1
            answered = isinstance(outcome, Generated)
            if answered:
                ticket.shown.answered = True
                desk.pace.ran(now - (ticket.started or now))
            desk.leave(ticket.key, ticket.shown)
            after = _of(self.times.front.after, ticket.arrival.kind) if answered else self.times.front.refusal
            self._answer(ticket.arrival, Status.ANSWERED if answered else Status.LATE, after)

    def _answer(self, arrival: Arrival, status: Status, seconds: float) -> None:
        self._agenda.at(self.front.work(self._agenda.now, seconds), lambda: self._end(arrival, status))

    def _end(self, arrival: Arrival, status: Status) -> None:
        self.in_flight -= 1
        self._finished(arrival, status)


def _of(seconds: dict[str, float], kind: str) -> float:
    return seconds[kind] if kind in seconds else seconds[""]
