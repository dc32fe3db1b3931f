"""One training run from a config to its checkpoints: what `shitu train` does in each process."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from shitu_cli.boundary import place_to_write
from shitu_cli.config.schema import Config, DistillationConfig
from shitu_cli.errors import Command, DataError, Message, UsageError
from shitu_cli.processes.collectives import Ranks
from shitu_cli.reporting import Reporter, counted
from shitu_cli.runtime.arithmetic import current_threads
from shitu_cli.training.accuracy import accuracy_remarks
from shitu_cli.training.build import Training, build_training
from shitu_cli.training.checkpoint import GENERATIONS, LATEST, Checkpoint, has_checkpoint, load_checkpoint
from shitu_cli.training.earlier import settle
from shitu_cli.training.fingerprint import compare_runs, keys_at_default, refuse
from shitu_cli.training.log import RunLog
from shitu_cli.training.online import OnlineEvaluation
from shitu_cli.training.options import TrainOptions, TrainResult
from shitu_cli.training.paddleclas_checkpoint import is_of_paddleclas, new_run_from, read_checkpoint
from shitu_cli.training.precision import precision_remarks
from shitu_cli.training.start import Start, starts_trained
from shitu_cli.training.trainer import Trainer

Lock = Callable[[str], AbstractContextManager[None]]


def run_training(
    config: Config,
    *,
    device: str,
    ranks: Ranks,
    reporter: Reporter,
    options: TrainOptions,
    resume: bool = False,
    init_from: Path | None = None,
    lock: Lock = lambda name: nullcontext(),
) -> TrainResult | None:
    """Train and return the result, None on other ranks; `device` is what setup_paddle returned.

    A new run starts from `init_from`, or from what the config names; with `resume`, the last one continues. Raises
    UsageError for both at once and if there is nothing to resume, and the errors of `build_training`.
    """
    if resume and init_from is not None:
        raise UsageError("--resume and --init-from contradict each other", hint="give one of them")
    output = Path(config.Global.output_dir)
    saved = _checkpoint_to_resume(config, output, resume=resume, init_from=init_from)
    with lock("train") if ranks.is_main else nullcontext():
        if ranks.is_main:
            place_to_write(output / GENERATIONS)  # raises now, not after the first epoch
            settle(output)
        ranks.gather(None)  # the others look into the directory from here on
        if saved is not None and not has_checkpoint(saved):
            raise _nothing_to_resume(saved, named=bool(config.Global.checkpoints))
        name, _, reason = device.partition(":")
        training = build_training(
            config,
            device=name,
            ranks=ranks,
            threads=current_threads(),
            reporter=reporter,
            init_from=init_from,
            resuming=saved is not None,
        )
        log = _open_log(output, ranks, config)
        try:
            online = _evaluation(training, reporter)
            start = None if saved is not None else Start(training, online, is_trained=starts_trained(config, init_from))
            evaluate = online if config.evaluates else None
            trainer = Trainer(training, log, reporter, evaluate=evaluate, start=start, options=options)
            _introduce(training, f"{name}:{reason}", log, reporter)
            if saved is not None:
                _resume(trainer, saved, log, reporter)
                _warn_of_no_effect(trainer, options, reporter)
            result = trainer.run()
            log.line(f"{'interrupted' if result.interrupted else 'finished'} after epoch {result.epochs_done}")
        except BaseException as error:
            log.line(f"ended by {type(error).__name__}: {error}")
            raise
        finally:
            log.close()
    return result if ranks.is_main else None


def _checkpoint_to_resume(config: Config, output: Path, *, resume: bool, init_from: Path | None) -> Path | None:
    """Return the prefix of the checkpoint that the run continues, None for a new run."""
    if resume:
        return output / LATEST
    if config.Global.checkpoints and init_from is None:  # PaddleClas's way to say --resume
        return Path(config.Global.checkpoints)
    return None


def _introduce(training: Training, device: str, log: RunLog, reporter: Reporter) -> None:
    """Tell the user what is trained, and what deserves attention before it begins."""
    for line in _header(training, device):
        log.tell(reporter, line)
    remarks = precision_remarks(training.config, training.device)
    remarks += accuracy_remarks(training.config, training.model.head)
    for text in (*remarks, *training.remarks):
        log.tell(reporter, text, warning=True)


def _warn_of_no_effect(trainer: Trainer, options: TrainOptions, reporter: Reporter) -> None:
    """Warn if a resumed run has nothing to do, and of an option that is for new runs."""
    if options.keep_earlier is not None:
        reporter.warn("--keep-earlier has no effect with --resume: a new run removes earlier models")
    if trainer.is_done and not trainer.state.evaluation_due:
        reporter.warn(_nothing_to_do(trainer.state.epoch, trainer.training.config))


def _open_log(output: Path, ranks: Ranks, config: Config) -> RunLog:
    """Return the log of this process; the first process also writes metrics.jsonl for programs."""
    if not ranks.is_main:
        return RunLog(output / f"train.rank{ranks.rank}.log", None)
    return RunLog(
        output / "train.log", output / "metrics.jsonl", output / "vdl" if config.Global.use_visualdl else None
    )


def _nothing_to_resume(prefix: Path, *, named: bool) -> UsageError:
    """Return the error for a missing checkpoint, which Global.checkpoints has `named`, or --resume expects."""
    text = f"nothing to resume: no checkpoint at {prefix}.*"
    above = prefix.parent.with_name(prefix.name)  # PaddleClas saves into a folder named after the model
    if named and has_checkpoint(above):
        return UsageError(text, hint=["it is here: ", Command("train", "-o", f"Global.checkpoints={above}")])
    words = ["-o", "Global.checkpoints=null"] if named else []
    return UsageError(text, hint=["start a new run: ", Command("train", *words, without=("--resume",))])


def _resume(trainer: Trainer, prefix: Path, log: RunLog, reporter: Reporter) -> None:
    """Load the last checkpoint and say what differs from the run that wrote it."""
    if is_of_paddleclas(prefix):
        saved = read_checkpoint(prefix, trainer.training)
        for note in saved.notes:
            log.tell(reporter, note, warning=True)
        _restore(trainer, saved, prefix, elsewhere=True, hint=new_run_from(prefix))
        return
    saved = load_checkpoint(prefix)
    if saved.run.get("frozen"):
        raise UsageError(
            f"{prefix} was made by --frozen, in one step: there is nothing to continue",
            hint=[
                "to train the whole network from it: ",
                Command("train", "--init-from", prefix, without=("--resume",)),
            ],
        )
    training = trainer.training
    now = {**training.run, "steps_per_epoch": training.steps_per_epoch}
    comparison = compare_runs(
        saved.run, now, mid_epoch=saved.state.step_in_epoch > 0, defaults=keys_at_default(training.config)
    )
    refuse(comparison, prefix)
    for note in (*saved.notes, *(f"changed since: {text}" for text in comparison.listed)):
        log.tell(reporter, note, warning=True)
    elsewhere = prefix.resolve() != (training.output / LATEST).resolve()
    hint: Message = ["start a new run from its weights: ", Command("train", "--init-from", prefix)]
    _restore(trainer, saved, prefix, elsewhere=elsewhere, hint=hint)
    state = trainer.state
    exact = "" if comparison.listed else ", exactly as without the interruption"
    log.tell(reporter, f"continuing at epoch {state.epoch + 1}, batch {state.step_in_epoch + 1}{exact}")
    log.record("resume", epoch=state.epoch, step=state.global_step, changes=comparison.listed)


def _restore(trainer: Trainer, saved: Checkpoint, prefix: Path, *, elsewhere: bool, hint: Message) -> None:
    """Set a run to the state of the checkpoint at `prefix`; DataError with this hint if it does not fit."""
    try:
        trainer.resume(saved, elsewhere=elsewhere)
    except DataError as problem:
        text = f"training cannot continue from {prefix}: {problem.message}"
        raise DataError(text, details=problem.details, hint=hint) from None


def _nothing_to_do(epochs: int, config: Config) -> str:
    done = f"nothing to do: {counted(epochs, 'epoch is', 'epochs are')} done"
    if epochs >= config.Global.epochs:
        return f"{done} of {config.Global.epochs} (--epochs sets more)"
    patience = config.Global.early_stop
    return f"{done}, and the last {patience} evaluations did not improve (-o Global.early_stop=null trains on anyway)"


def _header(training: Training, device: str) -> list[str]:
    """Return lines that say what is trained on which images, where and for how long."""
    config, ranks = training.config, training.ranks
    values = sum(int(parameter.size) for _, parameter in training.optimizer.parameters) + training.shards.elsewhere
    arch = config.Arch
    parts = [arch.backbone.name, *(part.name for part in (arch.neck, arch.head) if part is not None)]
    losses = " + ".join(item.name for item in config.Loss)
    batch = f"{training.batch_size}" + (f" x {ranks.world} processes" if ranks.world > 1 else "")
    steps = f"{training.steps_per_epoch:,} per epoch"
    left_out = len(training.dataset) - training.steps_per_epoch * training.batch_size * ranks.world
    if left_out > 0:
        steps += f" (without {counted(left_out, 'image')}, others each time: a batch must be full)"
    return [
        f"{counted(len(training.dataset), 'image')} of {counted(training.dataset.class_num, 'class', 'classes')} "
        f"in batches of {batch}: {steps}, {counted(config.Global.epochs, 'epoch')}",
        f"{' → '.join(parts)}, {losses}, {values / 1e6:.2f} M parameters, on {device}",
        *([] if training.unlabelled is None else [training.unlabelled.described(training.batch_size)]),
        *([] if config.Distillation is None else [_company(config.Distillation)]),
        *([training.shards.reason] if training.shards.reason else []),
        f"log: {training.output / 'train.log'}",
    ]


def _company(part: DistillationConfig) -> str:
    """Return a line that names the networks of a distillation, and which of them is kept."""
    names = [f"{peer.name}{' (frozen)' if peer.frozen else ''}" for peer in part.peers]
    return f"distillation: {part.student} learns with {', '.join(names)}; only {part.student} is evaluated and exported"


def _evaluation(training: Training, reporter: Reporter) -> OnlineEvaluation:
    dataset = training.dataset
    return OnlineEvaluation(training.config, training.device, dataset.labels, int(dataset.class_num), reporter)
