"""`python -m training SPEC.toml`: train and register, from a shell. Exit code 0 done, 1 refused, 2 bad usage or input.

Wires arguments to `pipeline.train`, which does the work.
"""

import argparse
import getpass
import sys
from pathlib import Path

from registry.errors import RegistryError
from registry.location import Keys, is_object_store, local_root
from training import progress
from training.errors import DataError, SpecError, TrainingError

DEFAULT_REGISTRY = ".tidegate/registry"


def main(arguments: list[str] | None = None) -> int:
    """Train what the spec says; one line per registered version on stdout, progress and errors on stderr."""
    options = _parser().parse_args(arguments)
    try:
        _train(options)
    except (SpecError, DataError) as error:
        return _fail(error, 2)
    except (TrainingError, RegistryError) as error:
        return _fail(error, 1)
    return 0


def _train(options: argparse.Namespace) -> None:
    from training import pipeline  # noqa: PLC0415 - scikit-learn and friends take seconds, which --help need not wait for

    tracker_dir = (Path(".tidegate") if is_object_store(options.registry) else local_root(options.registry).parent) / "comet"
    with progress.on(sys.stderr) as report:
        versions = pipeline.train(
            options.spec,
            options.registry,
            trials=options.trials,
            seed=options.seed,
            actor=options.actor or _user(),
            tracker_dir=tracker_dir,
            progress=report,
            keys=Keys(options.signing_key, options.trusted_keys),
        )
    for trained in versions:
        auc = trained.evaluation.metric("auc")
        sys.stdout.write(f"{trained.model} {trained.version} {trained.algorithm} auc {auc.value:.3f} [{auc.low:.3f}, {auc.high:.3f}]\n")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "python -m training", description="Train every candidate of a spec file and register each as a version."
    )
    parser.add_argument("spec", type=Path, metavar="SPEC.toml")
    parser.add_argument(
        "--registry",
        default=DEFAULT_REGISTRY,
        metavar="URL",
        help=f"file:///..., a path, s3://, gs:// or az:// (default: {DEFAULT_REGISTRY})",
    )
    parser.add_argument("--signing-key", type=Path, metavar="FILE", help="private key that signs what is registered")
    parser.add_argument("--trusted-keys", type=Path, metavar="PATH", help="public key, or a folder of *.pub: build on nothing else")
    parser.add_argument("--trials", type=int, metavar="N", help="instead of those of every candidate")
    parser.add_argument("--seed", type=int, metavar="N", help="instead of the spec's")
    parser.add_argument("--actor", metavar="NAME", help="who the registry says did it (default: the user name)")
    return parser


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container may run as a number without a name
        return "unknown"


def _fail(error: Exception, code: int) -> int:
    sys.stderr.write(f"error: {error}\n")
    return code


if __name__ == "__main__":
    sys.exit(main())
