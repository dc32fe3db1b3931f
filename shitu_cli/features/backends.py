"""The programs that run a model file: Paddle Inference, ONNX Runtime, OpenVINO; and the ways to run one with them.

A way is a file, a program and a precision. Which ways are correct and how fast they are is measured when a model is
exported (deployment/prove.py); this module says which of them a machine has. Weights stay float32 in the files:
bfloat16 is only the precision of the computation.
"""

from __future__ import annotations

import importlib.util
import os
import queue
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from shitu_cli.errors import Command, DataError, EnvironmentProblem, Message, ShituError
from shitu_cli.features.exact import Run, in_groups, side_by_side
from shitu_cli.features.model_files import FEATURES, Kind, check_model_files
from shitu_cli.runtime.arithmetic import kept_threads
from shitu_cli.runtime.setup import setup_paddle
from shitu_cli.runtime.threads import compute_threads

PADDLE, ONNX_RUNTIME, OPENVINO = "Paddle Inference", "ONNX Runtime", "OpenVINO"
PROGRAMS = (PADDLE, ONNX_RUNTIME, OPENVINO)
FP32, BF16 = "fp32", "bf16"
PRECISIONS = (FP32, BF16)
# Images that OpenVINO holds for each of its threads: one that it computes and one that it goes on with at once. Until
# we hand it the next one, a thread would have nothing to do for a tenth of the time.
QUEUED = 2
MODEL_FILES = ("inference.pdmodel", "inference.json", "inference.onnx")
# Paddle Inference computes a .pdmodel in bfloat16 wrongly and says nothing: it loses the factor of dropout (features
# come out 1.25 times too long). So that is not among the ways.
_BY_SUFFIX = {
    ".pdmodel": ((PADDLE, FP32), (OPENVINO, FP32), (OPENVINO, BF16)),
    ".json": ((PADDLE, FP32), (PADDLE, BF16)),
    ".onnx": ((ONNX_RUNTIME, FP32), (OPENVINO, FP32), (OPENVINO, BF16)),
}
EXPORT_AGAIN: Message = ["export it again: ", Command("export", "--out", "inference/")]
# What the libraries say when the machine lacks memory.
_OUT_OF_MEMORY = ("ResourceExhausted", "bad_alloc", "Failed to allocate memory", "Cannot allocate memory")
_NO_THREADS = ("pthread_create", "can't start new thread", "Resource temporarily unavailable", "thread constructor")
_OPENVINO_STARTS = threading.Lock()
_PACKAGES = {PADDLE: "paddle", ONNX_RUNTIME: "onnxruntime", OPENVINO: "openvino"}
_INSTALL = {PADDLE: "paddlepaddle", ONNX_RUNTIME: "onnxruntime", OPENVINO: "openvino"}


@dataclass(frozen=True)
class Way:
    """`file` is a name inside the model's directory."""

    file: str
    program: str
    precision: str = FP32

    def __str__(self) -> str:
        return self.program if self.precision == FP32 else f"{self.program} in bfloat16"

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Way:
        """Return the way that a row of a proof measured; rows of older manifests name only the file."""
        file = str(row["file"])
        return cls(file, row.get("program") or first_program(file), row.get("precision", FP32))

    def missing(self) -> str | None:
        """Return what this machine lacks for it; None if nothing."""
        if not is_installed(self.program):
            return f"{self.program} is not installed (pip install {_INSTALL[self.program]})"
        if self.precision == BF16 and not cpu_has_bf16():
            return "this CPU does not compute in bfloat16 (it has neither avx512_bf16 nor amx_bf16)"
        return None

    @property
    def side_by_side(self) -> bool:
        """Whether threads that compute an image each do not wait for each other."""
        return self.program != PADDLE

    def open(self, folder: Path, *, threads: int | None = None, gpu: int | None = None) -> Run:
        """Load the file, to compute each image's features as if it were alone (see exact.py) unless on a GPU.

        Raises DataError when it is damaged, EnvironmentProblem when the machine cannot run it so.
        """
        lack = self.missing()
        if lack is not None:
            raise EnvironmentProblem(f"{self}: {lack}", hint="--precision fp32" if self.precision == BF16 else None)
        file, bf16 = folder / self.file, self.precision == BF16
        if gpu is not None:
            return _checking(paddle_predictor(file, threads=1, gpu=gpu), file)
        count = threads or compute_threads()
        if self.program == PADDLE:
            run = in_groups(lambda n: paddle_predictor(file, threads=n, bf16=bf16), count)
        elif self.program == ONNX_RUNTIME:
            run = side_by_side(onnx_session(file), count)
        else:
            run = side_by_side(openvino_model(file, streams=count, bf16=bf16), count * QUEUED)
        return _checking(run, file)


