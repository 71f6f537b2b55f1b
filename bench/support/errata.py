"""data/errata.toml: BFCL items whose gold is known to be wrong, with the reason and its source."""

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from fixtures.data.bfcl import DatasetError

ERRATA_FILE = Path(__file__).parents[2] / "data" / "errata.toml"
Kind = Literal["unanswerable", "wrong_gold", "narrow_gold", "contradicts_schema"]


@dataclass(frozen=True, slots=True)
class Erratum:
    """What is wrong with one item's gold."""

    kind: Kind
    why: str
    source: str


def load_errata(path: Path = ERRATA_FILE) -> dict[str, Erratum]:
    """Every known erratum by item id."""
    try:
        entries = tomllib.loads(path.read_text(encoding="utf-8"))
        errata = {item: Erratum(**entry) for item, entry in entries.items()}
    except (OSError, tomllib.TOMLDecodeError, TypeError) as error:
        raise DatasetError(
            f"{path}: {error}. An entry needs kind, why and source; the file is edited by hand."
        ) from error
    if unknown := [item for item, erratum in errata.items() if erratum.kind not in get_args(Kind)]:
        raise DatasetError(f"{path}: the kind of {unknown} is not one of {get_args(Kind)}")
    return errata
