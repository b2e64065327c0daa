package main

import (
	"bytes"
	"encoding/pem"
	"io"
	"os"
	"path/filepath"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"golang.org/x/crypto/x509roots/fallback/bundle"
)

// user is the account of the image, which has no name on most machines.
const user = 65532

// home is the volume of the image: the working directory, in which the servers keep their folders.
const home = "var/lib/teamtalk"

// makeImages writes one archive in the form of OCI with the images of all architectures, and one
// for docker load for each.
func (r *release) makeImages() error {
	var index v1.ImageIndex = mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	for _, arch := range r.architectures {
		image, err := r.image(arch)
		if err != nil {
			return err
		}
		platform := &v1.Platform{OS: "linux", Architecture: arch}
		if arch == "arm64" {
			platform.Variant = "v8"
		}
		index = mutate.AppendManifests(index, mutate.IndexAddendum{Add: image,
			Descriptor: v1.Descriptor{Platform: platform}})
		tag, err := name.NewTag("teamtalk:" + r.version)
		if err != nil {
			return err
		}
		file := filepath.Join(r.out, r.name(arch, ".docker.tar"))
		if err := tarball.WriteToFile(file, tag, image); err != nil {
			return err
		}
	}
	dir := filepath.Join(r.work, "layout")
	top := mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	p, err := layout.Write(dir, top)
	if err != nil {
		return err
	}
	if err := p.AppendIndex(index, layout.WithAnnotations(map[string]string{
		"org.opencontainers.image.ref.name": r.version})); err != nil {
		return err
	}
	return pack(dir, filepath.Join(r.out, "teamtalk-"+r.version+"-linux.oci.tar"), r.date)
}

// image returns the image for an architecture: the binary and the certificates of the usual CAs.
func (r *release) image(arch string) (v1.Image, error) {
	content, err := r.layer(arch)
	if err != nil {
		return nil, err
	}
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(content)), nil
	}, tarball.WithMediaType(types.OCILayer))
	if err != nil {
		return nil, err
	}
	base := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1),
		types.OCIConfigJSON)
	image, err := mutate.Append(base, mutate.Addendum{Layer: layer,
		History: v1.History{Created: v1.Time{Time: r.date}, CreatedBy: ".ci/release"}})
	if err != nil {
		return nil, err
	}
	config, err := image.ConfigFile()
	if err != nil {
		return nil, err
	}
	config = config.DeepCopy()
	config.OS, config.Architecture, config.Created = "linux", arch, v1.Time{Time: r.date}
	if arch == "arm64" {
		config.Variant = "v8"
	}
	ports := map[string]struct{}{}
	for _, port := range []string{"8000", "8008", "8080", "8400", "8600", "8700"} {
		ports[port+"/tcp"] = struct{}{}
	}
	config.Config = v1.Config{
		User: "65532:65532", WorkingDir: "/" + home, Entrypoint: []string{"/teamtalk"},
		Cmd: []string{"serve"}, Volumes: map[string]struct{}{"/" + home: {}},
		ExposedPorts: ports, StopSignal: "SIGTERM",
		Labels: map[string]string{"org.opencontainers.image.title": "TeamTalk",
			"org.opencontainers.image.version":  r.version,
			"org.opencontainers.image.revision": r.commit},
	}
	return mutate.ConfigFile(image, config)
}

// layer returns the files of the image as a tar file.
func (r *release) layer(arch string) ([]byte, error) {
	var b bytes.Buffer
	t := newTree(&b, r.date)
	binary, err := os.ReadFile(r.binary(arch))
	if err != nil {
		return nil, err
	}
	for _, f := range []struct {
		name    string
		mode    int64
		content []byte
	}{
		{"teamtalk", 0o755, binary},
		{"etc/passwd", 0o644, []byte("root:x:0:0:root:/:/nologin\n" +
			"teamtalk:x:65532:65532:teamtalk:/" + home + ":/nologin\n")},
		{"etc/group", 0o644, []byte("root:x:0:\nteamtalk:x:65532:\n")},
		{"etc/ssl/certs/ca-certificates.crt", 0o644, authorities()},
		{"LICENSES-OF-LIBRARIES", 0o644, r.licences},
	} {
		if err := t.file(f.name, f.mode, f.content); err != nil {
			return nil, err
		}
	}
	if err := t.folder(home, 0o750, user); err != nil {
		return nil, err
	}
	if err := t.folder("tmp", 0o1777, 0); err != nil {
		return nil, err
	}
	return b.Bytes(), t.w.Close()
}

// authorities returns the CAs that browsers trust, as Mozilla lists them. A module holds the list,
// so it does not depend on the machine. CAs that are trusted within limits, which the form cannot
// say, are left out.
func authorities() []byte {
	var b bytes.Buffer
	for root := range bundle.Roots() {
		if root.Constraint == nil {
			_ = pem.Encode(&b, &pem.Block{Type: "CERTIFICATE", Bytes: root.Certificate})
		}
	}
	return b.Bytes()
}
