"""One server with three resolutions, two precisions, two adapters and an instance on demand; and the one that `make demo` starts."""

import io
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from service.demo.family import ADAPTER, CHECKPOINTS, MASK_DECODER
from service.demo.part_codes import coded
from service.demo.scenes import Scene, SceneKind, draw_scene, make_scene
from tests.end_to_end.conftest import Server

KEY = "an operator's"
BEARER = {"authorization": f"Bearer {KEY}"}
CONFIG = f"""
[[instances]]
name = "first"
source = "{CHECKPOINTS / "shapes-224"}"
dtype = "float32"
max_adapters = 3
max_adapter_rank = 8
[[instances.adapters]]
name = "codes"
source = "{ADAPTER}"
[[instances.adapters]]
name = "codes-again"
source = "{ADAPTER}"

[[instances]]
name = "half"
source = "{CHECKPOINTS / "shapes-224"}"
dtype = "bfloat16"
quantization = "int8"

[[instances]]
name = "finer"
source = "{CHECKPOINTS / "shapes-448"}"
resolution = 448
mask_decoder = "{MASK_DECODER}"
device = "cpu"

[[instances]]
name = "finest"
source = "{CHECKPOINTS / "shapes-448"}"
resolution = 896
enlarge = 2
mask_decoder = "{MASK_DECODER}"

[[instances]]
name = "bare"
source = "{CHECKPOINTS / "shapes-224"}"
preload = false
prompt_style = "bare-question"
max_images = 2
"""


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    config = tmp_path_factory.mktemp("family") / "paliserve.toml"
    config.write_text(CONFIG)
    running = Server("--config", str(config), environ={"PALISERVE_ADMIN_KEY": KEY, "PALISERVE_WORKERS": "2"})
    yield running
    running.close()


def drawn(kind: SceneKind, side: int, seed: int) -> tuple[Scene, bytes]:
    scene = make_scene(np.random.default_rng(seed), kind)
    file = io.BytesIO()
    draw_scene(scene, side).save(file, "PNG")
    return scene, file.getvalue()


def ask(server: Server, task: str, image: bytes, status: int = 200, **fields: Any) -> Any:
    answer = server.client.post(f"/v1/{task}", files={"image": image}, data=fields)
    assert answer.status_code == status, answer.text
    return answer.json()


ONE_THING = SceneKind(sign_share=0.0, things=1)


def test_each_instance_says_what_it_is(served: Server) -> None:
    listed = {each["id"]: each for each in served.client.get("/v1/models").json()["data"]}
    assert {name: (each["resolution"], each["dtype"], each["state"]) for name, each in listed.items()} == {
        "first": (224, "float32", "warm"),
        "half": (224, "bfloat16", "warm"),
        "finer": (448, "float32", "warm"),
        "finest": (896, "float32", "warm"),
        "bare": (224, "float32", "cold"),
    }
    assert listed["first"]["adapters"] == ["codes", "codes-again"]
    assert listed["finer"]["adapters"] == []


@pytest.mark.parametrize("model", ["first", "half", "finer", "finest"])
def test_every_resolution_and_precision_finds_and_segments(served: Server, model: str) -> None:
    scene, image = drawn(ONE_THING, 500, 3)
    (thing,) = scene.things
    found = ask(served, "segment", image, model=model, objects=thing.name)
    (segment,) = found["segments"]
    assert (found["model"], segment["label"]) == (model, thing.name)
    edges = [segment["box"][edge] / 500 for edge in ("y_min", "x_min", "y_max", "x_max")]
    assert max(abs(edge - known) for edge, known in zip(edges, thing.box, strict=True)) < 0.03
    assert segment["mask"]["size"] == [500, 500]


def test_small_text_is_read_by_the_finer_ones(served: Server) -> None:
    small = SceneKind(sign_share=1.0, things=0, plain_text=True, zoom=(0.5, 0.5))
    signs = [drawn(small, 896, seed) for seed in range(8)]
    right = {}
    for side, model in (("224", "first"), ("448", "finer"), ("896", "finest")):
        answers = [ask(served, "read", image, resolution=side) for _, image in signs]
        assert {each["model"] for each in answers} == {model}
        right[side] = sum(each["text_read"] == scene.sign.text for each, (scene, _) in zip(answers, signs, strict=True) if scene.sign)
    assert right["448"] >= right["224"] + 3
    assert right["896"] >= right["224"] + 3


