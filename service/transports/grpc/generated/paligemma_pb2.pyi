import datetime

from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Resolution(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    RESOLUTION_UNSPECIFIED: _ClassVar[Resolution]
    RESOLUTION_AUTO: _ClassVar[Resolution]
    RESOLUTION_224: _ClassVar[Resolution]
    RESOLUTION_448: _ClassVar[Resolution]
    RESOLUTION_896: _ClassVar[Resolution]

class CaptionStyle(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CAPTION_STYLE_UNSPECIFIED: _ClassVar[CaptionStyle]
    CAPTION_STYLE_STANDARD: _ClassVar[CaptionStyle]
    CAPTION_STYLE_SHORT: _ClassVar[CaptionStyle]
    CAPTION_STYLE_DETAILED: _ClassVar[CaptionStyle]

class MaskFormat(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    MASK_FORMAT_UNSPECIFIED: _ClassVar[MaskFormat]
    MASK_FORMAT_RLE: _ClassVar[MaskFormat]
    MASK_FORMAT_PNG: _ClassVar[MaskFormat]
    MASK_FORMAT_POLYGON: _ClassVar[MaskFormat]

class FinishReason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    FINISH_REASON_UNSPECIFIED: _ClassVar[FinishReason]
    FINISH_REASON_STOP: _ClassVar[FinishReason]
    FINISH_REASON_LENGTH: _ClassVar[FinishReason]

class ModelState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    MODEL_STATE_UNSPECIFIED: _ClassVar[ModelState]
    MODEL_STATE_COLD: _ClassVar[ModelState]
    MODEL_STATE_LOADING: _ClassVar[ModelState]
    MODEL_STATE_WARM: _ClassVar[ModelState]
    MODEL_STATE_FAILED: _ClassVar[ModelState]
RESOLUTION_UNSPECIFIED: Resolution
RESOLUTION_AUTO: Resolution
RESOLUTION_224: Resolution
RESOLUTION_448: Resolution
RESOLUTION_896: Resolution
CAPTION_STYLE_UNSPECIFIED: CaptionStyle
CAPTION_STYLE_STANDARD: CaptionStyle
CAPTION_STYLE_SHORT: CaptionStyle
CAPTION_STYLE_DETAILED: CaptionStyle
MASK_FORMAT_UNSPECIFIED: MaskFormat
MASK_FORMAT_RLE: MaskFormat
MASK_FORMAT_PNG: MaskFormat
MASK_FORMAT_POLYGON: MaskFormat
FINISH_REASON_UNSPECIFIED: FinishReason
FINISH_REASON_STOP: FinishReason
FINISH_REASON_LENGTH: FinishReason
MODEL_STATE_UNSPECIFIED: ModelState
MODEL_STATE_COLD: ModelState
MODEL_STATE_LOADING: ModelState
MODEL_STATE_WARM: ModelState
MODEL_STATE_FAILED: ModelState

class Box(_message.Message):
    __slots__ = ("x_min", "y_min", "x_max", "y_max")
    X_MIN_FIELD_NUMBER: _ClassVar[int]
    Y_MIN_FIELD_NUMBER: _ClassVar[int]
    X_MAX_FIELD_NUMBER: _ClassVar[int]
    Y_MAX_FIELD_NUMBER: _ClassVar[int]
    x_min: float
    y_min: float
    x_max: float
    y_max: float
    def __init__(self, x_min: _Optional[float] = ..., y_min: _Optional[float] = ..., x_max: _Optional[float] = ..., y_max: _Optional[float] = ...) -> None: ...

class Detection(_message.Message):
    __slots__ = ("label", "box", "score")
    LABEL_FIELD_NUMBER: _ClassVar[int]
    BOX_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    label: str
    box: Box
    score: float
    def __init__(self, label: _Optional[str] = ..., box: _Optional[_Union[Box, _Mapping]] = ..., score: _Optional[float] = ...) -> None: ...

class Segment(_message.Message):
    __slots__ = ("label", "box", "score", "mask")
    LABEL_FIELD_NUMBER: _ClassVar[int]
    BOX_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    MASK_FIELD_NUMBER: _ClassVar[int]
    label: str
    box: Box
    score: float
    mask: Mask
    def __init__(self, label: _Optional[str] = ..., box: _Optional[_Union[Box, _Mapping]] = ..., score: _Optional[float] = ..., mask: _Optional[_Union[Mask, _Mapping]] = ...) -> None: ...

class Mask(_message.Message):
    __slots__ = ("rle", "png", "polygon")
    RLE_FIELD_NUMBER: _ClassVar[int]
    PNG_FIELD_NUMBER: _ClassVar[int]
    POLYGON_FIELD_NUMBER: _ClassVar[int]
    rle: RleMask
    png: bytes
    polygon: PolygonMask
    def __init__(self, rle: _Optional[_Union[RleMask, _Mapping]] = ..., png: _Optional[bytes] = ..., polygon: _Optional[_Union[PolygonMask, _Mapping]] = ...) -> None: ...

class RleMask(_message.Message):
    __slots__ = ("height", "width", "counts")
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    WIDTH_FIELD_NUMBER: _ClassVar[int]
    COUNTS_FIELD_NUMBER: _ClassVar[int]
    height: int
    width: int
    counts: str
    def __init__(self, height: _Optional[int] = ..., width: _Optional[int] = ..., counts: _Optional[str] = ...) -> None: ...

class PolygonMask(_message.Message):
    __slots__ = ("polygons",)
    POLYGONS_FIELD_NUMBER: _ClassVar[int]
    polygons: _containers.RepeatedCompositeFieldContainer[Polygon]
    def __init__(self, polygons: _Optional[_Iterable[_Union[Polygon, _Mapping]]] = ...) -> None: ...

class Polygon(_message.Message):
    __slots__ = ("points",)
    POINTS_FIELD_NUMBER: _ClassVar[int]
    points: _containers.RepeatedCompositeFieldContainer[Point]
    def __init__(self, points: _Optional[_Iterable[_Union[Point, _Mapping]]] = ...) -> None: ...

class Point(_message.Message):
    __slots__ = ("x", "y")
    X_FIELD_NUMBER: _ClassVar[int]
    Y_FIELD_NUMBER: _ClassVar[int]
    x: float
    y: float
    def __init__(self, x: _Optional[float] = ..., y: _Optional[float] = ...) -> None: ...

class ImageSize(_message.Message):
    __slots__ = ("width", "height")
    WIDTH_FIELD_NUMBER: _ClassVar[int]
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    width: int
    height: int
    def __init__(self, width: _Optional[int] = ..., height: _Optional[int] = ...) -> None: ...

class Usage(_message.Message):
    __slots__ = ("image_tokens", "prompt_tokens", "completion_tokens")
    IMAGE_TOKENS_FIELD_NUMBER: _ClassVar[int]
    PROMPT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    COMPLETION_TOKENS_FIELD_NUMBER: _ClassVar[int]
    image_tokens: int
    prompt_tokens: int
    completion_tokens: int
    def __init__(self, image_tokens: _Optional[int] = ..., prompt_tokens: _Optional[int] = ..., completion_tokens: _Optional[int] = ...) -> None: ...

class Timings(_message.Message):
    __slots__ = ("queue", "preprocess", "vision", "prefill", "decode", "total")
    QUEUE_FIELD_NUMBER: _ClassVar[int]
    PREPROCESS_FIELD_NUMBER: _ClassVar[int]
    VISION_FIELD_NUMBER: _ClassVar[int]
    PREFILL_FIELD_NUMBER: _ClassVar[int]
    DECODE_FIELD_NUMBER: _ClassVar[int]
    TOTAL_FIELD_NUMBER: _ClassVar[int]
    queue: float
    preprocess: float
    vision: float
    prefill: float
    decode: float
    total: float
    def __init__(self, queue: _Optional[float] = ..., preprocess: _Optional[float] = ..., vision: _Optional[float] = ..., prefill: _Optional[float] = ..., decode: _Optional[float] = ..., total: _Optional[float] = ...) -> None: ...

class CaptionRequest(_message.Message):
    __slots__ = ("image", "model", "resolution", "adapter", "max_tokens", "temperature", "top_p", "top_k", "seed", "timeout_ms", "strict", "images", "language", "style")
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    RESOLUTION_FIELD_NUMBER: _ClassVar[int]
    ADAPTER_FIELD_NUMBER: _ClassVar[int]
    MAX_TOKENS_FIELD_NUMBER: _ClassVar[int]
    TEMPERATURE_FIELD_NUMBER: _ClassVar[int]
    TOP_P_FIELD_NUMBER: _ClassVar[int]
    TOP_K_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_MS_FIELD_NUMBER: _ClassVar[int]
    STRICT_FIELD_NUMBER: _ClassVar[int]
    IMAGES_FIELD_NUMBER: _ClassVar[int]
    LANGUAGE_FIELD_NUMBER: _ClassVar[int]
    STYLE_FIELD_NUMBER: _ClassVar[int]
    image: bytes
    model: str
    resolution: Resolution
    adapter: str
    max_tokens: int
    temperature: float
    top_p: float
    top_k: int
    seed: int
    timeout_ms: int
    strict: bool
    images: _containers.RepeatedScalarFieldContainer[bytes]
    language: str
    style: CaptionStyle
    def __init__(self, image: _Optional[bytes] = ..., model: _Optional[str] = ..., resolution: _Optional[_Union[Resolution, str]] = ..., adapter: _Optional[str] = ..., max_tokens: _Optional[int] = ..., temperature: _Optional[float] = ..., top_p: _Optional[float] = ..., top_k: _Optional[int] = ..., seed: _Optional[int] = ..., timeout_ms: _Optional[int] = ..., strict: _Optional[bool] = ..., images: _Optional[_Iterable[bytes]] = ..., language: _Optional[str] = ..., style: _Optional[_Union[CaptionStyle, str]] = ...) -> None: ...

class CaptionResponse(_message.Message):
    __slots__ = ("id", "model", "task", "prompt", "text", "finish_reason", "score", "image", "usage", "timings_ms", "caption")
    ID_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    TASK_FIELD_NUMBER: _ClassVar[int]
    PROMPT_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    FINISH_REASON_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    USAGE_FIELD_NUMBER: _ClassVar[int]
    TIMINGS_MS_FIELD_NUMBER: _ClassVar[int]
    CAPTION_FIELD_NUMBER: _ClassVar[int]
    id: str
    model: str
    task: str
    prompt: str
    text: str
    finish_reason: FinishReason
    score: float
    image: ImageSize
    usage: Usage
    timings_ms: Timings
    caption: str
    def __init__(self, id: _Optional[str] = ..., model: _Optional[str] = ..., task: _Optional[str] = ..., prompt: _Optional[str] = ..., text: _Optional[str] = ..., finish_reason: _Optional[_Union[FinishReason, str]] = ..., score: _Optional[float] = ..., image: _Optional[_Union[ImageSize, _Mapping]] = ..., usage: _Optional[_Union[Usage, _Mapping]] = ..., timings_ms: _Optional[_Union[Timings, _Mapping]] = ..., caption: _Optional[str] = ...) -> None: ...

class AnswerRequest(_message.Message):
    __slots__ = ("image", "model", "resolution", "adapter", "max_tokens", "temperature", "top_p", "top_k", "seed", "timeout_ms", "strict", "images", "question", "language")
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    RESOLUTION_FIELD_NUMBER: _ClassVar[int]
    ADAPTER_FIELD_NUMBER: _ClassVar[int]
    MAX_TOKENS_FIELD_NUMBER: _ClassVar[int]
    TEMPERATURE_FIELD_NUMBER: _ClassVar[int]
    TOP_P_FIELD_NUMBER: _ClassVar[int]
    TOP_K_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_MS_FIELD_NUMBER: _ClassVar[int]
    STRICT_FIELD_NUMBER: _ClassVar[int]
    IMAGES_FIELD_NUMBER: _ClassVar[int]
    QUESTION_FIELD_NUMBER: _ClassVar[int]
    LANGUAGE_FIELD_NUMBER: _ClassVar[int]
    image: bytes
    model: str
    resolution: Resolution
    adapter: str
    max_tokens: int
    temperature: float
    top_p: float
    top_k: int
    seed: int
    timeout_ms: int
    strict: bool
    images: _containers.RepeatedScalarFieldContainer[bytes]
    question: str
    language: str
    def __init__(self, image: _Optional[bytes] = ..., model: _Optional[str] = ..., resolution: _Optional[_Union[Resolution, str]] = ..., adapter: _Optional[str] = ..., max_tokens: _Optional[int] = ..., temperature: _Optional[float] = ..., top_p: _Optional[float] = ..., top_k: _Optional[int] = ..., seed: _Optional[int] = ..., timeout_ms: _Optional[int] = ..., strict: _Optional[bool] = ..., images: _Optional[_Iterable[bytes]] = ..., question: _Optional[str] = ..., language: _Optional[str] = ...) -> None: ...

class AnswerResponse(_message.Message):
    __slots__ = ("id", "model", "task", "prompt", "text", "finish_reason", "score", "image", "usage", "timings_ms", "answer")
    ID_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    TASK_FIELD_NUMBER: _ClassVar[int]
    PROMPT_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    FINISH_REASON_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    USAGE_FIELD_NUMBER: _ClassVar[int]
    TIMINGS_MS_FIELD_NUMBER: _ClassVar[int]
    ANSWER_FIELD_NUMBER: _ClassVar[int]
    id: str
    model: str
    task: str
    prompt: str
    text: str
    finish_reason: FinishReason
    score: float
    image: ImageSize
    usage: Usage
    timings_ms: Timings
    answer: str
    def __init__(self, id: _Optional[str] = ..., model: _Optional[str] = ..., task: _Optional[str] = ..., prompt: _Optional[str] = ..., text: _Optional[str] = ..., finish_reason: _Optional[_Union[FinishReason, str]] = ..., score: _Optional[float] = ..., image: _Optional[_Union[ImageSize, _Mapping]] = ..., usage: _Optional[_Union[Usage, _Mapping]] = ..., timings_ms: _Optional[_Union[Timings, _Mapping]] = ..., answer: _Optional[str] = ...) -> None: ...

class DetectRequest(_message.Message):
    __slots__ = ("image", "model", "resolution", "adapter", "max_tokens", "temperature", "top_p", "top_k", "seed", "timeout_ms", "strict", "images", "objects")
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    RESOLUTION_FIELD_NUMBER: _ClassVar[int]
    ADAPTER_FIELD_NUMBER: _ClassVar[int]
    MAX_TOKENS_FIELD_NUMBER: _ClassVar[int]
    TEMPERATURE_FIELD_NUMBER: _ClassVar[int]
    TOP_P_FIELD_NUMBER: _ClassVar[int]
    TOP_K_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_MS_FIELD_NUMBER: _ClassVar[int]
    STRICT_FIELD_NUMBER: _ClassVar[int]
    IMAGES_FIELD_NUMBER: _ClassVar[int]
    OBJECTS_FIELD_NUMBER: _ClassVar[int]
    image: bytes
    model: str
    resolution: Resolution
    adapter: str
    max_tokens: int
    temperature: float
    top_p: float
    top_k: int
    seed: int
    timeout_ms: int
    strict: bool
    images: _containers.RepeatedScalarFieldContainer[bytes]
    objects: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, image: _Optional[bytes] = ..., model: _Optional[str] = ..., resolution: _Optional[_Union[Resolution, str]] = ..., adapter: _Optional[str] = ..., max_tokens: _Optional[int] = ..., temperature: _Optional[float] = ..., top_p: _Optional[float] = ..., top_k: _Optional[int] = ..., seed: _Optional[int] = ..., timeout_ms: _Optional[int] = ..., strict: _Optional[bool] = ..., images: _Optional[_Iterable[bytes]] = ..., objects: _Optional[_Iterable[str]] = ...) -> None: ...

class DetectResponse(_message.Message):
    __slots__ = ("id", "model", "task", "prompt", "text", "finish_reason", "score", "image", "usage", "timings_ms", "detections")
    ID_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    TASK_FIELD_NUMBER: _ClassVar[int]
    PROMPT_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    FINISH_REASON_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    USAGE_FIELD_NUMBER: _ClassVar[int]
    TIMINGS_MS_FIELD_NUMBER: _ClassVar[int]
    DETECTIONS_FIELD_NUMBER: _ClassVar[int]
    id: str
    model: str
    task: str
    prompt: str
    text: str
    finish_reason: FinishReason
    score: float
    image: ImageSize
    usage: Usage
    timings_ms: Timings
    detections: _containers.RepeatedCompositeFieldContainer[Detection]
    def __init__(self, id: _Optional[str] = ..., model: _Optional[str] = ..., task: _Optional[str] = ..., prompt: _Optional[str] = ..., text: _Optional[str] = ..., finish_reason: _Optional[_Union[FinishReason, str]] = ..., score: _Optional[float] = ..., image: _Optional[_Union[ImageSize, _Mapping]] = ..., usage: _Optional[_Union[Usage, _Mapping]] = ..., timings_ms: _Optional[_Union[Timings, _Mapping]] = ..., detections: _Optional[_Iterable[_Union[Detection, _Mapping]]] = ...) -> None: ...

class SegmentRequest(_message.Message):
    __slots__ = ("image", "model", "resolution", "adapter", "max_tokens", "temperature", "top_p", "top_k", "seed", "timeout_ms", "strict", "images", "objects", "mask_format")
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    RESOLUTION_FIELD_NUMBER: _ClassVar[int]
    ADAPTER_FIELD_NUMBER: _ClassVar[int]
    MAX_TOKENS_FIELD_NUMBER: _ClassVar[int]
    TEMPERATURE_FIELD_NUMBER: _ClassVar[int]
    TOP_P_FIELD_NUMBER: _ClassVar[int]
    TOP_K_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_MS_FIELD_NUMBER: _ClassVar[int]
    STRICT_FIELD_NUMBER: _ClassVar[int]
    IMAGES_FIELD_NUMBER: _ClassVar[int]
    OBJECTS_FIELD_NUMBER: _ClassVar[int]
    MASK_FORMAT_FIELD_NUMBER: _ClassVar[int]
    image: bytes
    model: str
    resolution: Resolution
    adapter: str
    max_tokens: int
    temperature: float
    top_p: float
    top_k: int
    seed: int
    timeout_ms: int
    strict: bool
    images: _containers.RepeatedScalarFieldContainer[bytes]
    objects: _containers.RepeatedScalarFieldContainer[str]
    mask_format: MaskFormat
    def __init__(self, image: _Optional[bytes] = ..., model: _Optional[str] = ..., resolution: _Optional[_Union[Resolution, str]] = ..., adapter: _Optional[str] = ..., max_tokens: _Optional[int] = ..., temperature: _Optional[float] = ..., top_p: _Optional[float] = ..., top_k: _Optional[int] = ..., seed: _Optional[int] = ..., timeout_ms: _Optional[int] = ..., strict: _Optional[bool] = ..., images: _Optional[_Iterable[bytes]] = ..., objects: _Optional[_Iterable[str]] = ..., mask_format: _Optional[_Union[MaskFormat, str]] = ...) -> None: ...

class SegmentResponse(_message.Message):
    __slots__ = ("id", "model", "task", "prompt", "text", "finish_reason", "score", "image", "usage", "timings_ms", "segments")
    ID_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    TASK_FIELD_NUMBER: _ClassVar[int]
    PROMPT_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    FINISH_REASON_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    USAGE_FIELD_NUMBER: _ClassVar[int]
    TIMINGS_MS_FIELD_NUMBER: _ClassVar[int]
    SEGMENTS_FIELD_NUMBER: _ClassVar[int]
    id: str
    model: str
    task: str
    prompt: str
    text: str
    finish_reason: FinishReason
    score: float
    image: ImageSize
    usage: Usage
    timings_ms: Timings
    segments: _containers.RepeatedCompositeFieldContainer[Segment]
    def __init__(self, id: _Optional[str] = ..., model: _Optional[str] = ..., task: _Optional[str] = ..., prompt: _Optional[str] = ..., text: _Optional[str] = ..., finish_reason: _Optional[_Union[FinishReason, str]] = ..., score: _Optional[float] = ..., image: _Optional[_Union[ImageSize, _Mapping]] = ..., usage: _Optional[_Union[Usage, _Mapping]] = ..., timings_ms: _Optional[_Union[Timings, _Mapping]] = ..., segments: _Optional[_Iterable[_Union[Segment, _Mapping]]] = ...) -> None: ...

class ReadRequest(_message.Message):
    __slots__ = ("image", "model", "resolution", "adapter", "max_tokens", "temperature", "top_p", "top_k", "seed", "timeout_ms", "strict", "images")
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    RESOLUTION_FIELD_NUMBER: _ClassVar[int]
    ADAPTER_FIELD_NUMBER: _ClassVar[int]
    MAX_TOKENS_FIELD_NUMBER: _ClassVar[int]
    TEMPERATURE_FIELD_NUMBER: _ClassVar[int]
    TOP_P_FIELD_NUMBER: _ClassVar[int]
    TOP_K_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_MS_FIELD_NUMBER: _ClassVar[int]
    STRICT_FIELD_NUMBER: _ClassVar[int]
    IMAGES_FIELD_NUMBER: _ClassVar[int]
    image: bytes
    model: str
    resolution: Resolution
    adapter: str
    max_tokens: int
    temperature: float
    top_p: float
    top_k: int
    seed: int
    timeout_ms: int
    strict: bool
    images: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, image: _Optional[bytes] = ..., model: _Optional[str] = ..., resolution: _Optional[_Union[Resolution, str]] = ..., adapter: _Optional[str] = ..., max_tokens: _Optional[int] = ..., temperature: _Optional[float] = ..., top_p: _Optional[float] = ..., top_k: _Optional[int] = ..., seed: _Optional[int] = ..., timeout_ms: _Optional[int] = ..., strict: _Optional[bool] = ..., images: _Optional[_Iterable[bytes]] = ...) -> None: ...

class ReadResponse(_message.Message):
    __slots__ = ("id", "model", "task", "prompt", "text", "finish_reason", "score", "image", "usage", "timings_ms", "text_read")
    ID_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    TASK_FIELD_NUMBER: _ClassVar[int]
    PROMPT_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    FINISH_REASON_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    USAGE_FIELD_NUMBER: _ClassVar[int]
    TIMINGS_MS_FIELD_NUMBER: _ClassVar[int]
    TEXT_READ_FIELD_NUMBER: _ClassVar[int]
    id: str
    model: str
    task: str
    prompt: str
    text: str
    finish_reason: FinishReason
    score: float
    image: ImageSize
    usage: Usage
    timings_ms: Timings
    text_read: str
    def __init__(self, id: _Optional[str] = ..., model: _Optional[str] = ..., task: _Optional[str] = ..., prompt: _Optional[str] = ..., text: _Optional[str] = ..., finish_reason: _Optional[_Union[FinishReason, str]] = ..., score: _Optional[float] = ..., image: _Optional[_Union[ImageSize, _Mapping]] = ..., usage: _Optional[_Union[Usage, _Mapping]] = ..., timings_ms: _Optional[_Union[Timings, _Mapping]] = ..., text_read: _Optional[str] = ...) -> None: ...

class CaptionRegionRequest(_message.Message):
    __slots__ = ("image", "model", "resolution", "adapter", "max_tokens", "temperature", "top_p", "top_k", "seed", "timeout_ms", "strict", "images", "box")
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    RESOLUTION_FIELD_NUMBER: _ClassVar[int]
    ADAPTER_FIELD_NUMBER: _ClassVar[int]
    MAX_TOKENS_FIELD_NUMBER: _ClassVar[int]
    TEMPERATURE_FIELD_NUMBER: _ClassVar[int]
    TOP_P_FIELD_NUMBER: _ClassVar[int]
    TOP_K_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_MS_FIELD_NUMBER: _ClassVar[int]
    STRICT_FIELD_NUMBER: _ClassVar[int]
    IMAGES_FIELD_NUMBER: _ClassVar[int]
    BOX_FIELD_NUMBER: _ClassVar[int]
    image: bytes
    model: str
    resolution: Resolution
    adapter: str
    max_tokens: int
    temperature: float
    top_p: float
    top_k: int
    seed: int
    timeout_ms: int
    strict: bool
    images: _containers.RepeatedScalarFieldContainer[bytes]
    box: Box
    def __init__(self, image: _Optional[bytes] = ..., model: _Optional[str] = ..., resolution: _Optional[_Union[Resolution, str]] = ..., adapter: _Optional[str] = ..., max_tokens: _Optional[int] = ..., temperature: _Optional[float] = ..., top_p: _Optional[float] = ..., top_k: _Optional[int] = ..., seed: _Optional[int] = ..., timeout_ms: _Optional[int] = ..., strict: _Optional[bool] = ..., images: _Optional[_Iterable[bytes]] = ..., box: _Optional[_Union[Box, _Mapping]] = ...) -> None: ...

class CaptionRegionResponse(_message.Message):
    __slots__ = ("id", "model", "task", "prompt", "text", "finish_reason", "score", "image", "usage", "timings_ms", "caption")
    ID_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    TASK_FIELD_NUMBER: _ClassVar[int]
    PROMPT_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    FINISH_REASON_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    USAGE_FIELD_NUMBER: _ClassVar[int]
    TIMINGS_MS_FIELD_NUMBER: _ClassVar[int]
    CAPTION_FIELD_NUMBER: _ClassVar[int]
    id: str
    model: str
    task: str
    prompt: str
    text: str
    finish_reason: FinishReason
    score: float
    image: ImageSize
    usage: Usage
    timings_ms: Timings
    caption: str
    def __init__(self, id: _Optional[str] = ..., model: _Optional[str] = ..., task: _Optional[str] = ..., prompt: _Optional[str] = ..., text: _Optional[str] = ..., finish_reason: _Optional[_Union[FinishReason, str]] = ..., score: _Optional[float] = ..., image: _Optional[_Union[ImageSize, _Mapping]] = ..., usage: _Optional[_Union[Usage, _Mapping]] = ..., timings_ms: _Optional[_Union[Timings, _Mapping]] = ..., caption: _Optional[str] = ...) -> None: ...

class GenerateRequest(_message.Message):
    __slots__ = ("image", "model", "resolution", "adapter", "max_tokens", "temperature", "top_p", "top_k", "seed", "timeout_ms", "strict", "images", "prompt", "mask_format")
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    RESOLUTION_FIELD_NUMBER: _ClassVar[int]
    ADAPTER_FIELD_NUMBER: _ClassVar[int]
    MAX_TOKENS_FIELD_NUMBER: _ClassVar[int]
    TEMPERATURE_FIELD_NUMBER: _ClassVar[int]
    TOP_P_FIELD_NUMBER: _ClassVar[int]
    TOP_K_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_MS_FIELD_NUMBER: _ClassVar[int]
    STRICT_FIELD_NUMBER: _ClassVar[int]
    IMAGES_FIELD_NUMBER: _ClassVar[int]
    PROMPT_FIELD_NUMBER: _ClassVar[int]
    MASK_FORMAT_FIELD_NUMBER: _ClassVar[int]
    image: bytes
    model: str
    resolution: Resolution
    adapter: str
    max_tokens: int
    temperature: float
    top_p: float
    top_k: int
    seed: int
    timeout_ms: int
    strict: bool
    images: _containers.RepeatedScalarFieldContainer[bytes]
    prompt: str
    mask_format: MaskFormat
    def __init__(self, image: _Optional[bytes] = ..., model: _Optional[str] = ..., resolution: _Optional[_Union[Resolution, str]] = ..., adapter: _Optional[str] = ..., max_tokens: _Optional[int] = ..., temperature: _Optional[float] = ..., top_p: _Optional[float] = ..., top_k: _Optional[int] = ..., seed: _Optional[int] = ..., timeout_ms: _Optional[int] = ..., strict: _Optional[bool] = ..., images: _Optional[_Iterable[bytes]] = ..., prompt: _Optional[str] = ..., mask_format: _Optional[_Union[MaskFormat, str]] = ...) -> None: ...

class GenerateResponse(_message.Message):
    __slots__ = ("id", "model", "task", "prompt", "text", "finish_reason", "score", "image", "usage", "timings_ms", "detections", "segments")
    ID_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    TASK_FIELD_NUMBER: _ClassVar[int]
    PROMPT_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    FINISH_REASON_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    USAGE_FIELD_NUMBER: _ClassVar[int]
    TIMINGS_MS_FIELD_NUMBER: _ClassVar[int]
    DETECTIONS_FIELD_NUMBER: _ClassVar[int]
    SEGMENTS_FIELD_NUMBER: _ClassVar[int]
    id: str
    model: str
    task: str
    prompt: str
    text: str
    finish_reason: FinishReason
    score: float
    image: ImageSize
    usage: Usage
    timings_ms: Timings
    detections: _containers.RepeatedCompositeFieldContainer[Detection]
    segments: _containers.RepeatedCompositeFieldContainer[Segment]
    def __init__(self, id: _Optional[str] = ..., model: _Optional[str] = ..., task: _Optional[str] = ..., prompt: _Optional[str] = ..., text: _Optional[str] = ..., finish_reason: _Optional[_Union[FinishReason, str]] = ..., score: _Optional[float] = ..., image: _Optional[_Union[ImageSize, _Mapping]] = ..., usage: _Optional[_Union[Usage, _Mapping]] = ..., timings_ms: _Optional[_Union[Timings, _Mapping]] = ..., detections: _Optional[_Iterable[_Union[Detection, _Mapping]]] = ..., segments: _Optional[_Iterable[_Union[Segment, _Mapping]]] = ...) -> None: ...

class StreamGenerateRequest(_message.Message):
    __slots__ = ("image", "model", "resolution", "adapter", "max_tokens", "temperature", "top_p", "top_k", "seed", "timeout_ms", "strict", "images", "prompt", "mask_format")
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    RESOLUTION_FIELD_NUMBER: _ClassVar[int]
    ADAPTER_FIELD_NUMBER: _ClassVar[int]
    MAX_TOKENS_FIELD_NUMBER: _ClassVar[int]
    TEMPERATURE_FIELD_NUMBER: _ClassVar[int]
    TOP_P_FIELD_NUMBER: _ClassVar[int]
    TOP_K_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_MS_FIELD_NUMBER: _ClassVar[int]
    STRICT_FIELD_NUMBER: _ClassVar[int]
    IMAGES_FIELD_NUMBER: _ClassVar[int]
    PROMPT_FIELD_NUMBER: _ClassVar[int]
    MASK_FORMAT_FIELD_NUMBER: _ClassVar[int]
    image: bytes
    model: str
    resolution: Resolution
    adapter: str
    max_tokens: int
    temperature: float
    top_p: float
    top_k: int
    seed: int
    timeout_ms: int
    strict: bool
    images: _containers.RepeatedScalarFieldContainer[bytes]
    prompt: str
    mask_format: MaskFormat
    def __init__(self, image: _Optional[bytes] = ..., model: _Optional[str] = ..., resolution: _Optional[_Union[Resolution, str]] = ..., adapter: _Optional[str] = ..., max_tokens: _Optional[int] = ..., temperature: _Optional[float] = ..., top_p: _Optional[float] = ..., top_k: _Optional[int] = ..., seed: _Optional[int] = ..., timeout_ms: _Optional[int] = ..., strict: _Optional[bool] = ..., images: _Optional[_Iterable[bytes]] = ..., prompt: _Optional[str] = ..., mask_format: _Optional[_Union[MaskFormat, str]] = ...) -> None: ...

class StreamGenerateResponse(_message.Message):
    __slots__ = ("token", "detection", "segment", "result")
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    DETECTION_FIELD_NUMBER: _ClassVar[int]
    SEGMENT_FIELD_NUMBER: _ClassVar[int]
    RESULT_FIELD_NUMBER: _ClassVar[int]
    token: TokenEvent
    detection: DetectionEvent
    segment: SegmentEvent
    result: GenerateResponse
    def __init__(self, token: _Optional[_Union[TokenEvent, _Mapping]] = ..., detection: _Optional[_Union[DetectionEvent, _Mapping]] = ..., segment: _Optional[_Union[SegmentEvent, _Mapping]] = ..., result: _Optional[_Union[GenerateResponse, _Mapping]] = ...) -> None: ...

class TokenEvent(_message.Message):
    __slots__ = ("text", "index")
    TEXT_FIELD_NUMBER: _ClassVar[int]
    INDEX_FIELD_NUMBER: _ClassVar[int]
    text: str
    index: int
    def __init__(self, text: _Optional[str] = ..., index: _Optional[int] = ...) -> None: ...

class DetectionEvent(_message.Message):
    __slots__ = ("detection", "index")
    DETECTION_FIELD_NUMBER: _ClassVar[int]
    INDEX_FIELD_NUMBER: _ClassVar[int]
    detection: Detection
    index: int
    def __init__(self, detection: _Optional[_Union[Detection, _Mapping]] = ..., index: _Optional[int] = ...) -> None: ...

class SegmentEvent(_message.Message):
    __slots__ = ("segment", "index")
    SEGMENT_FIELD_NUMBER: _ClassVar[int]
    INDEX_FIELD_NUMBER: _ClassVar[int]
    segment: Segment
    index: int
    def __init__(self, segment: _Optional[_Union[Segment, _Mapping]] = ..., index: _Optional[int] = ...) -> None: ...

class BatchRequest(_message.Message):
    __slots__ = ("id", "caption", "answer", "detect", "segment", "read", "caption_region", "generate")
    ID_FIELD_NUMBER: _ClassVar[int]
    CAPTION_FIELD_NUMBER: _ClassVar[int]
    ANSWER_FIELD_NUMBER: _ClassVar[int]
    DETECT_FIELD_NUMBER: _ClassVar[int]
    SEGMENT_FIELD_NUMBER: _ClassVar[int]
    READ_FIELD_NUMBER: _ClassVar[int]
    CAPTION_REGION_FIELD_NUMBER: _ClassVar[int]
    GENERATE_FIELD_NUMBER: _ClassVar[int]
    id: str
    caption: CaptionRequest
    answer: AnswerRequest
    detect: DetectRequest
    segment: SegmentRequest
    read: ReadRequest
    caption_region: CaptionRegionRequest
    generate: GenerateRequest
    def __init__(self, id: _Optional[str] = ..., caption: _Optional[_Union[CaptionRequest, _Mapping]] = ..., answer: _Optional[_Union[AnswerRequest, _Mapping]] = ..., detect: _Optional[_Union[DetectRequest, _Mapping]] = ..., segment: _Optional[_Union[SegmentRequest, _Mapping]] = ..., read: _Optional[_Union[ReadRequest, _Mapping]] = ..., caption_region: _Optional[_Union[CaptionRegionRequest, _Mapping]] = ..., generate: _Optional[_Union[GenerateRequest, _Mapping]] = ...) -> None: ...

class BatchResponse(_message.Message):
    __slots__ = ("id", "caption", "answer", "detect", "segment", "read", "caption_region", "generate", "error")
    ID_FIELD_NUMBER: _ClassVar[int]
    CAPTION_FIELD_NUMBER: _ClassVar[int]
    ANSWER_FIELD_NUMBER: _ClassVar[int]
    DETECT_FIELD_NUMBER: _ClassVar[int]
    SEGMENT_FIELD_NUMBER: _ClassVar[int]
    READ_FIELD_NUMBER: _ClassVar[int]
    CAPTION_REGION_FIELD_NUMBER: _ClassVar[int]
    GENERATE_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    id: str
    caption: CaptionResponse
    answer: AnswerResponse
    detect: DetectResponse
    segment: SegmentResponse
    read: ReadResponse
    caption_region: CaptionRegionResponse
    generate: GenerateResponse
    error: Problem
    def __init__(self, id: _Optional[str] = ..., caption: _Optional[_Union[CaptionResponse, _Mapping]] = ..., answer: _Optional[_Union[AnswerResponse, _Mapping]] = ..., detect: _Optional[_Union[DetectResponse, _Mapping]] = ..., segment: _Optional[_Union[SegmentResponse, _Mapping]] = ..., read: _Optional[_Union[ReadResponse, _Mapping]] = ..., caption_region: _Optional[_Union[CaptionRegionResponse, _Mapping]] = ..., generate: _Optional[_Union[GenerateResponse, _Mapping]] = ..., error: _Optional[_Union[Problem, _Mapping]] = ...) -> None: ...

class Problem(_message.Message):
    __slots__ = ("code", "status", "message", "errors", "retry_after")
    CODE_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    ERRORS_FIELD_NUMBER: _ClassVar[int]
    RETRY_AFTER_FIELD_NUMBER: _ClassVar[int]
    code: str
    status: int
    message: str
    errors: _containers.RepeatedCompositeFieldContainer[FieldProblem]
    retry_after: _duration_pb2.Duration
    def __init__(self, code: _Optional[str] = ..., status: _Optional[int] = ..., message: _Optional[str] = ..., errors: _Optional[_Iterable[_Union[FieldProblem, _Mapping]]] = ..., retry_after: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class FieldProblem(_message.Message):
    __slots__ = ("field", "problem")
    FIELD_FIELD_NUMBER: _ClassVar[int]
    PROBLEM_FIELD_NUMBER: _ClassVar[int]
    field: str
    problem: str
    def __init__(self, field: _Optional[str] = ..., problem: _Optional[str] = ...) -> None: ...

class ListModelsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListModelsResponse(_message.Message):
    __slots__ = ("models",)
    MODELS_FIELD_NUMBER: _ClassVar[int]
    models: _containers.RepeatedCompositeFieldContainer[Model]
    def __init__(self, models: _Optional[_Iterable[_Union[Model, _Mapping]]] = ...) -> None: ...

class Model(_message.Message):
    __slots__ = ("id", "created", "resolution", "dtype", "device", "state", "tasks", "adapters", "max_tokens", "source")
    ID_FIELD_NUMBER: _ClassVar[int]
    CREATED_FIELD_NUMBER: _ClassVar[int]
    RESOLUTION_FIELD_NUMBER: _ClassVar[int]
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    TASKS_FIELD_NUMBER: _ClassVar[int]
    ADAPTERS_FIELD_NUMBER: _ClassVar[int]
    MAX_TOKENS_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    id: str
    created: int
    resolution: int
    dtype: str
    device: str
    state: ModelState
    tasks: _containers.RepeatedScalarFieldContainer[str]
    adapters: _containers.RepeatedScalarFieldContainer[str]
    max_tokens: int
    source: str
    def __init__(self, id: _Optional[str] = ..., created: _Optional[int] = ..., resolution: _Optional[int] = ..., dtype: _Optional[str] = ..., device: _Optional[str] = ..., state: _Optional[_Union[ModelState, str]] = ..., tasks: _Optional[_Iterable[str]] = ..., adapters: _Optional[_Iterable[str]] = ..., max_tokens: _Optional[int] = ..., source: _Optional[str] = ...) -> None: ...
