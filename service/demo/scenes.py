"""Drawn scenes: coloured shapes on patterned ground, and sometimes a sign with text.

A scene is made in unit coordinates and drawn at any size.
"""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from service.demo.grounds import draw_ground, stock_ground

Polygon = NDArray[np.float64]
"""[points, 2] as (x, y), in parts of the picture's side."""

Corners = tuple[float, float, float, float]
"""(y_min, x_min, y_max, x_max), in parts of the picture's side."""

COLOURS = {
    "red": (214, 38, 38), "green": (38, 150, 60), "blue": (40, 80, 215), "yellow": (242, 214, 40),
    "purple": (145, 50, 175), "orange": (245, 128, 25), "black": (22, 22, 22), "white": (248, 248, 248),
}  # fmt: skip
SHAPES = ("circle", "square", "triangle", "star", "cross", "heart")
WORDS = tuple(
    """ACE ADD AIR ANT ARM ART ASK BAG BANK BAR BED BEE BELL BIG BIRD BOAT BOOK BOX BOY BUS BUY CAFE CAKE CALL CAMP CAR CARD CASH CAT
    CITY CLUB COAT CODE COLD COOK CORN COW CUP DATA DAY DESK DOG DOOR DOWN DRUM DUCK EAR EAST EAT EGG EXIT EYE FARM FAST FILM FIRE
    FISH FLAG FLY FOOD FOX FREE FROG FUN GAME GAS GATE GIFT GIRL GOAT GOLD GOOD GRID HAND HAT HELP HERO HIGH HILL HOME HOT HOTEL HOUR
    ICE IDEA INK IRON JAM JAZZ JOB JUMP KEY KIND KING KITE LAKE LAMP LAND LEAF LEFT LION LIST LOCK LONG LOVE LUCK MAIL MAP MARK MENU
    MILK MOON MUSIC NEST NEW NEWS NIGHT NORTH NOTE OAK OFF OPEN OVEN OWL PAGE PARK PATH PEN PIG PLAY POOL PULL PUSH QUIET QUIZ RADIO
    RAIN RICE RIGHT RING ROAD ROOM ROSE SAFE SALE SALT SAND SEA SHIP SHOP SHOW SLOW SNOW SOAP SOUP SOUTH STOP SUN TAXI TEA TEAM TEN
    TICKET TIGER TIME TOWN TOY TREE TRAIN TRUCK TURN VAN VIEW VOTE WALK WALL WATER WAVE WAY WEST WIND WOLF WORD WORK YARD YEAR YES
    ZERO ZONE ZOO""".split()
)
UNSEEN_WORDS = tuple(
    "BREAD CLOCK DANCE GLASS HORSE JUICE LEMON MOUSE PIANO QUEEN RIVER SHEEP TABLE VIDEO ZEBRA BOOT FORK HAWK LIME PEAR".split()
)
GAP = 0.015
TYPE_SIDE = 224
"""Text is measured at this size, so that a scene is the same at every resolution."""


@dataclass(frozen=True, slots=True, eq=False)
class Thing:
    """A coloured shape. ``polygon`` is its outline, ``box`` what encloses it."""

    shape: str
    colour: str
    polygon: Polygon
    box: Corners
    rgb: tuple[int, int, int]
    outlined: bool

    @property
    def name(self) -> str:
        """What it is called: "red circle"."""
        return f"{self.colour} {self.shape}"


@dataclass(frozen=True, slots=True, eq=False)
class Sign:
    """A card with one line of text. ``size`` is the type's size in parts of the picture's side."""

    text: str
    size: float
    box: Corners
    card: tuple[int, int, int]
    ink: tuple[int, int, int]

    @property
    def name(self) -> str:
        """What it is called."""
        return "sign"


@dataclass(frozen=True, slots=True, eq=False)
class Scene:
    """Things from left to right, perhaps a sign, and the seed of the ground."""

    things: tuple[Thing, ...]
    sign: Sign | None
    ground: int


@dataclass(frozen=True, slots=True)
class SceneKind:
    """What scenes to make: how often a sign stands in them, how many things (None: any), and which words.

    ``zoom``: between what parts of their usual size things and type are, one zoom for a scene.
    """

    sign_share: float = 0.3
    things: int | None = None
    most_things: int = 4
    words: tuple[str, ...] | None = None
    plain_text: bool = False
    zoom: tuple[float, float] = (1.0, 1.0)


