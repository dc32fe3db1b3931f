"""What is told about a config of PaddleClas that this program follows differently."""

from __future__ import annotations

from pathlib import Path

from tests.config.test_paddleclas import loaded
from tests.config.test_peers import VEHICLE, config


def test_differences_are_told_once(tmp_path: Path) -> None:
    sampler = "{name: PKSampler, batch_size: 8, sample_per_id: 4, id_list: [0, 3], ratio: [2]}"
    optimizer = (
        "{name: Momentum, one_dim_param_no_weight_decay: True, lr: {name: Piecewise, learning_rate: 0.1, "
        "decay_epochs: [5], values: [0.1, 0.2]}}"
    )
    notes = loaded(tmp_path, config(sampler=sampler, optimizer=optimizer, losses="    - CELoss: {weight: 0.5}")).notes
    for text in (
        "begins at 0.1 and falls to a tenth every 30 epochs",
        "recall and mAP are means over the queries here",
        "Loss.Train.0.CELoss.weight: 0.5 counts here",
        "no_weight_decay_name beside it",
        "id_list: the numbers are labels",
    ):
        assert sum(text in note for note in notes) == 1, text
    assert len(notes) == 6
    twice = loaded(tmp_path, config(losses="    - CELoss: {weight: 1.0}\n    - CELoss: {weight: 2.0}")).notes
    assert len(twice) == 3 and "each CELoss counts here; in PaddleClas only the last" in twice[2]
    (border,) = loaded(tmp_path, config(ops="        - Pad: {padding: 4, padding_mode: reflect}")).notes[2:]
    assert "transform_ops.0.Pad.padding_mode: reflect counts here" in border
    mean = loaded(tmp_path, config(more="EMA: {decay: 0.999}")).notes
    assert len(mean) == 4 and "PaddleClas keeps 0.999 from the first step on" in mean[2]
    assert "evaluations measure the mean of the weights" in mean[3] and "best_model_ema" in mean[3]
    assert len(loaded(tmp_path, config(**VEHICLE)).notes) == 2


def test_what_is_not_read_is_told_in_one_line(tmp_path: Path) -> None:
    more = "Infer: {infer_imgs: a.jpg}\nIndexProcess: {image_root: ./gallery}\nprofiler_options: a=b\nPostProcess: {}"
    (note,) = [note for note in loaded(tmp_path, config(more=more)).notes if "without effect" in note]
    assert note.startswith("without effect here: Loss.Eval (evaluations measure Metric.Eval), Infer (`shitu extract`")
    assert "IndexProcess (`shitu index build`" in note and "profiler_options (train.log" in note
    assert "PostProcess" not in note
    notes = loaded(tmp_path, config(), "Loss.Eval=null", "Arch.Head=null", "Loss.Train=[TripletLossV2: {}]").notes
    assert [note for note in notes if "effect" in note] == [
        "Metric.Train has no effect: there is no Arch.Head, whose accuracy it would measure"
    ]


def test_of_two_weight_decays_the_regularizer_counts(tmp_path: Path) -> None:
    decay = "weight_decay: 0.1, regularizer: {name: L2, coeff: 0.2}"
    text = config(optimizer=f"{{name: AdamW, {decay}, lr: {{name: Constant, learning_rate: 0.1}}}}")
    told = [note for note in loaded(tmp_path, text).notes if "weight_decay" in note]
    assert told == ["Optimizer.regularizer replaces Optimizer.weight_decay, as in PaddleClas: one of them is enough"]
