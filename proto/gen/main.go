// Command gen generates Go code from the .proto files of this project.
//
//	go generate ./proto/...
//
// It needs only Go. It parses the .proto files itself. The protoc-gen-go that go.mod
// pins, of the same version as the runtime, writes the Go code. commands.gen.go joins
// each message to its command id, which the comment above the message states as "cmd:
// 0x0103".
//
// With -check it writes nothing, and fails when the generated files differ from those in
// the folder.
package main

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"go/format"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
	"strconv"
	"strings"

	"github.com/bufbuild/protocompile"
	"github.com/bufbuild/protocompile/linker"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/pluginpb"
)

func main() {
	in := flag.String("in", ".", "folder of the .proto files")
	out := flag.String("out", "pb", "folder of the generated Go")
	api := flag.String("api", "API_OPAQUE",
		"generated API: API_OPAQUE or API_OPEN (to compare their cost)")
	check := flag.Bool("check", false,
		"write nothing, and fail when a file in -out differs from the generated one")
	flag.Parse()
	if err := run(*in, *out, *api, *check); err != nil {
		fmt.Fprintln(os.Stderr, "gen:", err)
		os.Exit(1)
	}
}

func run(in, out, api string, check bool) error {
	files, err := generate(in, api)
	if err != nil {
		return err
	}
	if check {
		return compare(out, files)
	}
	if err := os.MkdirAll(out, 0o755); err != nil {
		return err
	}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(out, name), content, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// compare returns an error that names the files in out that differ from the generated
// ones, and those that nothing generates any more.
func compare(out string, files map[string][]byte) error {
	var stale []string
	for name, content := range files {
		have, err := os.ReadFile(filepath.Join(out, name))
		if err != nil || !bytes.Equal(have, content) {
			stale = append(stale, name)
		}
	}
	for _, pattern := range []string{"*.pb.go", "*.gen.go"} {
		there, err := filepath.Glob(filepath.Join(out, pattern))
		if err != nil {
			return err
		}
		for _, path := range there {
			if files[filepath.Base(path)] == nil {
				stale = append(stale, filepath.Base(path))
			}
		}
	}
	if len(stale) > 0 {
		sort.Strings(stale)
		return fmt.Errorf("stale: %s (run make generate)",
			strings.Join(stale, ", "))
	}
	return nil
}

// generate returns the generated files by name.
func generate(in, api string) (map[string][]byte, error) {
	paths, err := filepath.Glob(filepath.Join(in, "*.proto"))
	if err != nil {
		return nil, err
	}
	if len(paths) == 0 {
		return nil, fmt.Errorf("the folder %s has no .proto files", in)
	}
	names := make([]string, len(paths))
	for i, p := range paths {
		names[i] = filepath.Base(p)
	}
	sort.Strings(names)
	compiler := protocompile.Compiler{
		Resolver:       &protocompile.SourceResolver{ImportPaths: []string{in}},
		SourceInfoMode: protocompile.SourceInfoStandard,
	}
	compiled, err := compiler.Compile(context.Background(), names...)
	if err != nil {
		return nil, err
	}
	files, err := messages(compiled, names, api)
	if err != nil {
		return nil, err
	}
	table, err := commands(compiled)
	if table != nil {
		files["commands.gen.go"] = table
	}
	return files, err
}

// messages runs protoc-gen-go the way protoc does.
func messages(compiled linker.Files, names []string, api string) (map[string][]byte, error) {
	req := &pluginpb.CodeGeneratorRequest{
		FileToGenerate: names,
		Parameter:      proto.String("paths=source_relative,default_api_level=" + api),
	}
	// A plugin expects every file after the files that it imports, so base.proto is
	// first.
	for _, f := range compiled {
		if f.Imports().Len() == 0 {
			req.ProtoFile = append(req.ProtoFile, protodesc.ToFileDescriptorProto(f))
		}
	}
	for _, f := range compiled {
		if f.Imports().Len() > 0 {
			req.ProtoFile = append(req.ProtoFile, protodesc.ToFileDescriptorProto(f))
		}
	}
	for _, d := range req.ProtoFile {
		addSource(d, compiled)
	}
	stdin, err := proto.Marshal(req)
	if err != nil {
		return nil, err
	}
	cmd := exec.Command("go", "tool", "protoc-gen-go")
	cmd.Stdin, cmd.Stderr = bytes.NewReader(stdin), os.Stderr
	stdout, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("protoc-gen-go: %w", err)
	}
	var rsp pluginpb.CodeGeneratorResponse
	if err := proto.Unmarshal(stdout, &rsp); err != nil {
		return nil, err
	}
	if rsp.Error != nil {
		return nil, fmt.Errorf("protoc-gen-go: %s", rsp.GetError())
	}
	files := map[string][]byte{}
	for _, f := range rsp.File {
		files[f.GetName()] = []byte(f.GetContent())
	}
	return files, nil
}

