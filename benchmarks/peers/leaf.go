// Device certificates with Go's crypto/x509: a fresh P-256 key, and a certificate of the same content.
// Reads the CA from ca.pem and ca-key.pem (PKCS#8); for each number on a line of standard input issues so many, and
// writes the seconds that one took.
package main

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha1"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"runtime"
	"strconv"
	"time"
)

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func block(name string) []byte {
	content, err := os.ReadFile(name)
	check(err)
	found, _ := pem.Decode(content)
	return found.Bytes
}

func issue(ca *x509.Certificate, caKey interface{}) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(err)
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 158))
	check(err)
	identifier := sha1.Sum(elliptic.Marshal(elliptic.P256(), key.X, key.Y))
	now := time.Now()
	template := x509.Certificate{
		SerialNumber:          serial,
		Subject:               pkix.Name{CommonName: "press-000001"},
		NotBefore:             now.Add(-10 * time.Minute),
		NotAfter:              now.AddDate(1, 0, 0),
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		PolicyIdentifiers:     []asn1.ObjectIdentifier{{2, 5, 29, 32, 0}},
		SubjectKeyId:          identifier[:],
		CRLDistributionPoints: []string{"http://pki.example.com/line-1.crl"},
		IssuingCertificateURL: []string{"http://pki.example.com/line-1.cer"},
	}
	_, err = x509.CreateCertificate(rand.Reader, &template, ca, &key.PublicKey, caKey)
	check(err)
}

func main() {
	runtime.GOMAXPROCS(1)
	ca, err := x509.ParseCertificate(block("ca.pem"))
	check(err)
	key, err := x509.ParsePKCS8PrivateKey(block("ca-key.pem"))
	check(err)
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		times, err := strconv.Atoi(lines.Text())
		check(err)
		began := time.Now()
		for i := 0; i < times; i++ {
			issue(ca, key)
		}
		fmt.Println(time.Since(began).Seconds() / float64(times))
	}
}