def make_scene(rng: Generator, kind: SceneKind = SceneKind()) -> Scene:
    """Things and sign do not touch; no two things have the same name. ``plain_text``: words of the list and numbers, no random strings."""
    smallest, largest = kind.zoom
    zoom = float(rng.uniform(smallest, largest)) if smallest < largest else smallest
    sign = _make_sign(rng, kind, zoom) if rng.random() < kind.sign_share else None
    taken = [sign.box] if sign else []
    count = kind.things
    if count is None:
        count = int(rng.integers(0 if sign else 1, 3 if sign else kind.most_things + 1))
    things: list[Thing] = []
    for _ in range(count):
        thing = _place_thing(rng, things, taken, zoom)
        if thing is not None:
            things.append(thing)
            taken.append(thing.box)
    things.sort(key=lambda thing: thing.box[1] + thing.box[3])
    return Scene(tuple(things), sign, int(rng.integers(2**31)))


def unit_polygon(shape: str) -> Polygon:
    """The outline of a shape within [-1, 1] x [-1, 1]."""
    if shape == "square":
        return np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]], dtype=np.float64)
    if shape == "triangle":
        return np.array([[0, -1], [1, 1], [-1, 1]], dtype=np.float64)
    if shape == "cross":
        arm = 0.36
        quarter = [(-arm, -1), (arm, -1), (arm, -arm)]
        turns = [quarter]
        for _ in range(3):
            turns.append([(-y, x) for x, y in turns[-1]])
        return np.array([point for turn in turns for point in turn], dtype=np.float64)
    if shape == "star":
        angle = np.arange(10) * 2 * math.pi / 10 - math.pi / 2
        radius = np.where(np.arange(10) % 2 == 0, 1.0, 0.42)
        return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)
    angle = np.arange(40) * 2 * math.pi / 40
    if shape == "circle":
        return np.stack([np.cos(angle), np.sin(angle)], axis=1)
    heart_y = -(13 * np.cos(angle) - 5 * np.cos(2 * angle) - 2 * np.cos(3 * angle) - np.cos(4 * angle)) / 15
    return np.stack([np.sin(angle) ** 3, heart_y], axis=1)


def place_polygon(shape: str, width: float, height: float, turn: float) -> Polygon:
    """A shape of ``width`` x ``height`` around the origin, then turned by ``turn`` radians."""
    cos, sin = math.cos(turn), math.sin(turn)
    turned: Polygon = unit_polygon(shape) * np.array([width / 2, height / 2]) @ np.array([[cos, sin], [-sin, cos]])
    return turned


def _place_thing(rng: Generator, things: list[Thing], taken: list[Corners], zoom: float) -> Thing | None:
    names = {thing.name for thing in things}
    for attempt in range(40):
        shape, colour = SHAPES[rng.integers(len(SHAPES))], tuple(COLOURS)[rng.integers(len(COLOURS))]
        if things and rng.random() < 0.3:
            shape = things[rng.integers(len(things))].shape
        if f"{colour} {shape}" in names:
            continue
        side = zoom * rng.uniform(0.16, 0.46) * (1.0 if attempt < 15 else 0.6)
        stretch = math.exp(rng.uniform(-0.2, 0.2))
        polygon = place_polygon(shape, side * stretch, side / stretch, rng.uniform(-0.4, 0.4))
        low, high = polygon.min(axis=0), polygon.max(axis=0)
        centre = rng.uniform(0.01 - low, 0.99 - high)
        (x_min, y_min), (x_max, y_max) = low + centre, high + centre
        box = (float(y_min), float(x_min), float(y_max), float(x_max))
        if all(_apart(box, other) for other in taken):
            level = np.clip(np.array(COLOURS[colour]) + rng.integers(-14, 15, 3), 0, 255)
            rgb = (int(level[0]), int(level[1]), int(level[2]))
            return Thing(shape, colour, polygon + centre, box, rgb, bool(rng.random() < 0.25))
    return None


def _apart(one: Corners, other: Corners) -> bool:
    return one[3] + GAP < other[1] or other[3] + GAP < one[1] or one[2] + GAP < other[0] or other[2] + GAP < one[0]


