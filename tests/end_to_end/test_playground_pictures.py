"""How pictures come into the playground, good ones and others."""

import base64
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from tests.end_to_end.conftest import Server
from tests.end_to_end.visitor import FILE, SAMPLES, Visitor, near

DROPPED = f"""(file) => {{
    const data = new DataTransfer();
    data.items.add(({FILE})(file));
    document.getElementById("frame").dispatchEvent(new DragEvent("dragenter", {{ bubbles: true, dataTransfer: data }}));
    const seen = document.getElementById("frame").classList.contains("dropping");
    document.getElementById("frame").dispatchEvent(new DragEvent("drop", {{ bubbles: true, cancelable: true, dataTransfer: data }}));
    return seen && !document.getElementById("frame").classList.contains("dropping");
}}"""
PASTED = f"""(file) => {{
    const data = new DataTransfer();
    data.items.add(({FILE})(file));
    document.body.dispatchEvent(new ClipboardEvent("paste", {{ bubbles: true, cancelable: true, clipboardData: data }}));
}}"""
MARKUP = "<img src=x onerror=alert(1)>.png"


def as_file(name: str, content: bytes, media_type: str = "image/png") -> list[str]:
    return [name, media_type, base64.b64encode(content).decode()]


def named(visitor: Visitor) -> str:
    visitor.page.wait_for_selector("#canvas:visible")
    return visitor.page.inner_text("#picture-name")


def test_a_file_is_chosen(visitor: Visitor, sample: bytes) -> None:
    with visitor.page.expect_file_chooser() as chooser:
        visitor.page.click("#choose")
    chooser.value.set_files(SAMPLES / "scene.png")
    assert named(visitor) == "scene.png · 640 × 480"
    assert visitor.choose("read").ask()["text_read"] == "GIFT"


def test_a_file_is_dropped(visitor: Visitor, sample: bytes) -> None:
    assert visitor.page.evaluate(DROPPED, as_file("dropped.png", sample))
    assert named(visitor) == "dropped.png · 640 × 480"
    assert visitor.choose("read").ask()["text_read"] == "GIFT"


def test_a_picture_is_pasted(visitor: Visitor, sample: bytes) -> None:
    visitor.page.evaluate(PASTED, as_file("image.png", sample))
    assert named(visitor) == "image.png · 640 × 480"


def test_a_photograph_is_taken(visitor: Visitor) -> None:
    visitor.page.click("#photograph")
    visitor.until("document.getElementById('camera-video').videoWidth > 0")
    visitor.page.click("#camera-take")
    assert named(visitor).startswith("photograph.jpg")
    assert not visitor.page.is_visible("#camera")
    # The camera is off.
    assert visitor.page.evaluate("document.getElementById('camera-video').srcObject") is None
    assert visitor.ask()["image"]["width"] > 0
    visitor.page.click("#photograph")
    visitor.page.click("#camera-cancel")
    assert not visitor.page.is_visible("#camera")


def test_without_a_camera_a_file_is_asked_for(visit: Callable[..., Visitor], tmp_path: Path) -> None:
    """Browsers give cameras, and the clipboard, to pages of this machine or over TLS only."""
    running = Server(environ={"PALISERVE_ALLOWED_HOSTS": "paliserve.test"})
    try:
        visitor = visit(f"http://paliserve.test:{running.port}").open()
        assert not visitor.page.evaluate("isSecureContext")
        with visitor.page.expect_file_chooser() as chooser:
            visitor.page.click("#photograph")
        assert chooser.value.element.get_attribute("capture") == "environment"
        chooser.value.set_files(SAMPLES / "scene.png")
        named(visitor)
        assert visitor.choose("read").ask()["text_read"] == "GIFT"
        visitor.request("curl")
        visitor.page.click("[data-copies=request-text]")
        visitor.page.wait_for_selector("text=Copied")
    finally:
        running.close()


def test_a_picture_lies_as_its_camera_says(visitor: Visitor, tmp_path: Path) -> None:
    turned = Image.open(SAMPLES / "scene.png").convert("RGB").transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[0x0112] = 6
    turned.save(tmp_path / "turned.jpg", exif=exif, quality=95)
    visitor.page.set_input_files("#file", tmp_path / "turned.jpg")
    assert named(visitor) == "turned.jpg · 640 × 480"
    answer = visitor.choose("read").ask()
    assert (answer["text_read"], answer["image"]) == ("GIFT", {"width": 640, "height": 480})


def test_a_large_picture_keeps_its_pixels(visitor: Visitor, tmp_path: Path) -> None:
    """What is shown of it is smaller; what is told and asked about is not."""
    Image.open(SAMPLES / "scene.png").convert("RGB").resize((3200, 2400), Image.Resampling.NEAREST).save(tmp_path / "large.png")
    visitor.page.set_input_files("#file", tmp_path / "large.png")
    assert named(visitor) == "large.png · 3200 × 2400"
    assert near(visitor.pixel(2700, 750), (145, 50, 175))
    answer = visitor.choose("read").ask()
    assert (answer["text_read"], answer["image"]) == ("GIFT", {"width": 3200, "height": 2400})


