// Reads archives as Go's standard library does, which is what PocketBase restores with.
//
// `trees list ZIP...` prints each archive's files: name in hexadecimal, size, SHA-256.
// `trees extract FOLDER ZIP...` writes the files of each into FOLDER/<name of the archive>.
package main

import (
	"archive/zip"
	"crypto/sha256"
	"fmt"
	"io"
	"log"
	"os"
	"path/filepath"
	"strings"
)

func main() {
	if os.Args[1] == "list" {
		for _, path := range os.Args[2:] {
			fmt.Println("==")
			each(path, func(file *zip.File, content io.Reader) error {
				hash := sha256.New()
				size, err := io.Copy(hash, content)
				fmt.Printf("%x %d %x\n", file.Name, size, hash.Sum(nil))
				return err
			})
		}
		return
	}
	for _, path := range os.Args[3:] {
		folder := filepath.Join(os.Args[2], strings.TrimSuffix(filepath.Base(path), ".zip"))
		check(os.MkdirAll(folder, 0o755))
		each(path, func(file *zip.File, content io.Reader) error {
			if !filepath.IsLocal(file.Name) {
				return fmt.Errorf("%q leads outside", file.Name)
			}
			target := filepath.Join(folder, file.Name)
			if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
				return err
			}
			out, err := os.OpenFile(target, os.O_WRONLY|os.O_CREATE|os.O_EXCL, file.Mode())
			if err != nil {
				return err
			}
			defer out.Close()
			_, err = io.Copy(out, content)
			return err
		})
	}
}

// each calls act for every file of an archive; the end of its content checks size and CRC.
func each(path string, act func(*zip.File, io.Reader) error) {
	archive, err := zip.OpenReader(path)
	check(err)
	defer archive.Close()
	for _, file := range archive.File {
		content, err := file.Open()
		check(err)
		if err := act(file, content); err != nil {
			log.Fatalf("%s: %q: %v", path, file.Name, err)
		}
		content.Close()
	}
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
