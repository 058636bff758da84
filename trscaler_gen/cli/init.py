"""`trscaler-gen init`: a commented inventory to begin with."""

from __future__ import annotations

import re
from importlib import resources
from pathlib import Path

import click

from trscaler_gen.errors import OperationError
from trscaler_gen.files import make_file
from trscaler_gen.inventory.load import parse_inventory
from trscaler_gen.inventory.text import printable

_MODE = 0o644
_FALLBACK_CLUSTER = "web"


@click.command()
@click.argument("file", type=click.Path(path_type=Path, allow_dash=True))
@click.option("--cluster", help="The cluster's name.  [default: the file's name]")
@click.option("--link", default="eth0", show_default=True, help="The interface to serve on.")
def command(file: Path, cluster: str | None, link: str) -> None:
    """Write a commented inventory to FILE ("-" prints it); an existing FILE is never touched.

    Example: trscaler-gen init web.yaml --link bond0
    """
    text = sample(cluster or _cluster_from(file), link)
    if str(file) == "-":
        click.echo(text, nl=False)
        return
    write_new(file, text)
    shown = printable(str(file))
    click.echo(f"wrote {shown}: edit it, then run: trscaler-gen check {shown}")


def sample(cluster: str, link: str) -> str:
    """Fill the sample's placeholders; raises InputError or UsageError when they do not fit."""
    text = _template().replace("@CLUSTER@", cluster).replace("@LINK@", link)
    inventory = parse_inventory(text.encode("utf-8", "surrogateescape"), "(new inventory)")
    if (inventory.cluster, inventory.link) != (cluster, link):
        raise click.UsageError("--cluster and --link take one name each")
    return text


def _cluster_from(file: Path) -> str:
    """The file's name without its ending, where that can name a cluster."""
    name = re.sub(r"[^a-z0-9]+", "-", file.stem.lower()).strip("-")[:32].rstrip("-")
    return name if name[:1].isalpha() else _FALLBACK_CLUSTER


def _template() -> str:
    """Read the sample from the installed package, or from the working tree."""
    installed = resources.files("trscaler_gen") / "templates" / "inventory.yaml"
    if installed.is_file():
        return installed.read_text(encoding="utf-8")
    tree = Path(__file__).resolve().parents[2] / "templates" / "inventory.yaml"
    return tree.read_text(encoding="utf-8")


def write_new(path: Path, text: str) -> None:
    """Make a file that did not exist, whole or not at all; raises OperationError."""
    try:
        make_file(path, text.encode(), _MODE)
    except FileExistsError:
        raise OperationError(
            f"{printable(str(path))} exists; nothing was written", "choose another name"
        ) from None
    except OSError as error:
        hint = "trscaler-gen init - prints the inventory instead"
        raise OperationError(f"cannot write {printable(str(path))}: {error.strerror}", hint) from None
