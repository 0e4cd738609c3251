"""TensorRT on an NVIDIA GPU: TensorRT for RTX if installed, else classic TensorRT, through the same code.

A plan is built once per model, GPU, driver and library version, and cached. Runs are recorded as a CUDA graph: by the
library if it can, else here, else not at all. Loading and running need a GPU and were developed without one: tests
check the order of the calls on a fake with the signatures of the real libraries.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

from engines.backends.nvidia import Buffers, Cuda, Graph, installed_library, make_logger, no_garbage, open_library
from engines.backends.tensorrt_plan import TYPES, Plan, PlanRequest, build_plan, plan_request
from engines.base import BufferedEngine, EngineOptions, InferenceEngine, TensorSpec
from engines.cache import CacheKey, EngineCache
from engines.errors import (
    BuildProgress,
    CacheUnusable,
    ContractMismatch,
    EngineBuildError,
    EngineNotBuilt,
    EngineRunError,
    EngineUnavailable,
)
from engines.manifest import Model

UNTRIED = "builds are tested, but this version has never run on a GPU"
_JIT = ".jit"
#: What `get_engine_validity` reports and a new build fixes; the rest depends on the machine.
_MENDED_BY_BUILDING = ("VERSION_MISMATCH", "UNSUPPORTED_CC", "MALFORMED_ENGINE")

_log = logging.getLogger(__name__)


class TensorRtEngine(BufferedEngine):
    """One plan in one execution context on one stream, with buffers allocated once."""

    backend = "tensorrt"

    def __init__(self, model: Model, device: str, options: EngineOptions, plan: Plan | None = None) -> None:
        """Loads the plan from the cache, or builds it. With `plan`, runs that one and ignores the cache."""
        library, cuda = open_library(), Cuda()
        gpu = cuda.find_gpu()
        wanted = plan_request(model, options, gpu.architecture, here=True)
        cache, key = EngineCache(), wanted.key(library, gpu)
        self._session: _Session | None = None
        if plan is not None:
            self._session = _Session(library, cuda, plan.content)
        else:
            self._session = self._open_cached(library, cuda, cache, key, wanted, options)
        super().__init__(device, wanted.precision, self._session.inputs, self._session.outputs)
        try:
            self._feeds = {spec.name: self._session.arrays[spec.name] for spec in self.inputs}
            self._results = {spec.name: self._session.arrays[spec.name] for spec in self.outputs}
            self._session.warm_up()
        except BaseException:
            self._session.close()
            raise
        if plan is None:
            _keep_jit(cache, key, self._session)

    @staticmethod
    def devices() -> Sequence[str]:
        """Name of the GPU. Raises EngineUnavailable without TensorRT, cuda-python or a driver."""
        name = installed_library()
        try:
            gpu = Cuda().find_gpu()
        except EngineUnavailable as error:
            raise EngineUnavailable(f"{name} is installed, but: {error.message}", error.hint) from error
        open_library()
        return (gpu.name,)

    @staticmethod
    def warning() -> str:
        """Warning shown wherever TensorRT would be used, until it has been tried on a GPU."""
        return f"{UNTRIED}; fix: occlufix-vcam build-engine"

    def _execute(self) -> None:
        assert self._session is not None
        self._session.run()

    def _release(self) -> None:
        if self._session is not None:
            self._session.close()
        self._session = None

    @staticmethod
    def _open_cached(
        library: ModuleType, cuda: Cuda, cache: EngineCache, key: CacheKey, wanted: PlanRequest, options: EngineOptions
    ) -> _Session:
        """Opens the cached plan. One that does not load is discarded and rebuilt once; then EngineBuildError."""
        build = partial(_build_into, cache, key, library, wanted)
        while True:
            content = cache.read(key)
            is_new = content is None
            if content is None:
                if not options.wait_for_build:
                    raise EngineNotBuilt(f"its engine for {wanted.model.name} is not built yet", build)
                content = build(lambda share: True)
            try:
                return _Session(library, cuda, content, _read_jit(cache, key))
            except _PlanRefused as refused:
                _log.warning("the plan %s does not load: %s", cache.path(key).name, refused)
                cache.delete(key)
                if is_new:
                    raise EngineBuildError(
                        f"a new TensorRT plan for {wanted.model.name} does not load: {refused}"
                    ) from refused


class UninstalledPlan:
    """Plan that is built but not installed. It can be built anywhere, but opened only on its own GPU."""

    def __init__(self, model: Model, options: EngineOptions, architecture: str, progress: BuildProgress) -> None:
        """Builds the plan; `architecture` "" is this machine's GPU. Raises EngineUnavailable, EngineBuildError,
        ModelError.
        """
        library = open_library()
        self._gpu = None if architecture else Cuda().find_gpu()
        self._model, self._options = model, options
        self._wanted = plan_request(
            model, options, self._gpu.architecture if self._gpu else architecture, not architecture
        )
        self._key = self._wanted.key(library, self._gpu)
        self.plan = build_plan(library, self._wanted, progress)
        self.device = self._gpu.name if self._gpu else self._wanted.architecture
        self.precision = self._wanted.precision

    def open(self) -> InferenceEngine:
        """Opens it as an engine. Raises EngineRunError, and EngineUnavailable if the plan is for another GPU."""
        if self._gpu is None:
            raise EngineUnavailable(f"an engine for {self.device} cannot run on this GPU")
        try:
            return TensorRtEngine(self._model, self._gpu.name, self._options, self.plan)
        except _PlanRefused as refused:
            message = f"the new TensorRT plan for {self._model.name} does not load: {refused}"
            raise EngineBuildError(message) from refused

    def install(self, notes: Mapping[str, Any]) -> Path:
        """Installs it where `load` finds it. Raises CacheUnusable."""
        cache = EngineCache()
        with cache.locked(self._key):
            return cache.write(self._key, self.plan.content, {**self.plan.notes, **notes})


class _PlanRefused(Exception):
    """TensorRT rejects this plan, and a rebuild may fix that."""


class _Session:
    """State from loading to closing: runtime, engine, context, stream, buffers, and the graph if any."""

    def __init__(self, library: ModuleType, cuda: Cuda, plan: bytes, jit: bytes | None = None) -> None:
        """Loads the plan. Raises _PlanRefused, EngineUnavailable, EngineRunError."""
        self._cuda = cuda
        self._logger = make_logger(library)
        self._stream: Any = None
        self._buffers: Buffers | None = None
        self._graph: Graph | None = None
        self._context: Any = None
        self._jit_cache: Any = None
        with no_garbage():
            self._runtime = library.Runtime(self._logger)
        _check_validity(library, self._runtime, plan)
        self._engine = self._runtime.deserialize_cuda_engine(plan)
        if self._engine is None:
            raise self._why_refused()
        self.inputs, self.outputs = _tensor_specs(library, self._engine)
        try:
            self._context, self._jit_cache, self._records_itself = self._make_context(library, jit)
            self._stream = cuda.call("cudaStreamCreateWithFlags", cuda.flag("cudaStreamNonBlocking"))
            self._buffers = Buffers(cuda, self.inputs, self.outputs)
            self.arrays = self._buffers.arrays
            for name, address in self._buffers.addresses.items():
                if not self._context.set_tensor_address(name, address):
                    raise self._failure(f"TensorRT rejects the buffer of {name}")
        except BaseException:
            self.close()
            raise

    def warm_up(self) -> None:
        """Runs once, which compiles the kernels, then records a graph if possible. Raises EngineRunError."""
        self.run()
        if self._records_itself:
            return
        self._graph = Graph.record(self._cuda, self._stream, self._enqueue)
        try:
            self.run()
        except EngineRunError as error:
            if self._graph is None:
                raise
            _log.info("running without a CUDA graph: %s", error.message)
            self._graph.close()
            self._graph = None
            self.run()

    def run(self) -> None:
        """Runs once on the buffers. Raises EngineRunError."""
        if self._graph is not None:
            self._graph.launch(self._stream)
        else:
            self._enqueue()
        self._cuda.call("cudaStreamSynchronize", self._stream)

    def compiled(self) -> bytes | None:
        """Kernels that TensorRT for RTX compiled for this GPU, to reuse in the next session."""
        return bytes(self._jit_cache.serialize()) if self._jit_cache is not None else None

    def close(self) -> None:
        """Releases everything, newest first. A second call does nothing."""
        if self._graph is not None:
            self._graph.close()
        self._context = self._jit_cache = self._engine = self._runtime = self._graph = None
        if self._buffers is not None:
            self._buffers.close()
        if self._stream is not None:
            self._cuda.release("cudaStreamDestroy", self._stream)
        self._stream = self._buffers = None

    def _enqueue(self) -> None:
        assert self._buffers is not None
        self._buffers.upload(self._stream)
        if not self._context.execute_async_v3(int(self._stream)):
            raise self._failure("TensorRT did not run")
        self._buffers.download(self._stream)

    def _make_context(self, library: ModuleType, jit: bytes | None) -> tuple[Any, Any, bool]:
        """Execution context, its cache of compiled kernels, and whether it records CUDA graphs itself."""
        has_config = hasattr(self._engine, "create_runtime_config")
        config: Any = self._engine.create_runtime_config() if has_config else None
        records_itself = hasattr(config, "cuda_graph_strategy")
        if records_itself:
            config.cuda_graph_strategy = library.CudaGraphStrategy.WHOLE_GRAPH_CAPTURE
        jit_cache: Any = None
        if hasattr(config, "create_runtime_cache"):
            jit_cache = config.create_runtime_cache()
            if jit is not None and not jit_cache.deserialize(jit):
                _log.info("recompiling kernels that were built for another driver or GPU")
            config.set_runtime_cache(jit_cache)
        make = self._engine.create_execution_context
        context = make(runtime_config=config) if has_config else make()
        if context is None:
            raise self._failure("TensorRT cannot create an execution context")
        return context, jit_cache, records_itself

    def _why_refused(self) -> Exception:
        said = self._logger.last_error
        if "memory" in said.lower() or "cuda runtime" in said.lower():
            return self._failure("TensorRT could not load its plan")
        return _PlanRefused(said or "TensorRT gives no reason")

    def _failure(self, what: str) -> EngineRunError:
        said = self._logger.last_error
        hint = "close other programs that use the GPU" if "memory" in said.lower() else "the engine is reloaded"
        return EngineRunError(f"{what}: {said}" if said else what, hint)


def _build_into(
    cache: EngineCache, key: CacheKey, library: ModuleType, wanted: PlanRequest, progress: BuildProgress
) -> bytes:
    """Builds a plan, unless one exists or another process is building it."""

    def build() -> tuple[bytes, dict[str, Any]]:
        plan = build_plan(library, wanted, progress)
        return plan.content, plan.notes

    return cache.obtain(key, build, go_on=lambda: progress(0.0))


def _check_validity(library: ModuleType, runtime: Any, plan: bytes) -> None:
    """Checks the plan before loading, if the library can. Raises _PlanRefused, EngineUnavailable."""
    if not hasattr(runtime, "get_engine_validity"):
        return
    validity, complaints = runtime.get_engine_validity(plan)
    if validity == library.EngineValidity.SUBOPTIMAL:
        _log.info("TensorRT reports that the plan is not optimal for this GPU")
    if validity != library.EngineValidity.INVALID:
        return
    names = [
        name for name, flag in library.EngineInvalidityDiagnostics.__members__.items() if int(complaints) & int(flag)
    ]
    words = ", ".join(name.lower().replace("_", " ") for name in names) or "invalid"
    if names and not set(names) & set(_MENDED_BY_BUILDING):
        raise EngineUnavailable(f"TensorRT cannot use this GPU: {words}", "update the driver and free GPU memory")
    raise _PlanRefused(words)


def _tensor_specs(library: ModuleType, engine: Any) -> tuple[list[TensorSpec], list[TensorSpec]]:
    inputs: list[TensorSpec] = []
    outputs: list[TensorSpec] = []
    for at in range(engine.num_io_tensors):
        name = engine.get_tensor_name(at)
        kind = engine.get_tensor_dtype(name).name
        if kind not in TYPES:
            raise ContractMismatch(f"{name} is {kind} in the plan, which no array holds")
        spec = TensorSpec(name, tuple(int(size) for size in engine.get_tensor_shape(name)), TYPES[kind])
        (inputs if engine.get_tensor_mode(name) == library.TensorIOMode.INPUT else outputs).append(spec)
    return inputs, outputs


def _read_jit(cache: EngineCache, key: CacheKey) -> bytes | None:
    """Cached kernels. TensorRT checks them itself and rejects those of another machine."""
    try:
        return cache.read_beside(key, _JIT)
    except OSError:
        return None


def _keep_jit(cache: EngineCache, key: CacheKey, session: _Session) -> None:
    """Stores compiled kernels for the next start. Without them it only compiles again, so a failure is ignored."""
    compiled = session.compiled()
    if compiled is None or compiled == _read_jit(cache, key):
        return
    try:
        cache.write_beside(key, _JIT, compiled)
    except CacheUnusable as error:
        _log.warning("%s", error.message)
