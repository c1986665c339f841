"""What docs/findings.md says before its table."""

INTRODUCTION = """A pass of reconciliation compares the ledger with DPS, the hubs, the stored bundles and the
vault. One begins by itself an hour after the one before (`RECONCILIATION_INTERVAL_MINUTES`), and
`POST /api/reconciliations` begins one over everything, over one group or over one device. In no minute does a pass over
everything use more than a tenth of the services' quotas (`RECONCILIATION_QUOTA_PERCENT`, `IOT_HUB_UNITS`). What it
could not finish, it goes on with a minute later, also amid a page. A pass over one group compares its entry in DPS, and
its devices with their individual enrollments, registrations and identities. A pass over everything compares its CAs.

Each difference is a finding: `GET /api/findings` lists those that are open. Its event `DriftFound` is sent when it is
found first. A device, or a group, that the services do not follow yet is left out, and each device that looks different
is looked at alone before anything is said of it. A pass over everything looks as well at what DPS has of devices and
groups that the ledger does not know, unless it is disabled: individual enrollments, and groups with a CA of yours. Such
an enrollment is looked at alone when it is found, when it accepts something else, and once a day, since a pass may ask
DPS about some fifty in a minute.

It reads every identity of every hub that is linked to the DPS, or that the settings name. `identityUnknown` is an
enabled identity that lets in who has a certificate, and whose id the ledger does not know; unless DPS has a device
there by an entry that is still there and enabled. It is also an identity under the id of a device of yours in another
hub than its own, if that takes something else than the device's certificates. If an unknown identity takes a
certificate of a device of yours, the finding names that device. If the certificate is revoked, or that device is shut
out, it is `doorOpen` instead. The last two certificates of each device are compared with up to 1,000 unknown
identities. `identityLeft` is also an identity with the device's own certificates in another hub than its own, from ten
minutes after DPS has assigned the device a hub. So is a disabled identity of a deleted device, in any hub. An identity
of others with a symmetric key is not a finding, since others may share the hub.

What is done by itself is a policy for each kind, in `RECONCILIATION_POLICY`: `report` (unless something else is set),
`mend`, or `adopt`. Two kinds are always mended. By hand it is `POST /api/findings/{id}/mend`, `.../adopt`, or
`.../close` with a comment: a finding that is closed is not told again while it lasts. When one was mended or adopted,
what it is about is looked at again. A finding that differs still stays open, and its `problem` says what differs.
`DriftMended` is sent when one is mended.

Whatever attestation others put into an entry is compared: certificates of the device or of CAs, CAs by name, a
symmetric key, a TPM, none, more than one of these, or one that this version does not know. An enabled entry of a device
that is shut out is `doorOpen`, whatever it accepts. What could not be looked at is counted in a pass's `unread`. The
first twenty are named in its `unreadSubjects`, with why. A pass says nothing else of them.

Made from `shared/domain/treatments.py`; a test keeps it so.
"""
