"""``inference.GRPCInferenceService``: the Open Inference Protocol, as clients of KServe and Triton speak it."""

from collections.abc import Mapping, Sequence
from typing import Any

from service.errors import InvalidRequest, ModelNotFound, PaliServeError
from service.transports.grpc.calls import Context, current_visit
from service.transports.grpc.generated import inference_pb2 as pb
from service.transports.grpc.generated import inference_pb2_grpc
from service.transports.inference.metadata import EXTENSIONS, SERVER, ModelMetadata, TensorMetadata
from service.transports.inference.questions import INPUTS, VERSION, answer, check_outputs, check_version, read
from service.transports.inference.tensors import BYTES, MOST_ELEMENTS, Tensor, check, pack, refused, unpack
from service.transports.ports import Service

NAME = pb.DESCRIPTOR.services_by_name["GRPCInferenceService"].full_name


class InferenceServicer(inference_pb2_grpc.GRPCInferenceServiceServicer):
    """See the protocol's own comments. ``version`` is the program's."""

    # gRPC's names.
    # ruff: noqa: N802

    def __init__(self, service: Service, version: str) -> None:
        self._service = service
        self._version = version

    async def ServerLive(self, request: pb.ServerLiveRequest, context: Context) -> pb.ServerLiveResponse:
        return pb.ServerLiveResponse(live=self._service.alive())

    async def ServerReady(self, request: pb.ServerReadyRequest, context: Context) -> pb.ServerReadyResponse:
        return pb.ServerReadyResponse(ready=self._is_ready())

    async def ModelReady(self, request: pb.ModelReadyRequest, context: Context) -> pb.ModelReadyResponse:
        try:
            check_version(request.version)
            model = self._service.model(request.name)
        except ModelNotFound:
            return pb.ModelReadyResponse(ready=False)
        return pb.ModelReadyResponse(ready=model.state == "warm" and self._is_ready())

    async def ServerMetadata(self, request: pb.ServerMetadataRequest, context: Context) -> pb.ServerMetadataResponse:
        return pb.ServerMetadataResponse(name=SERVER, version=self._version, extensions=EXTENSIONS)

    async def ModelMetadata(self, request: pb.ModelMetadataRequest, context: Context) -> pb.ModelMetadataResponse:
        check_version(request.version)
        told = ModelMetadata(self._service.model(request.name).name)
        return pb.ModelMetadataResponse(
            name=told.name, versions=told.versions, platform=told.platform, inputs=_tensors(told.inputs), outputs=_tensors(told.outputs)
        )

    async def ModelInfer(self, request: pb.ModelInferRequest, context: Context) -> pb.ModelInferResponse:
        visit = current_visit()
        visit.task = "infer"
        self._service.ready()
        check_version(request.model_version)
        name = self._service.model(request.model_name).name
        wanted = check_outputs([each.name for each in request.outputs])
        question = read(name, _read_tensors(request), _values(request.parameters), context.time_remaining())
        with self._service.room():
            outputs = await answer(self._service, question, visit)
        response = pb.ModelInferResponse(model_name=name, model_version=VERSION, id=request.id)
        for each in wanted:
            tensor = response.outputs.add(name=each, datatype=BYTES, shape=question.prompts.shape)
            if request.raw_input_contents:
                response.raw_output_contents.append(pack(outputs[each]))
            else:
                tensor.contents.bytes_contents.extend(outputs[each])
        return response

    def _is_ready(self) -> bool:
        try:
            self._service.ready()
        except PaliServeError:
            return False
        return True


def _read_tensors(request: pb.ModelInferRequest) -> list[Tensor]:
    # Looked at before any of it becomes an object of its own.
    if len(request.inputs) > len(INPUTS):
        raise InvalidRequest("inputs: image and prompt are needed, each once, and nothing else.")
    for each in request.inputs:
        if len(each.contents.bytes_contents) > MOST_ELEMENTS:
            raise refused(each.name, f"at most {MOST_ELEMENTS} elements are taken")
    raw = request.raw_input_contents
    if raw and (len(raw) != len(request.inputs) or any(each.HasField("contents") for each in request.inputs)):
        raise InvalidRequest("raw_input_contents must hold one piece for each input, and the inputs then no contents.")
    elements = [unpack(each.name, part) for each, part in zip(request.inputs, raw, strict=True)] if raw else None
    return [
        check(each.name, each.datatype, each.shape, elements[index] if elements else list(each.contents.bytes_contents))
        for index, each in enumerate(request.inputs)
    ]


def _values(parameters: Mapping[str, pb.InferParameter]) -> dict[str, Any]:
    return {name: getattr(value, value.WhichOneof("parameter_choice") or "string_param") for name, value in parameters.items()}


def _tensors(told: Sequence[TensorMetadata]) -> list[pb.ModelMetadataResponse.TensorMetadata]:
    return [pb.ModelMetadataResponse.TensorMetadata(name=each.name, datatype=each.datatype, shape=each.shape) for each in told]
