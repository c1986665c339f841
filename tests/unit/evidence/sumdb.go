// Another implementation of logs: that of Go's checksum database, golang.org/x/mod/sumdb (Debian: golang-golang-x-mod-dev).
//
//	GO111MODULE=off GOPATH=/usr/share/gocode go run sumdb.go vectors > sumdb.json
//	GO111MODULE=off GOPATH=/usr/share/gocode go run sumdb.go verify < questions
//
// "vectors" writes what that implementation makes of a log with the entries "entry 0", "entry 1" and so on. "verify" reads
// questions, a line of JSON each, and answers each with a line: "ok", or what is wrong.
package main

import (
	"bufio"
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

type log struct{ hashes []tlog.Hash }

func (l *log) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	found := make([]tlog.Hash, len(indexes))
	for i, index := range indexes {
		found[i] = l.hashes[index]
	}
	return found, nil
}

func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}

func grown(size int64) *log {
	made := &log{}
	for n := int64(0); n < size; n++ {
		made.hashes = append(made.hashes, must(tlog.StoredHashes(n, []byte(fmt.Sprintf("entry %d", n)), made))...)
	}
	return made
}

type vector struct {
	Size        int64
	Root        tlog.Hash
	Inclusion   map[int64]tlog.RecordProof
	Consistency map[int64]tlog.TreeProof
}

type vectors struct {
	Trees []vector
	Tiles map[string]string // path of C2SP tlog-tiles, to SHA-256 of the tile's bytes
	Key   string
	Notes []string
}

func writeVectors() {
	const largest = 70000
	made := grown(largest)
	all := vectors{Tiles: map[string]string{}}
	for _, size := range []int64{1, 2, 3, 4, 5, 6, 7, 8, 9, 16, 17, 255, 256, 257, 1000, 65536, 65537, largest} {
		tree := vector{size, must(tlog.TreeHash(size, made)), map[int64]tlog.RecordProof{}, map[int64]tlog.TreeProof{}}
		for _, index := range []int64{0, 1, 2, 5, 6, 7, 254, 255, 256, 700, 65535, 65536, size - 1} {
			if index >= 0 && index < size {
				tree.Inclusion[index] = must(tlog.ProveRecord(size, index, made))
			}
		}
		for _, first := range []int64{1, 2, 3, 4, 6, 7, 8, 255, 256, 257, 999, 65536, size - 1} {
			if first > 0 && first < size {
				tree.Consistency[first] = must(tlog.ProveTree(size, first, made))
			}
		}
		all.Trees = append(all.Trees, tree)
	}
	for _, tile := range tlog.NewTiles(8, 0, largest) {
		if tile.W != 256 && (tile.N+1)<<8 <= int64(largest)>>(8*tile.L) {
			continue // the beginning of one that is full
		}
		if tile.W != 256 && int64(tile.W) != int64(largest)>>(8*tile.L)&255 {
			continue // the beginning of one that is longer
		}
		data := must(tlog.ReadTileData(tile, made))
		// "tile/8/L/N" there, "tile/L/N" in C2SP tlog-tiles.
		path := "tile/" + strings.TrimPrefix(tile.Path(), "tile/8/")
		all.Tiles[path] = fmt.Sprintf("%x", sha256.Sum256(data))
	}
	secret, public, err := note.GenerateKey(bytes.NewReader(make([]byte, 64)), "example.com/log")
	if err != nil {
		panic(err)
	}
	all.Key = public
	signer := must(note.NewSigner(secret))
	for _, text := range []string{"one line\n", "two\n\nparts\n", checkpoint("example.com/log", all.Trees[4])} {
		all.Notes = append(all.Notes, string(must(note.Sign(&note.Note{Text: text}, signer))))
	}
	must(0, json.NewEncoder(os.Stdout).Encode(all))
}

func checkpoint(origin string, tree vector) string {
	return fmt.Sprintf("%s\n%d\n%s\n", origin, tree.Size, tree.Root)
}

