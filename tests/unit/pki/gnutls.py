"""GnuTLS's own verification of chains, straight from its library, which every Debian has: apt itself needs it.

Constants are those of gnutls/gnutls.h and gnutls/x509.h, 3.7.
"""

from __future__ import annotations

import ctypes
from enum import IntEnum
from functools import cache
from typing import TYPE_CHECKING

from shared.pki import names

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cryptography import x509

_LIBRARY = "libgnutls.so.30"
_PEM, _X509 = 1, 1  # gnutls_x509_crt_fmt_t, gnutls_certificate_type_t
_PURPOSE = 2  # gnutls_vdata_types_t: GNUTLS_DT_KEY_PURPOSE_OID
_PROFILE_SHIFT = 24  # GNUTLS_PROFILE_TO_VFLAGS


class Profile(IntEnum):
    """How much security is wanted (gnutls_certificate_verification_profiles_t)."""

    MEDIUM = 5
    HIGH = 6


class _Datum(ctypes.Structure):
    _fields_ = (("data", ctypes.c_char_p), ("size", ctypes.c_uint))


class _Wanted(ctypes.Structure):
    _fields_ = (("type", ctypes.c_int), ("data", ctypes.c_char_p), ("size", ctypes.c_uint))


@cache
def library() -> ctypes.CDLL | None:
    """The library, ``None`` where it is not installed."""
    try:
        return ctypes.CDLL(_LIBRARY)
    except OSError:
        return None


def verdict(
    chain: Sequence[x509.Certificate], *, root: x509.Certificate, profile: Profile, purpose: str = ""
) -> tuple[bool, str]:
    """Verify a chain, leaf first, as of now.

    Args:
        chain: what a peer sends.
        root: what is trusted.
        profile: how much security is wanted.
        purpose: OID of the extended key usage that is wanted of the leaf, if any.

    Returns:
        Whether it is trusted, and what GnuTLS says of it.
    """
    gnutls = library()
    assert gnutls is not None, "callers skip where there is no GnuTLS"
    anchors, sent, status = ctypes.c_void_p(), _imported(gnutls, chain), ctypes.c_uint()
    wanted = (_Wanted * 1)(_Wanted(_PURPOSE, purpose.encode(), 0))
    _done(gnutls.gnutls_x509_trust_list_init(ctypes.byref(anchors), 0))
    try:
        assert gnutls.gnutls_x509_trust_list_add_cas(anchors, _imported(gnutls, [root]), 1, 0) == 1
        flags = ctypes.c_uint(profile << _PROFILE_SHIFT)
        asked = (wanted, 1) if purpose else (None, 0)
        _done(
            gnutls.gnutls_x509_trust_list_verify_crt2(
                anchors, sent, len(chain), *asked, flags, ctypes.byref(status), None
            )
        )
    finally:
        gnutls.gnutls_x509_trust_list_deinit(anchors, 1)  # 1: and the CAs in it
        for certificate in sent:
            gnutls.gnutls_x509_crt_deinit(ctypes.c_void_p(certificate))
    return status.value == 0, _in_words(gnutls, status)


def _imported(gnutls: ctypes.CDLL, certificates: Sequence[x509.Certificate]) -> ctypes.Array[ctypes.c_void_p]:
    imported = (ctypes.c_void_p * len(certificates))()
    for position, certificate in enumerate(certificates):
        pem = names.pem(certificate).encode()
        made = ctypes.c_void_p()
        _done(gnutls.gnutls_x509_crt_init(ctypes.byref(made)))
        _done(gnutls.gnutls_x509_crt_import(made, ctypes.byref(_Datum(pem, len(pem))), _PEM))
        imported[position] = made.value
    return imported


def _in_words(gnutls: ctypes.CDLL, status: ctypes.c_uint) -> str:
    said = _Datum()
    _done(gnutls.gnutls_certificate_verification_status_print(status, _X509, ctypes.byref(said), 0))
    return (said.data or b"").decode().strip()


def _done(code: int) -> None:
    assert code == 0, f"GnuTLS gave error {code}"
