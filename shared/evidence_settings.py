"""Settings of the log of certificates, lists and acts."""

from dataclasses import dataclass
from typing import Annotated

from shared.domain.witnesses import Witness, read_witnesses
from shared.limit_settings import LimitSettings
from shared.reading.settings import SECRET_NAME, TEXT, Kind, Setting, one_of
from shared.rules.zones import Zone

_BEGINS = frozenset({Zone.ALL, Zone.ISSUING})
WITNESSES = Kind("entries separated by `;`, each a key and a URL with a blank between them", read_witnesses)


@dataclass(frozen=True, slots=True, kw_only=True)
class EvidenceSettings(LimitSettings):
    """What the log is called, what signs it, and who witnesses it. What a zone does not use is empty there."""

    evidence_log: Annotated[
        str,
        Setting(
            "EVIDENCE_LOG",
            one_of("on", "off"),
            "Whether certificates, CRLs and acts are put into a log that can't be rewritten unseen "
            "(docs/evidence.md). Without it bundles carry no proof.",
            example="off",
            default="on",
        ),
    ]
    evidence_origin: Annotated[
        str,
        Setting(
            "EVIDENCE_ORIGIN",
            TEXT,
            "Name of the log, as its checkpoints say it (C2SP tlog-checkpoint: a URL without its scheme). Another name "
            "is that of another log, which begins in empty containers (docs/evidence.md).",
            example="factory.example.com/log",
            default="",
            otherwise="the deployment's name, and `/log`",
            zones=_BEGINS,
        ),
    ]
    evidence_key: Annotated[
        str,
        Setting(
            "EVIDENCE_KEY",
            SECRET_NAME,
            "Name of the key, in the vault of CA keys, that signs the log's checkpoints and nothing else. It is made "
            "when the log begins. Later keys of the log have a number behind this name.",
            example="evidence-log",
            default="evidence-log",
            zones=_BEGINS,
        ),
    ]
    evidence_witnesses: Annotated[
        tuple[Witness, ...],
        Setting(
            "EVIDENCE_WITNESSES",
            WITNESSES,
            "Witnesses that are asked to sign the log's checkpoints (C2SP tlog-witness), each by its key "
            "(C2SP signed-note: type 0x04) and its submission prefix.",
            example="witness.example.com/w1+5f2febaf+BMhTrQ8M0rYZrqks7sT9VqJNZJnVhM55JX5Fz9gTm2Cn "
            "https://witness.example.com",
            default="",
            otherwise="no witness is asked",
            zones=_BEGINS,
        ),
    ]