def _make_sign(rng: Generator, kind: SceneKind, zoom: float) -> Sign:
    text = _sign_text(rng, kind)
    size = zoom * rng.uniform(0.16, 0.23)
    width, height = text_extent(text, size)
    if width > 0.86:
        size *= 0.86 / width
        width, height = text_extent(text, size)
    width, height = width + zoom * rng.uniform(0.04, 0.10), height + zoom * rng.uniform(0.04, 0.10)
    x_min, y_min = rng.uniform(0.01, 0.99 - width), rng.uniform(0.01, 0.99 - height)
    dark = rng.random() < 0.3
    card = rng.integers(15, 75, 3) if dark else rng.integers(205, 256, 3)
    ink = rng.integers(205, 256, 3) if dark else rng.integers(0, 90, 3)
    box = (y_min, x_min, y_min + height, x_min + width)
    return Sign(text, size, box, (int(card[0]), int(card[1]), int(card[2])), (int(ink[0]), int(ink[1]), int(ink[2])))


def _sign_text(rng: Generator, kind: SceneKind) -> str:
    if kind.words is not None:
        return kind.words[rng.integers(len(kind.words))]
    chance = rng.random() * (0.92 if kind.plain_text else 1.0)
    if chance < 0.60:
        return WORDS[rng.integers(len(WORDS))]
    if chance < 0.92:
        return str(rng.integers(10 ** int(rng.integers(1, 4))))
    return "".join(chr(65 + rng.integers(26)) for _ in range(rng.integers(2, 6)))


@lru_cache(maxsize=256)
def _font(pixels: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(pixels)


def font(pixels: float) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Pillow's own typeface at a size in pixels."""
    return _font(max(4, round(pixels)))


def text_extent(text: str, size: float) -> tuple[float, float]:
    """Width and height of a line, in parts of the picture's side."""
    left, top, right, bottom = font(size * TYPE_SIDE).getbbox(text)
    return (right - left) / TYPE_SIDE, (bottom - top) / TYPE_SIDE


def draw_scene(scene: Scene, side: int = 224, from_stock: bool = False, finer: int = 3) -> Image.Image:
    """The picture [side x side, RGB]. Edges are drawn ``finer`` times larger and averaged."""
    picture = Image.fromarray((stock_ground if from_stock else draw_ground)(scene.ground, side))
    for thing in scene.things:
        y_min, x_min, y_max, x_max = thing.box
        left, top, right, bottom = int(x_min * side) - 1, int(y_min * side) - 1, int(x_max * side) + 2, int(y_max * side) + 2
        stencil = Image.new("L", ((right - left) * finer, (bottom - top) * finer))
        points = (thing.polygon * side - np.array([left, top])) * finer
        ImageDraw.Draw(stencil).polygon([(float(px), float(py)) for px, py in points], fill=255)
        picture.paste(thing.rgb, (left, top), stencil.reduce(finer))
        if thing.outlined:
            edge = [(float(px), float(py)) for px, py in thing.polygon * side]
            ImageDraw.Draw(picture).polygon(edge, outline=(thing.rgb[0] // 2, thing.rgb[1] // 2, thing.rgb[2] // 2))
    if scene.sign:
        y_min, x_min, y_max, x_max = (value * side for value in scene.sign.box)
        pen = ImageDraw.Draw(picture)
        pen.rectangle((x_min, y_min, x_max, y_max), fill=scene.sign.card)
        middle = ((x_min + x_max) / 2, (y_min + y_max) / 2)
        pen.text(middle, scene.sign.text, font=font(scene.sign.size * side), fill=scene.sign.ink, anchor="mm")
    return picture


def stencil(polygon: Polygon, side: int, finer: int = 4) -> NDArray[np.uint8]:
    """A polygon in unit coordinates as a soft mask [side, side], 0..255."""
    mask = Image.new("L", (side * finer, side * finer))
    ImageDraw.Draw(mask).polygon([(float(x), float(y)) for x, y in polygon * (side * finer)], fill=255)
    return np.asarray(mask.reduce(finer))


def mask_in_box(thing: Thing, side: int = 64) -> NDArray[np.uint8]:
    """The thing's mask stretched to its own box, [side, side], 0..255: what the mask codes describe."""
    y_min, x_min, y_max, x_max = thing.box
    return stencil((thing.polygon - np.array([x_min, y_min])) / np.array([x_max - x_min, y_max - y_min]), side)