// addSource adds to d the comments that protodesc leaves out.
func addSource(d *descriptorpb.FileDescriptorProto, compiled linker.Files) {
	f := compiled.FindFileByPath(d.GetName())
	info := &descriptorpb.SourceCodeInfo{}
	locs := f.SourceLocations()
	for i := range locs.Len() {
		l := locs.Get(i)
		span := []int32{int32(l.StartLine), int32(l.StartColumn), int32(l.EndLine),
			int32(l.EndColumn)}
		if l.StartLine == l.EndLine {
			span = []int32{int32(l.StartLine), int32(l.StartColumn), int32(l.EndColumn)}
		}
		info.Location = append(info.Location, &descriptorpb.SourceCodeInfo_Location{
			Path: l.Path, Span: span, LeadingDetachedComments: l.LeadingDetachedComments,
			LeadingComments:  optional(l.LeadingComments),
			TrailingComments: optional(l.TrailingComments),
		})
	}
	d.SourceCodeInfo = info
}

func optional(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

type command struct {
	id      uint16
	message string
}

// commands generates the table of command ids and the methods that make each message a
// pb.Message. It returns nil when no message has an id.
func commands(compiled linker.Files) ([]byte, error) {
	var cmds []command
	seen := map[uint16]string{}
	for _, f := range compiled {
		for i := range f.Messages().Len() {
			m := f.Messages().Get(i)
			id, err := commandID(f, m)
			if err != nil {
				return nil, err
			}
			if id == 0 {
				continue // a part of other messages
			}
			if other := seen[id]; other != "" {
				return nil, fmt.Errorf("command 0x%04x: both %s and %s", id, other, m.Name())
			}
			seen[id] = string(m.Name())
			cmds = append(cmds, command{id: id, message: string(m.Name())})
		}
	}
	if len(cmds) == 0 {
		return nil, nil
	}
	sort.Slice(cmds, func(i, j int) bool { return cmds[i].id < cmds[j].id })

	var b bytes.Buffer
	p := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	p("// Code generated by proto/gen. DO NOT EDIT.\n\npackage pb\n")
	p("// Command ids, named after their messages. The high byte is the service id.\nconst (")
	for _, c := range cmds {
		p("\tCmd%s Command = 0x%04x", strings.TrimPrefix(c.message, "IM"), c.id)
	}
	p(
		")\n\n// commands lists the messages of frames, in the order of their ids.\n" +
			"var commands = []commandInfo{")
	for _, c := range cmds {
		p("\t{0x%04x, %q, func() Message { return new(%s) }},", c.id, c.message, c.goType())
	}
	p("}\n")
	for _, c := range cmds {
		p("// Command returns 0x%04x.\nfunc (*%s) Command() Command { return 0x%04x }\n", c.id,
			c.goType(), c.id)
		if c.message == "IMMsgData" || c.message == "IMMsgDataAck" {
			continue // AppendBody and ParseBody are written by hand, in msgdata.go and msgack.go
		}
		p(
			"// AppendBody appends the encoded message to b.\nfunc (m *%s) AppendBody(b []byte) "+
				"([]byte, error) { return appendBody(b, m) }\n", c.message)
		p(
			"// ParseBody decodes b, and does not retain it.\n"+
				"func (m *%s) ParseBody(b []byte) error { return parseBody(b, m) }\n", c.message)
	}
	return format.Source(b.Bytes())
}

// goType returns the Go type of the command's message: MsgData, which is written by hand,
// for IMMsgData.
func (c command) goType() string {
	if c.message == "IMMsgData" {
		return "MsgData"
	}
	return c.message
}

// commandID returns the id in the comment "cmd: 0x0103" above m; 0 when there is none.
func commandID(f linker.File, m protoreflect.MessageDescriptor) (uint16, error) {
	comment := f.SourceLocations().ByDescriptor(m).LeadingComments
	for line := range strings.Lines(comment) {
		if hex, ok := strings.CutPrefix(strings.TrimSpace(line), "cmd: "); ok {
			id, err := strconv.ParseUint(hex, 0, 16)
			if err != nil {
				return 0, fmt.Errorf("%s: %w", m.FullName(), err)
			}
			return uint16(id), nil
		}
	}
	return 0, nil
}
