"""Every command of the command line with its options. Nothing heavy is imported, so that help is quick."""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import NoReturn

import nas_relucode
from nas_relucode.errors import suggestion
from nas_relucode.ranking.choices import HOW, LEVEL, PURPOSES, SCALES
from nas_relucode.study.defaults import MARGIN
from nas_relucode.training.names import SOURCES
from nas_relucode.workers.defaults import HEARTBEAT, PATIENCE

EMPTY = "an empty text is not a value. Give one, or leave the option out. --help shows the options."
SHELLS = ("bash", "zsh", "tcsh")
TOPICS = ("studies", "spaces", "data", "backbones", "indices", "qualities", "purposes")  # of list
BODIES = ("digits", "mnist", "mnist_again", "cifar10")  # of evidence
MOST_AHEAD = 100  # places of `ahead` in select's JSON: the number of pairs grows quadratically

FIRST_STEP = (
    "To begin with: `nas-relucode run digits` trains small networks and writes their report. "
    "`nas-relucode COMMAND --help` describes the options of a command, with their defaults in parentheses."
)


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line, which suggests a similar name for an unknown one and names --help."""

    def error(self, message: str) -> NoReturn:
        """Prints the message in one line to standard error and exits with 2."""
        wrong = re.fullmatch(r"argument (\S+): invalid choice: '(.*)' \(choose from (.*)\)", message)
        if wrong:
            what, names = wrong[1].rpartition("/")[2].lower(), re.findall(r"[\w-]+", wrong[3])
            message = f"unknown {what} {wrong[2]!r}.{suggestion(wrong[2], names)} Known: {', '.join(names)}."
        if "--help" not in message:
            message = f"{message.removesuffix('.')}. --help shows the options."
        self.exit(2, f"{self.prog}: error: {message}\n")


def read(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The options of one command, whose name is ``command``; exits with 2 if they cannot be read."""
    parser, commands = build_parser()
    for word in sys.argv[1:] if arguments is None else arguments:
        if re.fullmatch(r"--[\w-]+=--", word):  # argparse would take it for an option without a value
            parser.error(f"argument {word.removesuffix('=--')}: '--' is not a value. --help shows the options.")
    options, unknown = parser.parse_known_args(arguments)
    command = commands[options.command]
    for action in command._actions:
        value = getattr(options, action.dest, None)
        if "" in (value if isinstance(value, list) else [value]):
            command.error(f"{argparse.ArgumentError(action, EMPTY)}")
    if unknown:
        known = re.findall(r"--[\w-]+", command.format_help())
        suggestions = "".join(suggestion(word.partition("=")[0], known) for word in unknown if word.startswith("--"))
        settings = any(add is _settings for add in COMMANDS[options.command][1])
        in_file = " What is trained is set in the study's file: `nas-relucode copy` writes one." if settings else ""
        command.error(f"unknown options: {' '.join(unknown)}.{suggestions} --help shows the options.{in_file}")
    return options


def build_parser() -> tuple[Parser, dict[str, Parser]]:
    """The parser of the whole command line, and those of its commands by name."""
    parser = Parser(prog="nas-relucode", description=(nas_relucode.__doc__ or "").splitlines()[0], epilog=FIRST_STEP)
    parser.add_argument("--version", action="version", version=nas_relucode.__version__)
    added = parser.add_subparsers(required=True, metavar="COMMAND", dest="command")
    commands: dict[str, Parser] = {}
    for name, (description, groups) in COMMANDS.items():
        commands[name] = added.add_parser(name, help=description, description=description)
        for add in (*groups, _common):
            add(commands[name])
    return parser, commands


def _common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-v", "--verbose", action="store_true", help="show one line per epoch, and Optuna's log")
    parser.add_argument("-q", "--quiet", action="store_true", help="show results only")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")


