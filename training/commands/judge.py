"""judge: train an independent attribute classifier."""

from __future__ import annotations

import argparse
from pathlib import Path

from training import config, distributed, files, judge, threads
from training.commands import inputs, options


def train_judge(arguments: argparse.Namespace) -> int:
    """Train an independent attribute classifier."""
    settings = config.load(arguments.preset, arguments.set)
    if isinstance(settings, config.EditorConfig):
        raise config.ConfigError(
            f"--preset {arguments.preset}: is one of an editor; a judge needs one of the stage 'vae'"
        )
    files.require_writable(arguments.out.parent, "--out")
    device = distributed.start(arguments.device)
    margin = settings.data.margin if arguments.balance else int(settings.data.shift)
    index, pixels = inputs.faces_of(arguments, settings, "train", margin)
    held_out, held_out_pixels = inputs.faces_of(arguments, settings, "validation")
    threads.choose(arguments.threads)
    trained = judge.train_judge(
        index,
        pixels,
        settings.data,
        arguments.seed,
        arguments.epochs,
        device,
        arguments.batch_size,
        balance=arguments.balance,
    ).cpu()
    quality = judge.assess(trained, held_out_pixels, held_out.labels)
    logits, _ = trained.predict(held_out_pixels)
    accuracy = ((logits > 0) == (held_out.labels > 0)).mean(0)
    facts = {
        "seed": arguments.seed,
        "epochs": arguments.epochs,
        "data_sha256": index.digest(),
        "balance": arguments.balance,
        "validation_accuracy": {name: float(a) for name, a in zip(index.attributes, accuracy, strict=True)},
        "validation": quality,
    }
    judge.save_judge(trained, arguments.out, facts)
    print(f"{arguments.out}: accuracy {accuracy.mean():.4f} on {len(held_out)} held-out pictures")
    for name, found in quality.items():
        accuracy = f"{100 * found['balanced_accuracy']:.1f}% at logit {found['threshold']:+.2f}"
        print(f"{name}: AUC {found['auc']:.3f}, {accuracy}")
    return 0


def add(commands: options.Commands) -> None:
    """Describe the commands of this module to the command line."""
    command = options.command(commands, "judge", train_judge)
    options.add_data(command)
    options.add_machine(command)
    options.add_preset(command)
    command.add_argument("--seed", type=int, required=True, help="not the seed of anything it will judge")
    command.add_argument("--epochs", type=int, default=8)
    command.add_argument("--batch-size", type=int, default=128)
    command.add_argument(
        "--balance",
        type=float,
        default=0,
        metavar="W",
        help="weigh rare values by .5 / frequency, W at most; 0: do not",
    )
    command.add_argument("--out", type=Path, required=True)