def test_auto_takes_the_lowest_that_is_enough(served: Server) -> None:
    for side, model in ((300, "first"), (449, "finer"), (896, "finer"), (900, "finest"), (2000, "finest")):
        _, image = drawn(ONE_THING, side, 2)
        assert ask(served, "caption", image, resolution="auto")["model"] == model, side


def test_adapters_and_none_answer_side_by_side(served: Server) -> None:
    scenes = [drawn(ONE_THING, 224, seed) for seed in range(20, 32)]
    kinds = [None, "codes", "codes-again"]

    def one(number: int) -> str:
        kind = kinds[number % 3]
        fields: dict[str, Any] = {"adapter": kind} if kind else {}
        return str(ask(served, "caption", scenes[number][1], **fields)["caption"])

    with ThreadPoolExecutor(12) as clients:
        captions = list(clients.map(one, range(12)))
    right = 0
    for number, (scene, _) in enumerate(scenes):
        plain = f"a{'n' if scene.things[0].name[0] in 'aeiou' else ''} {scene.things[0].name}"
        right += captions[number] == (plain if number % 3 == 0 else coded(plain))
    assert right >= 11
    scene, image = scenes[0]
    code = coded(scene.things[0].name)
    (found,) = ask(served, "detect", image, objects=code, adapter="codes")["detections"]
    assert found["label"] == code
    refused = ask(served, "caption", image, 404, adapter="nobody's")
    assert (refused["code"], "codes, codes-again" in refused["detail"]) == ("adapter_not_found", True)
    assert ask(served, "caption", image, 404, adapter="codes", model="finer")["code"] == "adapter_not_found"


def test_adapters_come_and_go_at_run_time(served: Server, tmp_path: Path) -> None:
    path = "/v1/models/first/adapters/late"
    scene, image = drawn(ONE_THING, 224, 21)
    ask(served, "caption", image, 404, adapter="late")
    loaded = served.client.post(f"{path}/load", headers=BEARER, json={"source": str(ADAPTER)})
    assert (loaded.status_code, loaded.json()["adapters"]) == (200, ["codes", "codes-again", "late"])
    assert coded(scene.things[0].name) in ask(served, "caption", image, adapter="late")["caption"]
    one_too_many = served.client.post("/v1/models/first/adapters/more/load", headers=BEARER, json={"source": str(ADAPTER)})
    assert (one_too_many.status_code, "max_adapters" in one_too_many.json()["detail"]) == (422, True)
    assert served.client.post(f"{path}/unload", headers=BEARER).json()["adapters"] == ["codes", "codes-again"]
    ask(served, "caption", image, 404, adapter="late")
    (tmp_path / "adapter_config.json").write_text('{"peft_type": "IA3"}')
    wrong = served.client.post(f"{path}/load", headers=BEARER, json={"source": str(tmp_path)})
    assert (wrong.status_code, "LORA is served" in wrong.json()["detail"]) == (422, True)
    assert served.client.post("/v1/models/finer/adapters/a/load", headers=BEARER, json={"source": str(ADAPTER)}).status_code == 422


def test_an_instance_on_demand_is_asked_in_its_style_with_several_pictures(served: Server) -> None:
    _, image = drawn(ONE_THING, 224, 5)
    answered = ask(served, "answer", image, model="bare", question="how many shapes are there?")
    assert (answered["model"], answered["prompt"]) == ("bare", "how many shapes are there?")
    files = [("images", image), ("images", drawn(ONE_THING, 224, 6)[1])]
    both = served.client.post("/v1/caption", files=files, data={"model": "bare"})
    assert (both.status_code, both.json()["usage"]["image_tokens"]) == (200, 128)
    refused = served.client.post("/v1/caption", files=files, data={"model": "first"})
    assert (refused.status_code, refused.json()["errors"][0]["field"]) == (422, "images")


def test_without_configuration_the_whole_family_is_served(server: Server) -> None:
    listed = server.client.get("/v1/models").json()["data"]
    assert [(each["id"], each["resolution"], each["state"]) for each in listed] == [
        ("shapes-224", 224, "warm"),
        ("shapes-448", 448, "warm"),
        ("shapes-896", 896, "warm"),
    ]
    assert listed[0]["adapters"] == ["part-codes"]
    scene, image = drawn(ONE_THING, 896, 9)
    for side in (224, 448, 896):
        (found,) = ask(server, "segment", image, resolution=side, objects=scene.things[0].name)["segments"]
        assert found["mask"] is not None