def is_exported(path: Path) -> bool:
    """Return whether a path means an exported model, its directory or its file, rather than a checkpoint."""
    return path.is_dir() or path.suffix in _BY_SUFFIX


def first_program(file: str) -> str:
    """Return the program that a file was written for."""
    return _BY_SUFFIX[Path(file).suffix][0][0]


def ways_of(file: Path) -> list[Way]:
    """Return the ways to run one file, whether this machine has them or not."""
    return [Way(file.name, program, precision) for program, precision in _BY_SUFFIX[file.suffix]]


def ways_in(folder: Path) -> list[Way]:
    """Return the ways to run the model of a directory on this machine.

    OpenVINO reads ONNX if there is one: it computes the same from inference.pdmodel, at the same speed.
    """
    there = [folder / name for name in MODEL_FILES if (folder / name).is_file()]
    both = {".pdmodel", ".onnx"} <= {file.suffix for file in there}
    ways = [way for file in there for way in ways_of(file) if way.missing() is None]
    return [way for way in ways if not (both and way.program == OPENVINO and way.file.endswith(".pdmodel"))]


def is_installed(program: str) -> bool:
    return importlib.util.find_spec(_PACKAGES[program]) is not None


@lru_cache(maxsize=2)
def cpu_has_bf16(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Return whether the CPU multiplies bfloat16 itself; others imitate it, slower than float32."""
    try:
        text = cpuinfo.read_text(encoding="utf-8")
    except OSError:  # not Linux
        return False
    flags = next((line.split() for line in text.splitlines() if line.startswith("flags")), [])
    return bool({"avx512_bf16", "amx_bf16"} & set(flags))


# Passes over `inference.pdmodel` for networks of text and of click prediction. They find nothing in a network for
# images, and two of them end the process in a transformer: seqpool_cvm where it joins its class token, repeated_fc_relu
# where it pools by attention.
PASSES_FOR_OTHER_NETWORKS = (
    "attention_lstm_fuse_pass",
    "seqconv_eltadd_relu_fuse_pass",
    "seqpool_cvm_concat_fuse_pass",
    "mul_lstm_fuse_pass",
    "fc_gru_fuse_pass",
    "mul_gru_fuse_pass",
    "seq_concat_fc_fuse_pass",
    "repeated_fc_relu_fuse_pass",
)


def paddle_predictor(model_file: Path, *, threads: int, bf16: bool = False, gpu: int | None = None) -> Run:
    """Open Paddle Inference over `inference.pdmodel` or `inference.json` with the parameters beside it.

    Raises DataError when the files are missing or damaged.
    """
    predictor = create_predictor(model_file, threads=threads, bf16=bf16, gpu=gpu)
    source = predictor.get_input_handle(predictor.get_input_names()[0])
    result = predictor.get_output_handle(predictor.get_output_names()[0])
    computing = threading.Lock()  # a predictor has one input and one output

    def run(images: np.ndarray) -> np.ndarray:
        with computing:
            source.copy_from_cpu(np.ascontiguousarray(images))
            with kept_threads():
                predictor.run()
            return np.asarray(result.copy_to_cpu())

    return run


def create_predictor(
    model_file: Path, *, threads: int, bf16: bool = False, gpu: int | None = None, kind: Kind = FEATURES
) -> Any:
    """Return Paddle's own object for a model file; `kind` says which operators are let through. Raises DataError."""
    assert not (bf16 and model_file.suffix == ".pdmodel"), "wrong features, see above"
    check_model_files(model_file, kind)
    if "paddle" not in sys.modules:  # else its threads and device are chosen already, perhaps for a running training
        setup_paddle("cpu" if gpu is None else f"gpu:{gpu}")
    from paddle import inference

    settings = inference.Config(str(model_file), str(model_file.with_suffix(".pdiparams")))
    settings.disable_glog_info()
    if gpu is None:
        settings.set_cpu_math_library_num_threads(threads)
        settings.enable_mkldnn()
    else:
        settings.enable_use_gpu(256, gpu)
    if model_file.suffix == ".pdmodel":
        for name in PASSES_FOR_OTHER_NETWORKS:
            settings.delete_pass(name)
    if model_file.suffix == ".json":
        # Without these, memory optimisation looks for a pass that the new format does not have.
        settings.enable_new_ir(True)
        settings.enable_new_executor(True)
        if bf16:
            settings.enable_mkldnn_bfloat16()
    try:
        with kept_threads():
            return inference.create_predictor(settings)
    except (RuntimeError, ValueError, OSError) as error:
        raise damaged(model_file, error) from None


def onnx_session(model_file: Path) -> Run:
    """Open ONNX Runtime over a file, on the thread that calls it; several may at once.

    Raises DataError when it cannot be loaded.
    """
    session = create_session(model_file)
    name = session.get_inputs()[0].name

    def run(images: np.ndarray) -> np.ndarray:
        return np.asarray(session.run(None, {name: np.ascontiguousarray(images)})[0])

    return run


def create_session(model_file: Path, kind: Kind = FEATURES) -> Any:
    """Return ONNX Runtime's own object for a file; `kind` says which operators are let through. Raises DataError."""
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # else it reports its use to its maker
    import onnxruntime

    check_model_files(model_file, kind)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(str(model_file), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime has no common base for its errors
        raise damaged(model_file, error) from None


@cache
def _openvino_core() -> Any:
    """Return the core of OpenVINO, one for the whole process; call it with `_OPENVINO_STARTS` held.

    On some CPUs a core gives the thread that creates it another stack for signals, and takes that away when it goes. Of
    two cores the last one then leaves a stack that no longer exists, and the next signal, such as Ctrl-C, is a crash.
    """
    import openvino

    core = openvino.Core()
    # It looks up numpy at the first array that it gets. Two threads that give it one at that moment wait for each other
    # forever: one holds Python's lock, the other that of the look-up.
    openvino.Tensor(np.zeros(1, np.float32))
    return core


def openvino_model(model_file: Path, *, streams: int = 1, bf16: bool = False) -> Run:
    """Open OpenVINO over `inference.onnx` or `inference.pdmodel`, each image on one of `streams` threads.

    Raises DataError when it cannot be loaded.
    """
    import openvino

    check_model_files(model_file)
    settings = {
        "INFERENCE_PRECISION_HINT": "bf16" if bf16 else "f32",  # left alone, it takes bfloat16 if the CPU has it
        "INFERENCE_NUM_THREADS": streams,
        "NUM_STREAMS": streams,
        # Pinned threads of several processes would share one core.
        "ENABLE_CPU_PINNING": False,
    }
    with _OPENVINO_STARTS:
        core = _openvino_core()
    try:
        model = core.compile_model(str(model_file), "CPU", settings)
    except RuntimeError as error:
        raise damaged(model_file, error) from None
    idle: queue.SimpleQueue[Any] = queue.SimpleQueue()
    for _ in range(streams * QUEUED):
        idle.put(model.create_infer_request())

    def run(images: np.ndarray) -> np.ndarray:
        request = idle.get()
        try:
            return infer(request, images)
        finally:
            idle.put(request)

    def infer(request: Any, images: np.ndarray) -> np.ndarray:
        # By single calls, as `request.infer(images)` takes twice the time in Python.
        inputs = np.require(images, np.float32, ["C", "W"])  # read-only memory is refused
        request.set_input_tensor(openvino.Tensor(inputs, shared_memory=True))
        request.start_async()
        request.wait()
        return np.array(request.get_output_tensor(0).data, np.float32)

    return run


def _checking(run: Run, file: Path) -> Run:
    """Return `run` with errors of our own, and a look at what it gives: a loaded model may still compute nonsense."""

    def checked(images: np.ndarray) -> np.ndarray:
        try:
            features = run(images)
        except Exception as error:  # each library raises its own classes
            raise damaged(file, error, "cannot be run") from None
        if features.ndim != 2 or len(features) != len(images):
            shape = "x".join(map(str, features.shape))
            raise DataError(
                f"{file} gives {shape} numbers for {len(images)} images, not a row of features for each",
                hint=EXPORT_AGAIN,
            )
        return features

    return checked


def damaged(file: Path, error: Exception, what: str = "cannot be loaded", hint: Message = EXPORT_AGAIN) -> ShituError:
    """Return the error for what a library says of a model file: the machine lacks something, or it is damaged."""
    reason = _first_line(error)
    if isinstance(error, MemoryError) or any(sign in str(error) for sign in _OUT_OF_MEMORY):
        return EnvironmentProblem(f"not enough memory for {file}: {reason}", hint="close other programs")
    if any(sign in str(error) for sign in _NO_THREADS):
        return EnvironmentProblem(
            f"the system refuses to start threads for {file}: {reason}", hint="raise the limit: ulimit -u"
        )
    return DataError(f"{file} {what}: {reason}", hint=hint)


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines()]
    lines = [line for line in lines if line and not line.startswith("Exception from ")]  # where OpenVINO raised it
    errors = [line for line in lines if "Error" in line and not line.startswith(("C++", "Error Message", "---"))]
    return (errors or lines or [type(error).__name__])[0][:200]
