"""What is read only when Prometheus asks: devices, and which adapters are in use."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector


@dataclass(frozen=True, slots=True)
class DeviceReading:
    """One device.

    ``step_age`` in seconds; ``used`` and ``total`` bytes of its memory; what each of its worker processes holds of main memory.
    """

    device: str
    step_age: float
    used: int
    total: int
    workers: Sequence[int]


@dataclass(frozen=True, slots=True)
class AdapterReading:
    """How many adapters can be there, which of them requests use, and when that was read, in seconds since the epoch."""

    places: int
    used: Sequence[str]
    time: float


class Scraped(Collector):
    """Asks ``devices`` and ``adapters`` anew each time."""

    def __init__(self, devices: Callable[[], Iterable[DeviceReading]], adapters: Callable[[], AdapterReading]) -> None:
        self._devices = devices
        self._adapters = adapters

    def collect(self) -> Iterable[Metric]:
        """The families, with what they hold at this moment."""
        age = GaugeMetricFamily(
            "paliserve_step_age_seconds", "For how long the running step has been running; 0 where none is", labels=["device"]
        )
        memory = GaugeMetricFamily("paliserve_device_memory_bytes", "A device's memory, used and in all", labels=["device", "kind"])
        resident = GaugeMetricFamily(
            "paliserve_worker_resident_memory_bytes", "Main memory that a worker process holds", labels=["device", "worker"]
        )
        for each in self._devices():
            age.add_metric([each.device], each.step_age)
            memory.add_metric([each.device, "used"], each.used)
            memory.add_metric([each.device, "total"], each.total)
            for worker, held in enumerate(each.workers):
                resident.add_metric([each.device, str(worker)], held)
        # As routers of the Gateway API read it: the value tells which of several samples is the newest.
        adapters = GaugeMetricFamily(
            "paliserve_lora_requests_info",
            "Adapters in use, by name with commas between; the value is the time",
            labels=["max_lora", "running_lora_adapters", "waiting_lora_adapters"],
        )
        reading = self._adapters()
        adapters.add_metric([str(reading.places), ",".join(reading.used), ""], reading.time)
        return [age, memory, resident, adapters]
