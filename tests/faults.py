"""Faults in the wiring, and the tests that notice them: a test puts them in one at a time."""

from typing import NamedTuple


class Fault(NamedTuple):
    """A text of a file that another one takes the place of."""

    name: str  # what is wrong then
    file: str
    text: str
    other: str
    tests: str  # the file of the test that must fail
    chosen: str  # and its -k


FAULTS = [
    Fault(
        "cosine-mse without its factor 5", "minbert/task/siamese.py",
        "losses.cosine_mse(u, v, labels / unit, scale / unit)",
        "losses.cosine_mse(u, v, labels / unit, 1.0)",
        "test_wiring.py", "factor_of_5",
    ),
    Fault(
        "contrastive labels of STS not over 5", "minbert/task/siamese.py",
        "return loss(u, v, labels / scale)", "return loss(u, v, labels)",
        "test_wiring.py", "contrastive_labels",
    ),
    Fault(
        "pairs read both ways are scored by one", "minbert/task/evaluation.py",
        "if config.both:", "if False:", "test_both_ways.py", "is_the_mean",
    ),
    Fault(
        "pairs read both ways are trained in one", "train_multitask.py",
        "return apart + head_loss(run, task, rows)", "return apart",
        "test_both_ways.py", "losses_are_added",
    ),
    Fault(
        "mnr with scale 20", "minbert/task/siamese.py",
        "losses.mnr(u, v, mnr_scale or 1.0)", "losses.mnr(u, v, mnr_scale or 20.0)",
        "test_wiring.py", "scale_of_their_source",
    ),
    Fault(
        "threshold calibrated on dev", "train_multitask.py",
        "set_threshold(run.model, run.tasks[name], run.train_sequences[name])",
        "set_threshold(run.model, run.tasks[name], run.dev_splits[name])",
        "test_wiring.py", "calibrated",
    ),
    Fault(
        "pre-training on held-out rows", "pretrain_mlm.py",
        "rows = rows_without(run.held_out, indices)", "rows = np.asarray(indices)",
        "test_wiring_mlm.py", "held_out",
    ),
    Fault(
        "no clipping in fine-tuning", "train_multitask.py",
        "run.optimizer.step(scale=clip_scale(run.model.parameters(), args.clip))",
        "clip_scale(run.model.parameters(), args.clip); run.optimizer.step()",
        "test_wiring.py", "clipped",
    ),
    Fault(
        "no clipping in pre-training", "pretrain_mlm.py",
        "run.optimizer.step(scale=clip_scale(run.model.parameters(), args.clip))",
        "clip_scale(run.model.parameters(), args.clip); run.optimizer.step()",
        "test_wiring.py", "clipped",
    ),
    Fault(
        "the heads' dropout never active", "minbert/model/heads.py",
        "super().forward(self.dropout(pooled))", "super().forward(pooled)",
        "test_flags.py", "train_multitask-hidden_dropout_prob",
    ),
    Fault(
        "best/ keeps the worst", "train_multitask.py",
        "new.chosen_by > state.best.chosen_by", "new.chosen_by < state.best.chosen_by",
        "test_wiring.py", "highest_mean",
    ),
    Fault(
        "best/ of pre-training keeps the worst", "pretrain_mlm.py",
        '-scores["loss"] > state.best.chosen_by', '-scores["loss"] < state.best.chosen_by',
        "test_wiring_mlm.py", "lowest_loss",
    ),
    Fault(
        "the random token is always the same", "minbert/data/masking.py",
        "random_ids = rng.integers(0, len(masking.continues), n)", "random_ids = np.full(n, 7)",
        "test_wiring_mlm.py", "random_tokens",
    ),
    Fault(
        "[SEP] may be masked", "minbert/data/masking.py",
        "(tokenizer.cls_id, tokenizer.sep_id, tokenizer.pad_id, tokenizer.mask_id)",
        "(tokenizer.cls_id, tokenizer.pad_id, tokenizer.mask_id)",
        "test_wiring_mlm.py", "frame",
    ),
    Fault(
        "the full budget pre-trains for 5 epochs", "experiments/paper_tables.py",
        "pretrain=50,", "pretrain=5,", "test_experiments.py", "full_budget",
    ),
    Fault(
        "a figure of the paper is another", "experiments/paper_tables.py",
        "(0.505, 0.877, 0.863)", "(0.505, 0.887, 0.863)", "test_experiments.py", "full_budget",
    ),
    Fault(
        "another default rate", "minbert/run/resolve_args.py",
        "lr=(FROZEN_LR if frozen else 1e-5)", "lr=(FROZEN_LR if frozen else 2e-5)",
        "test_wiring.py", "epochs_and_rate",
    ),
    Fault(
        "another default of pre-training's epochs", "minbert/run/mlm_args.py",
        "arg(50, ", "arg(40, ", "test_flags.py", "defaults_are_those",
    ),
    Fault(
        "the rate is not set in a step", "train_multitask.py",
        'group["lr"] = lr * group["rate"]\n', "pass\n", "test_wiring.py", "rate_of_the_log",
    ),
    Fault(
        "the encoder of a frozen run runs in every step", "minbert/run/fine_tuning.py",
        "    if args.fine_tune_mode != FROZEN:\n", "    if args.fine_tune_mode:\n",
        "test_training.py", "frozen_leaves",
    ),
    Fault(
        "every step draws the same dropout", "train_multitask.py",
        "torch.manual_seed(distributed.own_seed(args.seed, step))",
        "torch.manual_seed(distributed.own_seed(0, 0))",
        "test_wiring.py", "dropout_of_a_step",
    ),
    Fault(
        "the weight decay is not passed on", "minbert/run/fine_tuning.py",
        "parameter_groups(model, args.weight_decay, ", "parameter_groups(model, 0.0, ",
        "test_flags.py", "train_multitask-weight_decay",
    ),
    Fault(
        "a task's weight is ignored", "train_multitask.py",
        "(loss * weight).backward()", "loss.backward()",
        "test_wiring.py", "weight_of_a_task",
    ),
    Fault(
        "parts of a batch count alike", "train_multitask.py",
        "loss = loss * share", "loss = loss / run.args.accumulate",
        "test_wiring.py", "accumulated",
    ),
    Fault(
        "--patience counts from the start", "train_multitask.py",
        "state.since_best + 1 if without_gain else 0", "state.since_best + 1",
        "test_wiring.py", "patience_starts_anew",
    ),
    Fault(
        "pre-training without dropout", "pretrain_mlm.py",
        "run.model.train()", "run.model.eval()", "test_wiring.py", "for_training_alone",
    ),
    Fault(
        "other masks in every evaluation", "pretrain_mlm.py",
        "masked_rows(run, run.held_out[indices], 0, HELD_OUT_EPOCH)",
        "masked_rows(run, run.held_out[indices], run.state.step, HELD_OUT_EPOCH)",
        "test_wiring_mlm.py", "masked_alike",
    ),
    Fault(
        "parts of pre-training count alike", "pretrain_mlm.py",
        "loss = loss * (num_masked / all_masked)", "loss = loss / run.args.accumulate",
        "test_wiring_mlm.py", "by_their_guesses",
    ),
    Fault(
        "all seeds are one", "minbert/run/several.py",
        "one = replace(args, seed=seed, seeds=1)", "one = replace(args, seeds=1)",
        "test_conveniences.py", "mean_and_spread",
    ),
    Fault(
        "predictions of the last step", "minbert/run/finish.py",
        'load_for_use(run, "best")', 'load_for_use(run, "last")',
        "test_wiring.py", "best_step",
    ),
    Fault(
        "tasks are drawn by size to the end", "minbert/training/mixing.py",
        "a = np.linspace(*powers, steps)", "a = np.linspace(powers[0], powers[0], steps)",
        "test_mixing.py", "drawn_by_size",
    ),
    Fault(
        "a teacher's share stays", "train_multitask.py",
        "label_share = run.state.step / (run.steps - 1) if run.steps > 1 else 1.0",
        "label_share = 0.0",
        "test_teachers.py", "learned_at_first",
    ),
    Fault(
        "the mean is over other steps", "minbert/training/averaging.py",
        "steps * (1 - share)", "steps * share", "test_recipes.py", "mean_of_the_weights",
    ),
    Fault(
        "the mean is never scored", "train_multitask.py",
        "with averaged(run.optimizer):", "if False:", "test_recipes.py", "better_one",
    ),
    Fault(
        "gradients are never projected", "minbert/training/gradients.py",
        'project = combine == "pcgrad"', "project = False", "test_gradients.py", "combined_as_said",
    ),
    Fault(
        "all layers learn alike", "train_multitask.py",
        'group["lr"] = lr * group["rate"]\n', 'group["lr"] = lr\n',
        "test_flags.py", "train_multitask-layer_decay",
    ),
    Fault(
        "dev rows are trained on", "minbert/task/loading.py",
        "return take(split, np.flatnonzero(~is_dev))",
        "return take(split, np.flatnonzero(is_dev | True))",
        "test_dev_rows.py", "other_rows_alone",
    ),
    Fault(
        "copies of a dev text are trained on", "minbert/task/dev_rows.py",
        "groups.setdefault((example.text, example.pair), len(groups))", "len(groups)",
        "test_dev_rows.py", "same_text",
    ),
    Fault(
        "windows' outputs are added up", "minbert/task/evaluation.py",
        "return total / counts[:, None]", "return total",
        "test_long_texts.py", "averaged_by_row",
    ),
    Fault(
        "only a row's first window is trained on", "minbert/run/fine_tuning.py",
        "one_row_per_sequence(split) for name", "split for name",
        "test_long_texts.py", "every_window",
    ),
    Fault(
        "parts of a batch count by their rows, not their words", "train_multitask.py",
        "micro_batches(rows, run.args.accumulate, counts)",
        "micro_batches(rows, run.args.accumulate)",
        "test_word_training.py", "parts_count_by_their_words",
    ),
    Fault(
        "a word is read off its last piece", "minbert/data/tokenizer.py",
        "for place, word in reversed([*enumerate(encoding.word_ids)]):",
        "for place, word in enumerate(encoding.word_ids):",
        "test_words.py", "first_pieces",
    ),
    Fault(
        "entities begin with B- alone", "minbert/task/tagging.py",
        'prefix in "BS" or previous in "OES" or changes', 'prefix in "BS"',
        "test_words.py", "conlleval_s",
    ),
    Fault(
        "a name may reach the disk before its content", "minbert/manifest.py",
        "os.fsync(handle)", "pass", "test_checkpoint.py", "before_its_name",
    ),
    Fault(
        "--save-minutes are hours", "minbert/run/keeper.py",
        "60 * self.save_minutes", "3600 * self.save_minutes", "test_interrupts.py", "minutes",
    ),
    Fault(
        "a run goes on with another seed", "minbert/run/resumed.py",
        '"resume", "output_dir"', '"resume", "seed", "output_dir"',
        "test_resumed.py", "makes_another_run",
    ),
    Fault(
        "a run goes on with another teacher", "minbert/run/fine_tuning.py",
        'teacher": sha256_of(path) for', 'teacher": name for',
        "test_edited_data.py", "trained_anew",
    ),
    Fault(
        "a teacher is not asked of other rows", "minbert/run/teachers.py",
        "sorted(task.dev_ids or ())", "()", "test_teachers.py", "other_rows",
    ),
    Fault(
        "heads first learn at the encoder's rate", "minbert/run/heads_first.py",
        "lr=FROZEN_LR", "lr=1e-5", "test_head_inputs.py", "frozen_encoder",
    ),
    Fault(
        "the weights have their mean's temperature", "minbert/run/temperatures.py",
        "(own.step, own.is_mean) != (state.best.step, state.best.is_mean)",
        "own.step != state.best.step", "test_task_best.py", "own_temperature",
    ),
    Fault(
        "R-Drop's divergence has no class weights", "train_multitask.py",
        "r_drop_loss(task, outputs, again, weights)", "r_drop_loss(task, outputs, again)",
        "test_balance.py", "both_of_r_drop",
    ),
    Fault(
        "gradients are projected in the same order", "train_multitask.py",
        "[run.args.seed, run.state.step]", "[0, 0]", "test_gradients.py", "order_of_its_own",
    ),
    Fault(
        "words that are cut off have a class weight", "minbert/run/fine_tuning.py",
        "item_labels(split)[visible_items(split)]", "item_labels(split)",
        "test_word_training.py", "no_class_weight",
    ),
    Fault(
        "no teacher beside R-Drop", "train_multitask.py",
        "if name in run.teachers:", "if name in run.teachers and not r_drop:",
        "test_teachers.py", "learned_at_first",
    ),
    Fault(
        "sizes lose their weight along another curve", "minbert/training/mixing.py",
        "np.linspace(*powers, steps)", "np.geomspace(*powers, steps)",
        "test_mixing.py", "falls_linearly",
    ),
    Fault(
        "the second tower's gradients are not shared", "train_multitask.py",
        "TaskGradients(p for encoder in run.model.encoders for p in encoder.parameters())",
        "TaskGradients(run.model.encoder.parameters())",
        "test_distributed.py", "recipes_in_two",
    ),
]  # fmt: skip
