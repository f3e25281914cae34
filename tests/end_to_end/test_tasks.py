"""Every task on the sample picture, by the real server with the embedded model."""

import base64
import io
from typing import Any

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from pycocotools import mask as coco

from tests.end_to_end.conftest import Server

SHARED = {"id", "model", "task", "prompt", "text", "finish_reason", "score", "image", "usage", "timings_ms"}
WIDTH, HEIGHT = 640, 480
TRUTH = {"green square": (212, 94, 370, 192), "purple star": (470, 75, 616, 222), "sign": (167, 209, 455, 314)}
"""What stands in the sample: (x_min, y_min, x_max, y_max)."""


def ask(server: Server, task: str, image: bytes, form: bool = False, **fields: Any) -> dict[str, Any]:
    """One request, as JSON or as a form; checks what every response has."""
    if form:
        response = server.client.post(f"/v1/{task}", files={"image": image}, data=fields)
    else:
        response = server.client.post(f"/v1/{task}", json={"image": base64.b64encode(image).decode(), **fields})
    assert response.status_code == 200, response.text
    body: dict[str, Any] = response.json()
    assert set(body) > SHARED
    assert body["id"] == response.headers["x-request-id"]
    assert (body["task"], body["finish_reason"]) == (task, "stop")
    assert body["image"] == {"width": WIDTH, "height": HEIGHT}
    assert body["usage"]["image_tokens"] == (64 if body["model"] == "shapes-224" else 256)
    assert 0 < body["score"] <= 1
    timings = body["timings_ms"]
    assert sum(timings.values()) - timings["total"] <= timings["total"]
    return body


def overlap(box: dict[str, float], truth: tuple[int, int, int, int]) -> float:
    """Intersection over union."""
    width = min(box["x_max"], truth[2]) - max(box["x_min"], truth[0])
    height = min(box["y_max"], truth[3]) - max(box["y_min"], truth[1])
    shared = max(0.0, width) * max(0.0, height)
    area = (box["x_max"] - box["x_min"]) * (box["y_max"] - box["y_min"]) + (truth[2] - truth[0]) * (truth[3] - truth[1])
    return shared / (area - shared)


@pytest.mark.parametrize("form", [False, True], ids=["json", "form"])
class TestEachTask:
    def test_caption(self, server: Server, sample: bytes, form: bool) -> None:
        body = ask(server, "caption", sample, form)
        assert body["prompt"] == "caption en"
        assert body["caption"] == "a green square, a purple star and a sign"

    def test_caption_styles(self, server: Server, sample: bytes, form: bool) -> None:
        assert ask(server, "caption", sample, form, style="short")["prompt"] == "cap en"
        assert ask(server, "caption", sample, form, style="detailed")["caption"].startswith("a picture of ")

    @pytest.mark.parametrize(
        ("question", "answer"),
        [
            ("how many shapes are there?", "2"),
            ("what color is the star?", "purple"),
            ("what shape is green?", "square"),
            ("is there a purple star?", "yes"),
            ("is there a red heart?", "no"),
        ],
    )
    def test_answer(self, server: Server, sample: bytes, form: bool, question: str, answer: str) -> None:
        body = ask(server, "answer", sample, form, question=question)
        assert (body["prompt"], body["answer"]) == (f"answer en {question}", answer)

    def test_detect(self, server: Server, sample: bytes, form: bool) -> None:
        body = ask(server, "detect", sample, form, objects=list(TRUTH))
        assert [each["label"] for each in body["detections"]] == list(TRUTH)
        for each in body["detections"]:
            assert set(each) == {"label", "box", "score"}
            assert overlap(each["box"], TRUTH[each["label"]]) > 0.6
            assert 0 < each["score"] <= 1

    def test_what_is_not_there_has_no_box(self, server: Server, sample: bytes, form: bool) -> None:
        body = ask(server, "detect", sample, form, objects=["red heart"])
        assert (body["detections"], body["text"]) == ([], "")

    @pytest.mark.parametrize("mask_format", ["rle", "png", "polygon"])
    def test_segment(self, server: Server, sample: bytes, form: bool, mask_format: str) -> None:
        body = ask(server, "segment", sample, form, objects=["purple star"], mask_format=mask_format)
        (found,) = body["segments"]
        assert found["label"] == "purple star"
        assert overlap(found["box"], TRUTH["purple star"]) > 0.6
        assert found["mask"]["format"] == mask_format
        mask = pixels(found["mask"])
        assert mask.shape == (HEIGHT, WIDTH)
        star = like_the_star(sample)
        assert (mask & star).sum() / (mask | star).sum() > 0.6

    def test_read(self, server: Server, sample: bytes, form: bool) -> None:
        body = ask(server, "read", sample, form)
        assert (body["prompt"], body["text_read"]) == ("ocr", "GIFT")

    def test_generate(self, server: Server, sample: bytes, form: bool) -> None:
        body = ask(server, "generate", sample, form, prompt="detect green square")
        assert [each["label"] for each in body["detections"]] == ["green square"]
        assert body["segments"] == []


def test_caption_region(server: Server, sample: bytes) -> None:
    box = {"x_min": 470, "y_min": 75, "x_max": 616, "y_max": 222}
    body = ask(server, "caption-region", sample, box=box)
    assert body["prompt"].startswith("caption <loc0160><loc0752>")
    assert body["caption"] == "a purple star"