// ecdsaVerifier verifies signatures of type 0x02, which sumdb does not know (C2SP signed-note, "Signature types").
type ecdsaVerifier struct {
	name string
	der  []byte
}

func (v ecdsaVerifier) Name() string { return v.name }

func (v ecdsaVerifier) KeyHash() uint32 {
	sum := sha256.Sum256(v.der)
	return binary.BigEndian.Uint32(sum[:])
}

func (v ecdsaVerifier) Verify(text, signature []byte) bool {
	key, err := x509.ParsePKIXPublicKey(v.der)
	if err != nil {
		return false
	}
	digest := sha256.Sum256(text)
	return ecdsa.VerifyASN1(key.(*ecdsa.PublicKey), digest[:], signature)
}

// cosigner verifies signatures of type 0x04 (C2SP tlog-cosignature).
type cosigner struct {
	name string
	key  []byte
}

func (v cosigner) Name() string { return v.name }

func (v cosigner) KeyHash() uint32 {
	sum := sha256.Sum256(append([]byte(v.name+"\n\x04"), v.key...))
	return binary.BigEndian.Uint32(sum[:])
}

func (v cosigner) Verify(text, signature []byte) bool {
	if len(signature) != 72 {
		return false
	}
	message := fmt.Sprintf("cosignature/v1\ntime %d\n%s", binary.BigEndian.Uint64(signature[:8]), text)
	return ed25519.Verify(v.key, []byte(message), signature[8:])
}

func verifier(text string) (note.Verifier, error) {
	parts := strings.SplitN(text, "+", 3)
	if len(parts) != 3 {
		return nil, errors.New("not a key")
	}
	content, err := base64.StdEncoding.DecodeString(parts[2])
	if err != nil || len(content) < 2 {
		return nil, errors.New("not a key")
	}
	switch content[0] {
	case 2:
		return ecdsaVerifier{parts[0], content[1:]}, nil
	case 4:
		return cosigner{parts[0], content[1:]}, nil
	default:
		return note.NewVerifier(text)
	}
}

type question struct {
	Note  string
	Keys  []string // all of which must have signed
	Entry []byte
	Index int64
	Path  []tlog.Hash
	Older string // a note, which the note's tree is to begin with
}

func answer(asked question) error {
	tree, err := opened(asked.Note, asked.Keys)
	if err != nil {
		return err
	}
	if asked.Older == "" {
		return tlog.CheckRecord(asked.Path, tree.N, tree.Hash, asked.Index, tlog.RecordHash(asked.Entry))
	}
	older, err := opened(asked.Older, asked.Keys)
	if err != nil {
		return err
	}
	return tlog.CheckTree(asked.Path, tree.N, tree.Hash, older.N, older.Hash)
}

func opened(text string, keys []string) (tlog.Tree, error) {
	verifiers := []note.Verifier{}
	for _, key := range keys {
		known, err := verifier(key)
		if err != nil {
			return tlog.Tree{}, err
		}
		verifiers = append(verifiers, known)
	}
	read, err := note.Open([]byte(text), note.VerifierList(verifiers...))
	if err != nil {
		return tlog.Tree{}, err
	}
	if len(read.Sigs) != len(keys) {
		return tlog.Tree{}, errors.New("somebody has not signed")
	}
	var origin, root string
	var tree tlog.Tree
	if _, err := fmt.Sscanf(read.Text, "%s\n%d\n%s\n", &origin, &tree.N, &root); err != nil {
		return tlog.Tree{}, err
	}
	if origin != verifiers[0].Name() {
		return tlog.Tree{}, errors.New("another log")
	}
	tree.Hash, err = tlog.ParseHash(root)
	return tree, err
}

func main() {
	if len(os.Args) == 2 && os.Args[1] == "vectors" {
		writeVectors()
		return
	}
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var asked question
		err := json.Unmarshal(lines.Bytes(), &asked)
		if err == nil {
			err = answer(asked)
		}
		if err != nil {
			fmt.Println(strings.ReplaceAll(err.Error(), "\n", " "))
		} else {
			fmt.Println("ok")
		}
	}
}