def _data(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data-root", default="data", metavar="DIR", help="folder of torchvision's data sets (data)")
    parser.add_argument(
        "--download", action="store_true", help="let torchvision check its files and fetch those that are missing"
    )
    parser.add_argument("--device", help="cpu, cuda, cuda:1, mps (the fastest available)")


def _storage(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--storage",
        metavar="URL",
        default=os.environ.get("OPTUNA_STORAGE") or None,
        help="Optuna storage (OPTUNA_STORAGE, else the SQLite file runs/NAME/study.db)",
    )
    parser.add_argument("--storage-file", metavar="FILE", help="a file that holds the storage's URL and its password")
    parser.add_argument("--study-name", metavar="NAME", help="the study's name in the storage (that of the file)")


def _artifacts(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--artifacts", metavar="STORE", help="s3://BUCKET or a folder for checkpoints (the planned one, else --output)"
    )


def _output(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--output", metavar="DIR", help="folder of the study's files and report (runs/NAME)")


def _format(parser: argparse.ArgumentParser, more: str = "") -> None:
    parser.add_argument(
        "-f", "--format", choices=["table", "json"], default="table", help=f"format of the output (table){more}"
    )


def _settings(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("study", help="a built-in study (see `nas-relucode list studies`) or a .toml file")


def _figure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("figure", help="1 to 6, or a study with a [figure] section: a built-in one or a .toml file")
    parser.add_argument("--small", action="store_true", help="the reduced size, for two cores")
    parser.add_argument(
        "--released-code",
        action="store_true",
        help="as in the code released with the paper: bits of activations >= 1, codes during training, its UMAP",
    )
    parser.add_argument("--epochs", type=int, nargs="+", metavar="EPOCH", help="rows of the grid (those of the study)")


def _train(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "parameters", nargs="+", metavar="NAME=VALUE", help="all parameters, e.g. head=256-128-128 learning_rate=0.01"
    )
    parser.add_argument("--seed", type=int, default=0, help="for the weights and the order of the samples (0)")
    parser.add_argument("--weights", required=True, metavar="FILE", help="a new .pt file for the state dict")


def _plan(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--heartbeat", type=int, metavar="SECONDS", help=f"interval of the workers' heartbeats ({HEARTBEAT})"
    )


def _worker(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("study", help="the study's name, or its .toml file, whose settings are then compared")
    several = parser.add_mutually_exclusive_group()
    several.add_argument("--gpus", metavar="LIST", help="start a process for each of these GPUs, e.g. 0,1")
    several.add_argument("--processes", type=int, metavar="N", help="start N processes that share the cores")
    parser.add_argument("--max-trials", type=int, metavar="N", help="end after N trials (in each process)")
    parser.add_argument("--time-limit", metavar="TIME", help="end after SECONDS, MM:SS, HH:MM:SS or DAYS-HH:MM:SS")
    parser.add_argument(
        "--no-wait", action="store_true", help="end when no trial waits, even if other workers still run some"
    )


def _patience(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--patience",
        type=float,
        default=PATIENCE,
        metavar="SECONDS",
        help=f"how long to wait for an unavailable database ({PATIENCE:.0f})",
    )


def _dashboard(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--dashboard",
        action=argparse.BooleanOptionalAction,
        help="write the verdict and the front into the study for optuna-dashboard (if it is installed)",
    )


def _study(parser: argparse.ArgumentParser) -> None:
    one = "the study's name or .toml file, or an SQLite file that holds one study (the only one in the storage)"
    parser.add_argument("study", nargs="?", help=one)


def _ranking(parser: argparse.ArgumentParser, margin: str) -> None:
    """How networks are compared and ordered; ``margin`` is its default in words."""
    parser.add_argument("--margin", type=float, help=f"a difference of accuracies that does not matter ({margin})")
    parser.add_argument(
        "--rule",
        default="1se",
        help="who is a finalist: 1se (within one standard error of the best), or margin (shown to be equal) (1se)",
    )
    parser.add_argument("--level", type=float, default=LEVEL, help=f"level of the intervals ({LEVEL})")
    parser.add_argument(
        "--by",
        nargs="+",
        metavar="INDEX",
        help="order by INDEX or LAYER:INDEX, optionally with :minimize or :maximize (the study's objectives)",
    )
    parser.add_argument(
        "--for",
        dest="purpose",
        help=f"order as the evidence supports for a purpose, instead of --by: {', '.join(PURPOSES)}",
    )
    parser.add_argument("--how", default="pareto", help=f"{', '.join(HOW)} (pareto)")
    parser.add_argument(
        "--order-weights", nargs="+", default=[], metavar="INDEX=WEIGHT", help="for --how weighted (1 each)"
    )
    parser.add_argument("--scale", default="ranks", help=f"what is weighted: {', '.join(SCALES)} (ranks)")
    _format(
        parser,
        "; json has one network per line, the first choice first; ahead[i][j]: how often place i + 1 stays ahead of "
        f"place j + 1 when seeds are resampled, for the first {MOST_AHEAD} places; ahead_of_next: the same for each "
        "network and the next; null: not available",
    )


def _compare(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--output", metavar="DIR", help="a folder for the page (none is written)")


def _checkpoints(parser: argparse.ArgumentParser, *, required: bool = True) -> None:
    """Networks whose weights are files, and the images that they are measured on."""
    parser.add_argument(
        "--model",
        nargs="+",
        required=required,
        action="extend",
        metavar="MODEL",
        help="package.module:factory, or torchvision's name; NAME=MODEL for a network that is built in another way",
    )
    parser.add_argument(
        "--weights",
        nargs="+",
        required=required,
        action="extend",
        metavar="FILE",
        help="state dicts saved by torch.save: NAME/SEED.pt, NAME_seedSEED.pt, NAME.pt (seed 0), or any file as "
        "NAME=FILE or NAME/SEED=FILE",
    )
    sources = f"{', '.join(SOURCES)}, an .npz file or a folder of images"
    parser.add_argument("--data", required=required, help=sources)
    _images(parser)
    _reading(parser, layers=None)
    _data(parser)


def _evidence(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "study", nargs="?", help="as for select: its name or .toml file, or an SQLite file; else --weights or --body"
    )
    _checkpoints(parser, required=False)
    parser.add_argument(
        "--body",
        choices=BODIES,
        help="train and measure a body of docs/evidence.md, or go on with one (hours, but for digits)",
    )
    parser.add_argument("--output", metavar="DIR", help="folder of tables and pictures (evidence, or evidence/BODY)")
    _storage(parser)


def _score(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", required=True, help=f"{', '.join(SOURCES)}, an .npz file or a folder of images")
    _images(parser)
    _reading(parser)
    parser.add_argument("--indices", nargs="+", metavar="INDEX", help="names (see `nas-relucode list indices`; all)")
    parser.add_argument("--module", help="the module whose input space holds the polyhedra (the whole network)")
    parser.add_argument("--wanted-size", nargs=2, type=float, metavar=("MU", "SIGMA"), help="for regularised_patterns")
    parser.add_argument("--split", default="train", help="train, test or all (train)")
    parser.add_argument("--graph-theta", type=int, default=1, help="the largest distance of joined cells (1)")
    parser.add_argument("--distance-theta", type=int, help="truncate distances between samples at this value (never)")


def _codes(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--outputs", type=int, metavar="N", help="outputs of torchvision's network (the data's classes, else 1000)"
    )
    parser.add_argument(
        "--data",
        required=True,
        help=f"a folder of .npz shards with inputs and labels; or {', '.join(SOURCES)}, an .npz file, "
        "a folder of images",
    )
    parser.add_argument("--output", required=True, metavar="FILE", help="an .npz file for the code space")
    parser.add_argument(
        "--folder", metavar="DIR", help="folder of the shards' code spaces, for resuming (beside --output)"
    )
    parser.add_argument("--shards", type=int, metavar="N", help="shards of a data set (one per 10,000 samples)")
    parser.add_argument("--split", help="split of a data set: train, test or all (train)")


def _network(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", required=True, metavar="MODEL", help="package.module:factory, or torchvision's name")
    parser.add_argument("--weights", metavar="FILE", help="a state dict saved by torch.save, or imagenet")
    _seed(parser)


def _seed(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seed", type=int, default=0, help="for random weights (0)")


def _images(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--classes", nargs="+", metavar="CLASS", help="names of the classes to keep (all)")
    parser.add_argument("--image-size", type=int, metavar="PIXELS", help="resize the images to squares of this size")
    parser.add_argument("--normalise", action="store_true", help="subtract the mean, divide by the standard deviation")


def _reading(parser: argparse.ArgumentParser, layers: Sequence[str] | None = ("all",)) -> None:
    """The options of `Reading`."""
    default = "fully connected ones, else all" if layers is None else " ".join(layers)
    parser.add_argument("--layers", nargs="+", default=layers, help=f"names, prefixes or globs of layers ({default})")
    parser.add_argument("--mode", default="eval", help="eval, or train: batch statistics, for initialisation (eval)")
    parser.add_argument("--preset", default="paper", help="paper, or released_code: bits of activations >= 1 (paper)")
    parser.add_argument("--maps", default="pixel", help="bits of convolution maps: pixel, channel or pooled (pixel)")
    parser.add_argument("--also", nargs="+", default=[], help="smooth activations to read at 0: gelu, silu, ...")
    parser.add_argument("--batch-size", type=int, default=512, help="samples in one forward pass (512)")


def _complex(parser: argparse.ArgumentParser) -> None:
    # argparse takes -1e-3 for an option otherwise
    parser._negative_number_matcher = re.compile(r"^-(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?$")
    parser.add_argument(
        "model",
        metavar="MODEL",
        help="package.module:factory, or an .npz file with W0, b0, W1, b1, ...: hidden layers, then the output",
    )
    parser.add_argument("--weights", metavar="FILE", help="a state dict saved by torch.save, for a factory's network")
    _seed(parser)
    parser.add_argument("--shape", nargs="+", type=int, metavar="N", help="of one input (features of the first Linear)")
    parser.add_argument("--box", nargs=2, type=float, metavar=("LOW", "HIGH"), help="only cells in low < x < high")
    parser.add_argument(
        "--max-cells", type=int, default=1_000_000, metavar="N", help="stop once more than N are known (1,000,000)"
    )
    parser.add_argument(
        "--tolerance", type=float, default=1e-9, metavar="T", help="relative: closer rows of a cell are equal (1e-9)"
    )
    parser.add_argument("--state", metavar="FILE", help="an .npz file to resume from and to save progress in")


def _list(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("topic", nargs="?", choices=TOPICS, help=f"{', '.join(TOPICS)} (all of them)")


def _copy(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", help="a study or search space; search_spaces/NAME for a space of a study's name")
    parser.add_argument("file", help="a new file ending in .toml")


def _completion(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("shell", choices=SHELLS, help=", ".join(SHELLS))
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = """\
bash: eval "$(nas-relucode completion bash)" in ~/.bashrc
zsh:  nas-relucode completion zsh > FOLDER/_nas-relucode, a FOLDER of $fpath
tcsh: nas-relucode completion tcsh > FILE, and source FILE in ~/.tcshrc"""


# Options of a command that trains a study's networks, and of `plan`: jobs hand it the same options as `worker`.
_FILES = (_storage, _artifacts, _output)
COMMANDS: dict[str, tuple[str, Sequence[Callable[[argparse.ArgumentParser], None]]]] = {
    "run": ("run or resume a study, then write its report", [_settings, _dashboard, _data, *_FILES]),
    "check": ("show what a study would run, and about how long it would take", [_settings, _format, _data]),
    "figure": ("run the studies behind a figure of the paper, then draw it", [_figure, _data, *_FILES]),
    "train": ("train one candidate of a study as in its trial, and keep its weights", [_settings, _train, _data]),
    "plan": ("enqueue a study's candidates for workers", [_settings, _plan, _patience, _data, *_FILES]),
    "worker": ("work on a planned study until no trial is left", [_worker, _patience, _data, *_FILES]),
    "status": ("show how far a study has come and how long it will take", [_study, _format, _storage]),
    "report": ("write the report of a study as it is now", [_study, _dashboard, _storage, _output]),
    "select": (
        "say which network of a study to choose, and how sure one can be",
        [_study, partial(_ranking, margin=f"the study's own, else {MARGIN}"), _storage],
    ),
    "compare": (
        "say which of some trained networks to choose, and how sure one can be",
        [_checkpoints, _compare, partial(_ranking, margin=str(MARGIN))],
    ),
    "evidence": ("say what the indices tell of other qualities of equally accurate networks", [_evidence]),
    "score": ("compute accuracy and code-space indices of any network", [_network, _score, _format, _data]),
    "codes": (
        "compute a network's code space over a data set, shard by shard",
        [_network, _codes, _images, _reading, _format, _data],
    ),
    "complex": ("count the cells of a small network and the pairs that share a facet", [_complex, _format]),
    "list": ("list studies, search spaces, data sets, backbones, indices, qualities and purposes", [_list, _format]),
    "copy": ("write a built-in study or search space to a file that explains every key", [_copy]),
    "completion": ("print a script that completes commands and options in a shell", [_completion]),
}