@pytest.mark.parametrize(
    ("name", "content"), [("notes.txt", b"no picture"), ("empty.png", b""), ("half.png", b"\x89PNG\r\n\x1a\n and no more")]
)
def test_what_is_no_picture_is_told(visitor: Visitor, name: str, content: bytes) -> None:
    visitor.sample()
    visitor.page.set_input_files("#file", {"name": name, "mimeType": "image/png", "buffer": content})
    assert f"“{name}” is not a picture" in visitor.problem()
    # The one before is still there.
    assert visitor.page.inner_text("#picture-name").startswith("scene.png")
    assert visitor.choose("read").ask()["text_read"] == "GIFT"
    assert not visitor.page.is_visible("#problem")


def test_what_only_the_server_refuses_is_told_in_its_words(visitor: Visitor, tmp_path: Path) -> None:
    """Browsers show icons, and the server reads none."""
    visitor.expected = ("422",)
    Image.open(SAMPLES / "scene.png").save(tmp_path / "scene.ico", sizes=[(64, 64)])
    visitor.page.set_input_files("#file", tmp_path / "scene.ico")
    assert named(visitor).startswith("scene.ico")
    visitor.page.click("#ask")
    assert "image" in visitor.problem()
    assert visitor.sample().choose("read").ask()["text_read"] == "GIFT"


def test_text_that_is_dropped_is_no_file(visitor: Visitor) -> None:
    visitor.page.evaluate("() => dispatchEvent(new DragEvent('drop', { cancelable: true, dataTransfer: new DataTransfer() }))")
    assert "That was no file." in visitor.problem()


def test_the_last_choice_counts(visitor: Visitor) -> None:
    for name in ("shapes.png", "sign.png", "small.png", "scene.png"):
        visitor.page.locator(f".sample:has(img[src$='{name}'])").click()
    visitor.has("scene.png")
    assert visitor.choose("read").ask()["text_read"] == "GIFT"


def test_threat_31_a_file_name_is_only_a_name(visitor: Visitor, sample: bytes) -> None:
    visitor.page.set_input_files("#file", {"name": MARKUP, "mimeType": "image/png", "buffer": sample})
    assert named(visitor).startswith(MARKUP)
    visitor.choose("detect")
    visitor.page.fill("#objects", "sign")
    visitor.ask()
    # Neither a shell nor a form takes it for more.
    for kind in ("curl", "fetch", "python", "grpcurl"):
        assert MARKUP not in visitor.request(kind)
    visitor.page.set_input_files("#file", {"name": MARKUP, "mimeType": "image/png", "buffer": b"none"})
    assert MARKUP in visitor.problem()
    assert visitor.page.locator("img[src=x]").count() == 0


def test_threat_31_a_label_is_only_a_word(visitor: Visitor) -> None:
    """As a model of a stranger's may write it."""
    hostile = "<img src=x onerror=alert(1)>"
    answer = visitor.sample().choose("detect").ask()
    told = json.dumps(answer).replace("purple star", hostile)
    found = json.dumps(json.loads(told)["detections"][0] | {"index": 0})
    token = json.dumps({"text": hostile, "index": 0})
    events = "".join(f"event: {name}\ndata: {data}\n\n" for name, data in (("token", token), ("detection", found), ("result", told)))
    visitor.page.route("**/v1/detect", lambda route: route.fulfill(body=events, content_type="text/event-stream"))
    assert visitor.ask()["detections"][0]["label"] == hostile
    assert visitor.page.locator("#found .name").all_inner_texts() == [hostile, "green square", "sign"]
    assert hostile in (visitor.page.get_attribute("#canvas", "aria-label") or "")
    assert visitor.page.locator("#history-list .told").all_inner_texts()[0] == f"Found: {hostile}, green square, sign"
    visitor.page.click("text=What the model wrote")
    assert hostile in visitor.page.inner_text("#tokens")
    assert visitor.page.locator("img[src=x]").count() == 0


def test_threat_31_no_text_becomes_markup_in_this_page(visitor: Visitor) -> None:
    """Trusted Types: a script that tried would fail."""
    visitor.expected = ("TrustedHTML",)
    tried = """() => {
        const results = [];
        for (const attempt of [() => { document.body.innerHTML = "<b>x</b>"; }, () => document.write("x")]) {
            try { attempt(); results.push("done"); } catch (error) { results.push(error.name); }
        }
        return results;
    }"""
    assert visitor.page.evaluate(tried) == ["TypeError", "TypeError"]


def test_threat_31_what_is_written_into_the_page_does_not_run(visitor: Visitor) -> None:
    visitor.expected = ("Content Security Policy", "TrustedScript", "ERR_BLOCKED_BY_CSP")
    tried = """async () => {
        const violated = new Set();
        addEventListener("securitypolicyviolation", (event) => violated.add(event.effectiveDirective));
        const image = document.createElement("img");
        let handler = "set";
        try { image.setAttribute("onerror", "document.title = 'run'"); } catch (error) { handler = error.name; }
        const failed = new Promise((resolve) => { image.addEventListener("error", () => setTimeout(resolve, 0)); });
        image.src = "https://other.test/x.png";
        const style = document.createElement("style");
        style.textContent = "body { opacity: 0; }";
        document.body.append(image, style);
        await fetch("https://other.test/").catch(() => {});
        await failed;
        return [[...violated], handler, document.title, getComputedStyle(document.body).opacity];
    }"""
    violated, handler, title, opacity = visitor.page.evaluate(tried)
    assert set(violated) >= {"connect-src", "img-src", "style-src-elem"}
    assert (handler, title, opacity) == ("TypeError", "PaliServe playground", "1")
    visitor.wrong = [each for each in visitor.wrong if "other.test" not in each]
