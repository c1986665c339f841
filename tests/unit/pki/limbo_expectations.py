"""What C2SP/x509-limbo expects of each of its test cases: their names and results, and nothing else of theirs.

Source: https://github.com/C2SP/x509-limbo at commit 8a2e6f41023b1716dc16fe63335e4bb972e4c3f6 of 2026-06-29, its test
cases as its own ``limbo.testcases`` registers them, but for two families that it takes from elsewhere:
- ``bettertls`` (Netflix's): choosing a path among several certificates, and names of servers;
- ``online``: what fourteen servers on the internet sent once.

A device sends one path, and has no server's name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

_SUCCESS = """
crl::certificate-not-on-crl
crl::certificate-serial-on-crl-different-issuer
crl::issuer-no-keyusage-extension
crl::issuer-valid-crlsign-and-keycertsign
cve::cve-2024-0567
pathlen::ee-with-intermediate-pathlen-0
pathlen::ee-with-intermediate-pathlen-1
pathlen::ee-with-intermediate-pathlen-2
pathlen::intermediate-pathlen-may-increase
pathlen::max-chain-depth-0
pathlen::max-chain-depth-1
pathlen::max-chain-depth-1-self-issued
pathlen::self-issued-certs-pathlen
pathlen::validation-ignores-pathlen-in-leaf
pathological::multiple-chains-expired-intermediate
rfc5280::aki::self-signed-root-missing-aki
rfc5280::ca-as-leaf
rfc5280::ee-aia
rfc5280::eku::ee-without-eku
rfc5280::nc::excluded-different-constraint-type
rfc5280::nc::nc-forbids-alternate-chain-ica
rfc5280::nc::nc-forbids-othername-noop
rfc5280::nc::nc-forbids-same-chain-ica
rfc5280::nc::nc-permits-email-domain
rfc5280::nc::nc-permits-email-exact
rfc5280::nc::nc-permits-email-literal-asterisk-exact-match
rfc5280::nc::nc-permits-email-literal-double-asterisk
rfc5280::nc::nc-permits-email-literal-mid-asterisk
rfc5280::nc::permitted-different-constraint-type
rfc5280::nc::permitted-dn-match
rfc5280::nc::permitted-dns-match
rfc5280::nc::permitted-dns-match-more
rfc5280::nc::permitted-ipv4-match
rfc5280::nc::permitted-ipv6-match
rfc5280::nc::permitted-self-issued
rfc5280::no-basicconstraints
rfc5280::no-keyusage
rfc5280::root-and-intermediate-swapped
rfc5280::unknown-critical-extension-unrelated-intermediate
rfc5280::unknown-critical-extension-unrelated-root
rfc5280::validity::notafter-exact
rfc5280::validity::notafter-fractional
rfc5280::validity::notbefore-exact
webpki::cryptographydotio-chain
webpki::nc::nc-permits-dns-san-pattern
webpki::nc::permitted-dns-match-noncritical
webpki::san::exact-dns-san
webpki::san::exact-localhost-ip-san
webpki::san::leftmost-wildcard-san
"""

_FAILURE = """
crl::crlnumber-critical
crl::crlnumber-missing
crl::issuer-missing-crlsign
crl::revoked-certificate-with-crl
cve::cve-2025-61727
cve::cve-2025-61727-nc-permits-variant
invalid::invalid-issuer-key
pathlen::intermediate-pathlen-too-long
pathlen::intermediate-violates-pathlen-0
pathlen::max-chain-depth-0-exhausted
pathlen::max-chain-depth-1-exhausted
pathological::intermediate-cycle-distinct-cas
pathological::intermediate-cycle-distinct-cas-max-depth
pathological::intermediate-cycle-same-logical-ca
pathological::nc-dos-1
pathological::nc-dos-2
pathological::nc-dos-3
pathological::pathological-chain-distinct-subject-distinct-key
pathological::pathological-chain-distinct-subject-same-key
pathological::pathological-chain-same-subject-distinct-key
pathological::pathological-chain-same-subject-same-key
rfc5280::aki::critical-aki
rfc5280::aki::cross-signed-root-missing-aki
rfc5280::aki::intermediate-missing-aki
rfc5280::aki::leaf-missing-aki
rfc5280::ca-as-leaf-wrong-san
rfc5280::ca-empty-subject
rfc5280::chain-untrusted-root
rfc5280::duplicate-extensions
rfc5280::ee-critical-aia-invalid
rfc5280::ee-empty-issuer
rfc5280::eku::ee-eku-empty
rfc5280::eku::ee-wrong-eku
rfc5280::ica-ku-keycertsign
rfc5280::intermediate-ca-missing-basic-constraints
rfc5280::intermediate-ca-without-ca-bit
rfc5280::leaf-ku-keycertsign
rfc5280::mismatching-signature-algorithm
rfc5280::nc::excluded-dn-match
rfc5280::nc::excluded-dn-match-sub-mismatch
rfc5280::nc::excluded-dns-match
rfc5280::nc::excluded-dns-match-second
rfc5280::nc::excluded-ipv4-match
rfc5280::nc::excluded-ipv6-match
rfc5280::nc::excluded-match-permitted-and-excluded
rfc5280::nc::excluded-self-issued-leaf
rfc5280::nc::intermediate-with-san-rejected-by-intermediate-nc
rfc5280::nc::intermediate-with-san-rejected-by-root-nc
rfc5280::nc::invalid-dnsname-leading-period
rfc5280::nc::invalid-dnsname-wildcard
rfc5280::nc::invalid-email-address
rfc5280::nc::invalid-ipv4-address
rfc5280::nc::invalid-ipv6-address
rfc5280::nc::nc-forbids-dnsname-wildcard-san
rfc5280::nc::nc-forbids-othername
rfc5280::nc::nc-permits-email-literal-asterisk-rejects-subdomain
rfc5280::nc::nc-permits-email-literal-asterisk-rejects-user
rfc5280::nc::nc-permits-email-literal-double-asterisk-rejects-single
rfc5280::nc::nc-permits-invalid-dns-san
rfc5280::nc::nc-permits-invalid-email-san
rfc5280::nc::nc-permits-invalid-ip-san
rfc5280::nc::not-allowed-in-ee-critical
rfc5280::nc::not-allowed-in-ee-noncritical
rfc5280::nc::permitted-dn-match-subject-san-mismatch
rfc5280::nc::permitted-dn-mismatch
rfc5280::nc::permitted-dns-match-noncritical
rfc5280::nc::permitted-dns-mismatch
rfc5280::nc::permitted-ip-mismatch
rfc5280::nc::restrictive-permits-in-intermediates-narrows
rfc5280::nc::restrictive-permits-in-intermediates-widens
rfc5280::pc::ica-noncritical-pc
rfc5280::root-inconsistent-ca-extensions
rfc5280::root-missing-basic-constraints
rfc5280::root-non-critical-basic-constraints
rfc5280::san::ip-in-dns
rfc5280::san::malformed
rfc5280::san::noncritical-with-empty-subject
rfc5280::san::underscore-dns
rfc5280::serial::negative
rfc5280::serial::too-long
rfc5280::serial::zero
rfc5280::ski::critical-ski
rfc5280::ski::intermediate-missing-ski
rfc5280::ski::root-missing-ski
rfc5280::unknown-critical-extension-ee
rfc5280::unknown-critical-extension-intermediate
rfc5280::unknown-critical-extension-root
rfc5280::validity::expired-1-second
rfc5280::validity::expired-5-seconds
rfc5280::validity::expired-intermediate
rfc5280::validity::expired-leaf
rfc5280::validity::expired-root
rfc5280::validity::not-yet-valid-1-second
rfc5280::validity::not-yet-valid-5-seconds
rfc5280::validity::notbefore-fractional
webpki::aki::root-with-aki-all-fields
webpki::aki::root-with-aki-authoritycertissuer
webpki::aki::root-with-aki-authoritycertserialnumber
webpki::aki::root-with-aki-missing-keyidentifier
webpki::aki::root-with-aki-ski-mismatch
webpki::ca-as-leaf
webpki::cn::case-mismatch
webpki::cn::ipv4-hex-mismatch
webpki::cn::ipv4-leading-zeros-mismatch
webpki::cn::ipv6-non-rfc5952-mismatch
webpki::cn::ipv6-uncompressed-mismatch
webpki::cn::ipv6-uppercase-mismatch
webpki::cn::not-in-san
webpki::cn::punycode-not-in-san
webpki::cn::utf8-vs-punycode-mismatch
webpki::cryptographydotio-chain-missing-intermediate
webpki::ee-basicconstraints-ca
webpki::eku::ee-anyeku
webpki::eku::ee-critical-eku
webpki::eku::ee-without-eku
webpki::eku::root-has-eku
webpki::explicit-curve
webpki::forbidden-dsa-leaf
webpki::forbidden-dsa-root
webpki::forbidden-p192-leaf
webpki::forbidden-p192-root
webpki::forbidden-rsa-key-not-divisible-by-8-in-leaf
webpki::forbidden-rsa-not-divisible-by-8-in-root
webpki::forbidden-weak-rsa-in-leaf
webpki::forbidden-weak-rsa-key-in-root
webpki::malformed-aia
webpki::nc::intermediate-permitted-excluded-subtrees-both-empty-sequences
webpki::nc::intermediate-permitted-excluded-subtrees-both-null
webpki::san::mismatch-apex-subdomain-san
webpki::san::mismatch-domain-san
webpki::san::mismatch-subdomain-apex-san
webpki::san::mismatch-subdomain-san
webpki::san::no-san
webpki::san::public-suffix-multi-label-wildcard-san
webpki::san::public-suffix-private-namespace-wildcard-san
webpki::san::public-suffix-wildcard-san
webpki::san::san-critical-with-nonempty-subject
webpki::san::san-wildcard-only
webpki::san::san-wildcard-only-tld
webpki::san::unicode-emoji-san
webpki::san::wildcard-embedded-leftmost-san
webpki::san::wildcard-embedded-ulabel-san
webpki::san::wildcard-match-across-labels-san
webpki::san::wildcard-not-in-leftmost-san
webpki::v1-cert
"""

EXPECTED: Mapping[str, bool] = {
    **dict.fromkeys(_SUCCESS.split(), True),
    **dict.fromkeys(_FAILURE.split(), False),
}
"""Whether limbo wants a case accepted, by its name."""