def pixels(mask: dict[str, Any]) -> NDArray[np.bool_]:
    """A mask in any form as an array."""
    if mask["format"] == "rle":
        return np.asarray(coco.decode({"size": mask["size"], "counts": mask["counts"].encode()})).astype(bool)
    if mask["format"] == "png":
        picture = Image.open(io.BytesIO(base64.b64decode(mask["data"])))
        assert picture.mode == "1"
        return np.asarray(picture)
    canvas = Image.new("1", (WIDTH, HEIGHT))
    for outline in mask["polygons"]:
        ImageDraw.Draw(canvas).polygon([tuple(point) for point in outline], fill=1)
    return np.asarray(canvas)


def like_the_star(image: bytes) -> NDArray[np.bool_]:
    """The pixels that have the colour of the star's middle."""
    levels = np.asarray(Image.open(io.BytesIO(image)).convert("RGB")).astype(int)
    star: NDArray[np.bool_] = np.abs(levels - levels[150, 543]).sum(axis=2) < 60
    return star


def test_orientation_is_applied_before_boxes_are_measured(server: Server, sample: bytes) -> None:
    picture = Image.open(io.BytesIO(sample)).convert("RGB")
    turned, exif = picture.transpose(Image.Transpose.ROTATE_90), Image.Exif()
    exif[0x0112] = 6
    file = io.BytesIO()
    turned.save(file, "JPEG", quality=95, exif=exif)
    body = ask(server, "detect", file.getvalue(), objects=["purple star"])
    assert overlap(body["detections"][0]["box"], TRUTH["purple star"]) > 0.6


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"])
def test_formats_are_told_by_content(server: Server, sample: bytes, kind: str) -> None:
    file = io.BytesIO()
    Image.open(io.BytesIO(sample)).convert("RGB").save(file, kind)
    response = server.client.post(
        "/v1/answer", files={"image": ("x.txt", file.getvalue(), "text/plain")}, data={"question": "is there a purple star?"}
    )
    assert response.json()["answer"] == "yes", response.text


def test_the_same_seed_gives_the_same_text(server: Server, sample: bytes) -> None:
    options: dict[str, Any] = {"temperature": 1.5, "seed": 7, "top_p": 0.9}
    texts = {ask(server, "detect", sample, objects=["purple star"], **options)["text"] for _ in range(3)}
    assert len(texts) == 1


def test_a_budget_cuts_and_says_so(server: Server, sample: bytes) -> None:
    body = server.client.post("/v1/detect", files={"image": sample}, data={"objects": ["purple star"], "max_tokens": 2}).json()
    assert (body["finish_reason"], body["usage"]["completion_tokens"], body["detections"]) == ("length", 2, [])


def test_routing_by_resolution(server: Server, sample: bytes) -> None:
    assert ask(server, "caption", sample, resolution=224)["model"] == "shapes-224"
    assert ask(server, "caption", sample, resolution=448)["model"] == "shapes-448"
    # Its shorter side has 480 pixels.
    assert ask(server, "caption", sample, resolution="auto")["model"] == "shapes-448"
    assert ask(server, "caption", sample, model="shapes-224")["model"] == "shapes-224"


def test_requests_run_together(server: Server, sample: bytes) -> None:
    """More than one row in a decode step, seen by the metric."""
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(16) as clients:
        bodies = list(clients.map(lambda _: ask(server, "segment", sample, objects=["purple star"]), range(32)))
    assert len({body["text"] for body in bodies}) == 1
    metrics = server.client.get("/metrics").text
    alone = sample_of(metrics, 'paliserve_batch_size_bucket{le="1.0",model="shapes-224",phase="decode"}')
    assert alone < sample_of(metrics, 'paliserve_batch_size_count{model="shapes-224",phase="decode"}')


def sample_of(metrics: str, series: str) -> float:
    """The value of one series."""
    return float(next(line.rsplit(" ", 1)[1] for line in metrics.splitlines() if line.startswith(series)))


def test_a_client_that_leaves_frees_its_slot(server: Server, sample: bytes) -> None:
    with pytest.raises(httpx.ReadTimeout), httpx.Client(base_url=server.url, timeout=httpx.Timeout(60, read=0.001)) as impatient:
        impatient.post("/v1/segment", files={"image": sample}, data={"objects": ["purple star", "green square"]})
    server.wait_for(r"POST /v1/segment 499 cancelled")
    ask(server, "caption", sample)
    assert sample_of(server.client.get("/metrics").text, 'paliserve_requests_running{model="shapes-224"}') == 0


def test_models_are_listed(server: Server) -> None:
    listed = server.client.get("/v1/models").json()
    assert listed["object"] == "list"
    model = listed["data"][0]
    expected = {"id": "shapes-224", "object": "model", "resolution": 224, "dtype": "float32", "device": "cpu", "state": "warm"}
    assert expected.items() <= model.items()
    assert set(model["tasks"]) == {"caption", "answer", "detect", "segment", "read", "caption-region", "generate"}
    assert server.client.get("/v1/models/shapes-224").json() == model


def test_probes_documentation_and_metrics(server: Server) -> None:
    for path in ("/livez", "/readyz", "/startupz"):
        assert server.client.get(path).json() == {"status": "ok"}
    assert "swagger" in server.client.get("/docs").text.lower()
    assert server.client.get("/openapi.json").json()["openapi"].startswith("3.1")
    assert server.client.get("/", follow_redirects=True).status_code == 200
    assert "paliserve_request_duration_seconds_bucket" in server.client.get("/metrics").text
