"""The same answers with the vision cache and without, in several processes and in one."""

from pathlib import Path

import service.demo
from tests.end_to_end.conftest import Server

DEMO = Path(service.demo.__file__).parent
SAMPLE = (DEMO / "samples" / "scene.png").read_bytes()
PROMPTS = ("caption en", "ocr", "detect purple star ; sign", "segment green square", "answer en what color is the star?")


def answers(server: Server) -> list[tuple[str, float]]:
    """Text and score of each prompt."""
    bodies = [server.client.post("/v1/generate", files={"image": SAMPLE}, data={"prompt": each}).json() for each in PROMPTS]
    return [(body["text"], round(body["score"], 4)) for body in bodies]


def metric(server: Server, line: str) -> float:
    """The value of a line of the exposition."""
    found = [each for each in server.client.get("/metrics").text.splitlines() if each.startswith(line)]
    return float(found[0].split()[-1]) if found else 0.0


def test_a_cached_picture_is_answered_as_a_new_one(tmp_path: Path) -> None:
    config = tmp_path / "paliserve.toml"
    config.write_text(
        f'workers = 0\n[[instances]]\nname = "plain"\nsource = "{DEMO / "checkpoints" / "shapes-224"}"\nvision_cache_bytes = 0\n'
    )
    cached, plain = Server(), Server("--config", str(config))
    try:
        first, again, without = answers(cached), answers(cached), answers(plain)
        assert first == again == without
        assert metric(cached, 'paliserve_vision_cache_requests_total{model="shapes-224",outcome="hit"}') == 2 * len(PROMPTS) - 1
        assert metric(cached, 'paliserve_vision_cache_requests_total{model="shapes-224",outcome="miss"}') == 1
        assert metric(cached, 'paliserve_vision_cache_bytes{model="shapes-224"}') > 3 * 224 * 224
        assert metric(plain, "paliserve_vision_cache_requests_total") == 0
    finally:
        cached.close()
        plain.close()


LIMIT = 2_000_000
"""Bytes: a few pictures."""


def test_threat_46_many_pictures_fill_the_cache_and_no_more(tmp_path: Path) -> None:
    config = tmp_path / "paliserve.toml"
    source = DEMO / "checkpoints" / "shapes-224"
    config.write_text(f'workers = 0\n[[instances]]\nname = "small"\nsource = "{source}"\nvision_cache_bytes = {LIMIT}\n')
    running = Server("--config", str(config))
    try:
        held, resident = [], []
        for number in range(100):
            # Behind the file's end stands what makes it another picture.
            image = SAMPLE + number.to_bytes(4, "big")
            assert running.client.post("/v1/read", files={"image": image}).json()["text_read"] == "GIFT"
            held.append(running.series("paliserve_vision_cache_bytes"))
            resident.append(running.series("process_resident_memory_bytes"))
        assert 0 < max(held) <= LIMIT
        assert held[-1] == held[10] == max(held)
        assert resident[-1] - resident[20] < 10 * LIMIT
        assert running.series("paliserve_vision_cache_requests_total", outcome="miss") == len(held)
    finally:
        running.close()


def test_strict_detections_have_names_that_were_asked_for(server: Server) -> None:
    asked = ["purple star", "elephant", "red cross"]
    for seed in range(5):
        fields = {"objects": asked, "strict": "true", "temperature": "1.5", "seed": str(seed)}
        body = server.client.post("/v1/detect", files={"image": SAMPLE}, data=fields).json()
        assert body["finish_reason"] in ("stop", "length")
        assert {each["label"] for each in body["detections"][:-1]} <= set(asked)
        if body["finish_reason"] == "stop":
            assert body["text"].count("<loc") == 4 * len(body["detections"])
