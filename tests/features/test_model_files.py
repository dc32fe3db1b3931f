"""Model files of strangers: what is more than a network is refused before a library sees it; what is damaged too."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import onnx
import pytest

from shitu_cli.errors import DataError
from shitu_cli.features.backends import MODEL_FILES
from shitu_cli.features.model_files import check_model_files
from tests.mutations import at_least, mutations

# The old program is a message of paddle/fluid/framework/framework.proto; Paddle brings the classes for it.
from paddle.base.proto import framework_pb2  # isort: skip

BLOCK, BOOLEANS = 8, 7


@pytest.fixture
def folder(exported: Path, tmp_path: Path) -> Path:
    for name in (*MODEL_FILES, "inference.pdiparams"):
        shutil.copy(exported / name, tmp_path / name)
    return tmp_path


@pytest.mark.parametrize("name", MODEL_FILES)
def test_what_export_writes_is_let_through(folder: Path, name: str) -> None:
    check_model_files(folder / name)


# Each changes a program; the words are those of the refusal.
def _writes_a_file(program: Any) -> None:
    step = program.blocks[0].ops.add(type="save")
    step.inputs.add(parameter="X", arguments=[program.blocks[0].ops[-2].outputs[0].arguments[0]])
    step.attrs.add(name="file_path", type=2, s="owned")


def _type_of(name: str) -> Callable[[Any], None]:
    def change(program: Any) -> None:
        program.blocks[0].ops[3].type = name

    return change


def _two_blocks(program: Any) -> None:
    program.blocks.add(idx=1, parent_idx=0)


def _inner_block(program: Any) -> None:
    program.blocks[0].ops[3].attrs.add(name="sub_block", type=BLOCK, block_idx=0)


def _numbers_of(step: str, attribute: str, *values: int) -> Callable[[Any], None]:
    def change(program: Any) -> None:
        found = next(op for op in program.blocks[0].ops if op.type == step)
        entry = next(item for item in found.attrs if item.name == attribute)
        if entry.ints:
            entry.ints[:] = values
        else:
            entry.i = values[0]

    return change


def _unknown_input(program: Any) -> None:
    program.blocks[0].ops[3].inputs[0].arguments[0] = "nothing"


def _unknown_output(program: Any) -> None:
    program.blocks[0].ops[3].outputs[0].arguments[0] = "nothing"


def _itself(program: Any) -> None:
    step = program.blocks[0].ops[3]
    step.inputs[0].arguments[0] = step.outputs[0].arguments[0]


def _missing_argument(program: Any) -> None:
    step = next(op for op in program.blocks[0].ops if op.type == "batch_norm")
    next(item for item in step.inputs if item.parameter == "Scale").parameter = "Scble"


def _weights(program: Any) -> Any:
    return next(item for item in program.blocks[0].vars if item.name.startswith("conv2d") and item.persistable)


def _huge_weights(program: Any) -> None:
    _weights(program).type.dense_tensor.tensor.dims[0] = 1 << 40


def _other_weights(program: Any) -> None:
    _weights(program).type.dense_tensor.tensor.dims[0] += 1


def _fewer_weights(program: Any) -> None:
    program.blocks[0].vars.remove(_weights(program))


def _reader(program: Any) -> None:
    program.blocks[0].vars.add(name="reader").type.type = 15


def _no_steps(program: Any) -> None:
    del program.blocks[0].ops[:]


PDMODEL: dict[str, tuple[Callable[[Any], None], str]] = {
    "writes a file": (_writes_a_file, "operators that no network for features needs: 'save'"),
    "reads a file": (_type_of("load_combine"), "'load_combine'"),
    "runs Python": (_type_of("py_func"), "'py_func'"),
    "loops": (_type_of("while"), "'while'"),
    "prints": (_type_of("print"), "'print'"),
    "talks to other machines": (_type_of("c_broadcast"), "'c_broadcast'"),
    "an operator of its own": (_type_of("custom\x1b]0;"), "'custom"),
    "two blocks": (_two_blocks, "2 blocks"),
    "a block in a step": (_inner_block, "contains a program"),
    "groups of zero": (_numbers_of("conv2d", "groups", 0), "conv2d has groups"),
    "strides of zero": (_numbers_of("conv2d", "strides", 0, 0), "conv2d has strides"),
    "huge dilations": (_numbers_of("conv2d", "dilations", 2**31 - 1, 1), "conv2d has dilations"),
    "negative paddings": (_numbers_of("conv2d", "paddings", -9, 0), "conv2d has paddings"),
    "windows of zero": (_numbers_of("pool2d", "ksize", 0, 0), "pool2d has ksize"),
    "an input that is nowhere": (_unknown_input, "'nothing', which nothing before it gives"),
    "an output that is not declared": (_unknown_output, "'nothing', which is not declared"),
    "a step that needs itself": (_itself, "which nothing before it gives"),
    "a missing argument": (_missing_argument, "lacks its Scale"),
    "huge weights": (_huge_weights, "of the shape"),
    "weights of another shape": (_other_weights, "the program says"),
    "fewer weights": (_fewer_weights, "nothing before it gives"),
    "a reader": (_reader, "another kind than tensors"),
    "no steps": (_no_steps, "no steps"),
}


@pytest.mark.parametrize("name", PDMODEL)
def test_hostile_pdmodels_are_refused(folder: Path, name: str) -> None:
    change, reason = PDMODEL[name]
    file = folder / "inference.pdmodel"
    program = framework_pb2.ProgramDesc.FromString(file.read_bytes())
    change(program)
    file.write_bytes(program.SerializeToString())
    with pytest.raises(DataError, match=reason) as caught:
        check_model_files(file)
    assert str(file.with_suffix("")) in caught.value.message and "trust" in str(caught.value.hint)


def _ops(values: dict[str, Any]) -> list[Any]:
    return values["program"]["regions"][0]["blocks"][0]["ops"]


def _step(values: dict[str, Any], name: str) -> dict[str, Any]:
    return next(step for step in _ops(values) if step["#"] == name)


def _attribute(step: dict[str, Any], name: str) -> dict[str, Any]:
    return next(item for item in step["A"] if item["N"] == name)["AT"]


def _named(name: str) -> Callable[[dict[str, Any]], object]:
    return lambda values: _step(values, "1.relu").update({"#": name})


PIR: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "writes a file": (_named("1.save_combine"), "'1.save_combine'"),
    "reads a file": (_named("1.load_combine"), "'1.load_combine'"),
    "runs Python": (_named("1.py_func"), "'1.py_func'"),
    "loops": (_named("3.while"), "'3.while'"),
    "an operator of its own": (_named("5.mine"), "'5.mine'"),
    "a program in a step": (lambda v: _step(v, "1.relu").update(regions=[]), "contains a program"),
    "two blocks": (lambda v: v["program"]["regions"][0]["blocks"].append({}), "several blocks"),
    "no regions": (lambda v: v["program"].pop("regions"), "several blocks of steps or none"),
    "arguments": (lambda v: v["program"]["regions"][0]["blocks"][0].update(args=[1]), "arguments"),
    "another magic": (lambda v: v["base_code"].update(magic="x"), "not a program of Paddle"),
    "groups of zero": (lambda v: _attribute(_step(v, "1.conv2d"), "groups").update(D=0), "conv2d has groups"),
    "strides of zero": (lambda v: _attribute(_step(v, "1.conv2d"), "strides")["D"][0].update(D=0), "has strides"),
    "a huge shape": (lambda v: _attribute(_step(v, "1.full"), "shape").update(D=[2**20, 2**20]), "full has the shape"),
    "an input that is nowhere": (lambda v: _step(v, "1.conv2d")["I"][0].update({"%": 9999}), "'9999', which nothing"),
    "a number as name": (lambda v: _step(v, "1.relu").update({"#": 1}), "found int where str"),
    "weights without name": (lambda v: _step(v, "p").update(A=[]), "no name or no shape"),
    "weights of another shape": (lambda v: _step(v, "p")["O"]["TT"]["D"][1].append(3), "the program says"),
    "weights without type": (lambda v: _step(v, "p")["O"].pop("TT"), "no name or no shape"),
    "steps that are a table": (lambda v: v["program"]["regions"][0]["blocks"][0].update(ops={}), "expected"),
}


@pytest.mark.parametrize("name", PIR)
def test_hostile_json_programs_are_refused(folder: Path, name: str) -> None:
    change, reason = PIR[name]
    file = folder / "inference.json"
    values = json.loads(file.read_text())
    change(values)
    file.write_text(json.dumps(values))
    with pytest.raises(DataError, match=reason) as caught:
        check_model_files(file)
    assert str(file.with_suffix("")) in caught.value.message


def _first_weights(model: Any) -> Any:
    return model.graph.initializer[0]


def _external(model: Any) -> None:
    tensor = _first_weights(model)
    tensor.data_location = 1
    tensor.external_data.add(key="location", value="../../../etc/passwd")


def _node(model: Any, **changes: Any) -> None:
    for key, value in changes.items():
        setattr(model.graph.node[1], key, value)


def _subgraph(model: Any) -> None:
    model.graph.node[1].attribute.append(onnx.helper.make_attribute("body", model.graph))


def _external_constant(model: Any) -> None:
    tensor = onnx.helper.make_tensor("value", 1, [1], [0.0])
    tensor.data_location = 1
    model.graph.node[1].attribute.append(onnx.helper.make_attribute("value", tensor))


def _whole(model: Any, step: str, attribute: str, values: list[int]) -> None:
    found = next(node for node in model.graph.node if node.op_type == step)
    entry = next(item for item in found.attribute if item.name == attribute)
    entry.ints[:] = values


ONNX: dict[str, tuple[Callable[[Any], object], str]] = {
    "weights in another file": (_external, "its weights are in another file"),
    "a constant in another file": (_external_constant, "its weights are in another file"),
    "an operator of another domain": (lambda m: _node(m, domain="com.evil"), "of the domain 'com.evil'"),
    "another domain": (lambda m: m.opset_import.add(domain="com.evil", version=1), "the domain 'com.evil'"),
    "a loop": (lambda m: _node(m, op_type="Loop"), "'Loop'"),
    "random numbers": (lambda m: _node(m, op_type="RandomNormal"), "'RandomNormal'"),
    "a graph in a step": (_subgraph, "contains a graph"),
    "a function": (lambda m: m.functions.add(name="f"), "functions or a training"),
    "a training": (lambda m: m.training_info.add(), "functions or a training"),
    "sparse weights": (lambda m: m.graph.sparse_initializer.add(), "sparse weights"),
    "huge weights": (lambda m: _first_weights(m).dims.__setitem__(0, 1 << 45), "damaged"),
    "weights of another size": (lambda m: _first_weights(m).dims.append(2), "bytes for the shape"),
    "weights of no type": (lambda m: setattr(_first_weights(m), "data_type", 99), "of an unknown type"),
    "an input that is nowhere": (lambda m: m.graph.node[1].input.append("nothing"), "'nothing', which nothing"),
    "strides of zero": (lambda m: _whole(m, "Conv", "strides", [0, 0]), "Conv has strides"),
    "no graph": (lambda m: m.ClearField("graph"), "0 graphs"),
}


@pytest.mark.parametrize("name", ONNX)
def test_hostile_onnx_files_are_refused(folder: Path, name: str) -> None:
    change, reason = ONNX[name]
    file = folder / "inference.onnx"
    model = onnx.load_from_string(file.read_bytes())
    change(model)
    file.write_bytes(model.SerializeToString())
    with pytest.raises(DataError, match=reason):
        check_model_files(file)


@pytest.mark.fuzz
@pytest.mark.parametrize("name", [*MODEL_FILES, "inference.pdiparams"])
def test_damaged_files_are_let_through_or_refused(folder: Path, name: str) -> None:
    """Only DataError leaves the check itself, whatever the bytes are."""
    file, model = folder / name, folder / (name if name in MODEL_FILES else "inference.pdmodel")
    for data in mutations(file.read_bytes(), at_least(60)):
        file.write_bytes(data)
        try:
            check_model_files(model)
        except DataError as error:
            assert str(folder) in error.message


_CHILD = """
import sys, numpy
from pathlib import Path
from shitu_cli.errors import ShituError
from shitu_cli.features.backends import ways_of
for folder in sys.argv[1:]:
    for name in ("inference.pdmodel", "inference.json", "inference.onnx"):
        for way in ways_of(Path(folder, name)):
            if way.missing() is None and way.precision == "fp32":
                try:
                    way.open(Path(folder), threads=1)(numpy.zeros((1, 3, 32, 32), numpy.float32))
                except ShituError:
                    pass
print("all of them")
"""


def _damaged_folders(exported: Path, root: Path, count: int) -> Iterator[Path]:
    for name in (*MODEL_FILES, "inference.pdiparams"):
        for number, data in enumerate(mutations((exported / name).read_bytes(), count, seed=1)):
            folder = root / f"{name}_{number}"
            folder.mkdir()
            for other in (*MODEL_FILES, "inference.pdiparams"):
                os.link(exported / other, folder / other) if other != name else (folder / name).write_bytes(data)
            yield folder


@pytest.mark.slow
def test_damaged_files_crash_no_library(exported: Path, tmp_path: Path) -> None:
    """One process loads and runs them all, and lives."""
    folders = [str(folder) for folder in _damaged_folders(exported, tmp_path, 12)]
    done = subprocess.run([sys.executable, "-c", _CHILD, *folders], capture_output=True, text=True)
    assert (done.returncode, done.stdout.strip().splitlines()[-1:]) == (0, ["all of them"]), done.stderr[-2000:]
