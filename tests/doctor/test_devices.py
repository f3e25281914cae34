"""What computes: as far as it can be told without a card, and with one where there is one."""

import torch

from service.doctor.devices import devices
from service.doctor.findings import Level
from service.instance_settings import InstanceSettings
from service.model.accelerators import Accelerator, look
from service.settings import Settings


def test_what_torch_sees() -> None:
    sight = look()
    assert sight.torch == torch.__version__
    assert len(sight.accelerators) == (torch.cuda.device_count() if torch.cuda.is_available() else 0)
    found = list(devices(Settings()))
    assert torch.__version__ in found[0].said
    assert all(each.level is not Level.PROBLEM for each in found)


def test_a_device_that_is_not_there() -> None:
    asked = Settings(instances=(InstanceSettings(name="far", source="a/b", device="cuda:99"),))
    (found,) = [each for each in devices(asked) if each.level is Level.PROBLEM]
    assert found.said.startswith("far: device 'cuda:99'")
    assert "auto" in found.mend


def test_a_slice_of_a_card() -> None:
    assert Accelerator("NVIDIA H100 80GB HBM3 MIG 1g.10gb", (9, 0), 10**10, True).is_slice
    assert not Accelerator("NVIDIA H100 80GB HBM3", (9, 0), 8 * 10**10, True).is_slice
